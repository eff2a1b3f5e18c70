"""The runs of a cross-validation: parts of the data as files, a run a fold, and what they say of the whole together."""

import json
import os

import numpy as np

from kexue_keras.backend import scratch_graph
from kexue_keras.data import read_scored_pairs
from kexue_keras.data._cells import join
from kexue_keras.data._folds import check_labels_in_folds, deal_folds, row_groups
from kexue_keras.errors import UserError
from kexue_keras.files import FolderLock, atomic, write_json
from kexue_keras.finetune._corpus import read_training
from kexue_keras.finetune._fingerprints import fingerprint
from kexue_keras.finetune._run_folder import as_absolute
from kexue_keras.finetune.folds._scores import out_of_fold_scores
from kexue_keras.schemas import read_json

FOLDS, METRICS, PREDICTIONS, PARTS = "folds.json", "metrics.json", "predictions.tsv", "parts"
MAIN = {"classification": ("accuracy", "macro_f1", "micro_f1"), "similarity": ("spearman", "pearson")}


_NOT_KEPT = ("resume", "overwrite", "config")


def finetune_folds(options, say, callbacks, finetune):
    """Train a run for each fold, and score what they predict for the texts that they have not seen.

    RUN/fold-K is an ordinary run. Its test part is fold K; the part for choosing the best epoch is split off the
    rest, so that the fold chooses nothing. RUN/predictions.tsv and RUN/metrics.json are those of all folds.

    Args:
        options: namespace.
        say: function that prints a line.
        callbacks: see `finetune`.
        finetune: the function of that name.

    Returns:
        dict, the contents of RUN/metrics.json.

    Raises:
        UserError: see `finetune`; another task, --test, or another folder than such runs make.
    """
    _check(options)
    examples, several = _read(options, say)
    groups = row_groups(examples.texts)
    strata = [""] * len(examples) if options.task == "similarity" else [join(label) for label in examples.labels]
    numbers = deal_folds(groups, strata, options.folds, options.seed)
    if options.task == "classification":
        check_labels_in_folds(examples.labels, numbers, examples.path)
    home = os.path.abspath(options.out)
    settings = {name: getattr(options, name) for name in ("task", "folds", "seed")}
    settings["data"] = fingerprint(options.data)
    _check_home(home, settings, options)
    os.makedirs(os.path.join(home, PARTS), exist_ok=True)
    with FolderLock(home):
        given = {name: value for name, value in vars(as_absolute(options)).items() if name not in _NOT_KEPT}
        write_json(os.path.join(home, FOLDS), dict(settings, options=given))
        if options.overwrite:
            for name in (METRICS, PREDICTIONS):
                if os.path.exists(os.path.join(home, name)):
                    os.remove(os.path.join(home, name))
        found = []
        for fold in range(options.folds):
            say("fold %d of %d: %d texts held out" % (fold + 1, options.folds, np.sum(numbers == fold)))
            found.append(_run(options, examples, numbers, fold, home, say, callbacks, finetune))
        return _together(options, examples, numbers, groups, several, home, found, say)


def _check(options):
    if options.task not in MAIN:
        raise UserError("--folds goes with --task %s, not %s" % (" and ".join(sorted(MAIN)), options.task))
    if options.valid:
        raise UserError("--folds: what chooses the best epoch is split off each run's part (--valid-share); no --valid")
    if options.test:
        raise UserError(
            "--folds: each run is tested on its fold; leave --test out, and score that file with one of them"
        )
    if options.resume and options.overwrite:
        raise UserError("--resume and --overwrite exclude each other")


def _read(options, say):
    """(`Examples`, whether a text has several labels)."""
    if options.task == "classification":
        examples = read_training(options, say)[1]
        return examples, examples.is_multilabel
    how = dict(format=options.format, header=options.header, max_line=options.max_line)
    columns = dict(text=options.text_column, text_b=options.text_b_column, score=options.label_column)
    return read_scored_pairs(options.data, score_range=options.score_range, **dict(how, **columns))[0], False


def _check_home(home, settings, options):
    if not os.path.isdir(home) or not os.listdir(home):
        return
    path = os.path.join(home, FOLDS)
    if not os.path.exists(path):
        raise UserError("the folder is not empty and holds no folds; choose another --out", path=home)
    if not (options.resume or options.overwrite):
        raise UserError("there are folds already; --resume continues them, --overwrite replaces them", path=home)
    known = read_json(path, error=UserError)
    names = sorted(settings) if options.resume else ["folds"]
    changed = [name for name in names if not isinstance(known, dict) or known.get(name) != settings[name]]
    if changed:
        raise UserError("the folds there were made with another --%s; choose another --out" % changed[0], path=home)


def _run(options, examples, numbers, fold, home, say, callbacks, finetune):
    """The metrics of the run of a fold."""
    files = {}
    for role, rows in (("data", np.flatnonzero(numbers != fold)), ("test", np.flatnonzero(numbers == fold))):
        files[role] = os.path.join(home, PARTS, "%s-%d.jsonl" % ({"data": "train"}.get(role, role), fold + 1))
        _write_part(files[role], examples, rows)
    given = dict(vars(options), folds=None, config=None, out=os.path.join(home, "fold-%d" % (fold + 1)), **files)
    given.update(text_column="text", label_column="label", format=None, header="auto", label_separator=None)
    # With its keys and quotes a line is longer than it was.
    given["max_line"] = 2 * options.max_line + 1000
    given["text_b_column"] = "text_b" if examples.is_pairs else None
    with scratch_graph():
        return finetune(say=say, callbacks=callbacks, **given)


def _write_part(path, examples, rows):
    """JSON lines; a file that is there and says the same stays, so that --resume finds what it knows."""
    lines = []
    for row in rows:
        text, label = examples.texts[row], examples.labels[row]
        cells = {"text": text} if not isinstance(text, tuple) else {"text": text[0], "text_b": text[1]}
        cells["label"] = list(label) if isinstance(label, tuple) else label
        lines.append(json.dumps(cells, ensure_ascii=False) + "\n")
    with atomic(path, "w") as handle:
        handle.writelines(lines)


def _together(options, examples, numbers, groups, several, home, found, say):
    """Write predictions.tsv and metrics.json of all folds."""
    rows = [None] * len(examples)
    for fold in range(options.folds):
        places = np.flatnonzero(numbers == fold)
        with open(os.path.join(home, "fold-%d" % (fold + 1), PREDICTIONS), encoding="utf-8") as handle:
            table = [line.rstrip("\n").split("\t") for line in handle]
        for cells in table[1:]:
            rows[places[int(cells[0]) - 1]] = [str(fold + 1)] + cells[1:]
    with atomic(os.path.join(home, PREDICTIONS), "w") as handle:
        handle.write("\t".join(["line", "fold"] + table[0][1:]) + "\n")
        handle.writelines("\t".join([str(line)] + row) + "\n" for line, row in zip(examples.lines, rows))
    true, predicted = ([row[i] for row in rows] for i in (1, 2))
    if options.task == "similarity":
        true = examples.labels
        predicted = [float(cosine) for cosine in predicted]
    whole = out_of_fold_scores(options.task, true, predicted, groups, several=several, seed=options.seed)
    metrics = {"task": options.task, "folds": options.folds, "main_metric": found[0]["main_metric"]}
    metrics["out_of_fold"] = whole
    metrics["each"] = [
        dict({name: one["test"][name] for name in MAIN[options.task]}, best_epoch=one["best_epoch"]) for one in found
    ]
    for name in MAIN[options.task]:
        values = [one[name] for one in metrics["each"]]
        metrics[name] = {"mean": round(float(np.mean(values)), 6), "std": round(float(np.std(values, ddof=1)), 6)}
    metrics["seconds"] = round(sum(one["seconds"] for one in found), 1)
    write_json(os.path.join(home, METRICS), metrics)
    for name in MAIN[options.task]:
        say(
            "out of fold: %s %.4f (95%% interval %.4f to %.4f) on %d texts; folds %.4f +- %.4f"
            % (
                (name.replace("_", " "), whole[name])
                + tuple(whole[name + "_interval"])
                + (whole["texts"], metrics[name]["mean"], metrics[name]["std"])
            )
        )
    say("results in %s" % home)
    return metrics
