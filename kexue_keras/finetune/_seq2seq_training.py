"""`finetune_seq2seq`: fine-tune a T5 or a UniLM on pairs of texts, score what it writes, save it.

那个屠榜的T5模型，现在可以在中文上玩玩了, kexue.fm/archives/7867: Adam with a rate of the order of 1e-4 for mT5, teacher forcing,
beam search, ROUGE and BLEU on the titles of CSL.
"""

import json
import os
import time
import types
import zlib
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from kexue_keras import losses, models
from kexue_keras.backend import preserved_random_state, set_seed
from kexue_keras.data import BucketedBatches, Columns, read_examples, read_table
from kexue_keras.data._batches import rows_by_step
from kexue_keras.data._columns import refuse_index, resolve
from kexue_keras.errors import UserError, shorten
from kexue_keras.files import atomic, write_json
from kexue_keras.files.paths import as_text
from kexue_keras.finetune._fingerprints import check_fingerprints, check_readable_again, fingerprint, fingerprints
from kexue_keras.finetune._run import metrics_of, report_divergence
from kexue_keras.finetune._run_folder import RunFolder, check_stack, surroundings
from kexue_keras.finetune._seq2seq import LEARNING_RATES, load_seq2seq
from kexue_keras.finetune._seq2seq_scores import generation_scores
from kexue_keras.optimizers import AdamW
from kexue_keras.schemas import METRICS, SEQ2SEQ_RUN, read_settings
from kexue_keras.schemas.messages import shown
from kexue_keras.trainer import Techniques, Trainer, accelerated, wrapped
from kexue_keras.trainer._techniques import NOT_FOR_TOKENS
from kexue_keras.training._randomness import repeatable_dropout
from kexue_keras.types import Column, Path, Say

SOURCE_NAMES = ("source", "content", "abst", "abstract", "text", "摘要", "正文")
TARGET_NAMES = ("target", "title", "summary", "标题")


def read_pairs(
    path: Path, *, source: Optional[Column] = None, target: Optional[Column] = None
) -> List[Tuple[str, str]]:
    """(source, target) texts of a TSV, CSV or JSON-lines file.

    Args:
        path: the file, also .gz.
        source, target: column names, or numbers from 1; None: by the usual names, or without a header the last two
            columns.

    Returns:
        list of (str, str).

    Raises:
        UserError: no such file or column, an empty text.
    """
    table = read_table(path, header="auto", known=SOURCE_NAMES + TARGET_NAMES + (source, target))
    if (source is None) != (target is None):
        raise UserError("source and target column are given both or not at all", path=path)
    given = () if source is None else (resolve(table, source), resolve(table, target))
    if source is None and table.names is None:
        width = len(table.rows[0])
        if width < 2:
            raise UserError("one column; a source and a target are needed", path=path, line=1)
        source, target = width - 1, width
    elif source is None:
        found = [[n for n in usual if n in table.names] for usual in (SOURCE_NAMES, TARGET_NAMES)]
        if not all(found):
            raise UserError(
                "which columns are source and target? Name them; there are: %s" % ", ".join(table.names),
                path=path,
                line=1,
            )
        source, target = found[0][0], found[1][0]
    columns = Columns(text=resolve(table, source), text_b=resolve(table, target))
    refuse_index(table, columns, given=given)
    return read_examples(table, columns).texts


@preserved_random_state()
def finetune_seq2seq(
    model: Path,
    train: Union[Path, Sequence[Tuple[str, str]]],
    out: Path,
    *,
    valid: Union[Path, Sequence[Tuple[str, str]]],
    test: Optional[Union[Path, Sequence[Tuple[str, str]]]] = None,
    source: Optional[Column] = None,
    target: Optional[Column] = None,
    epochs: int = 40,
    batch_size: int = 16,
    max_source_length: int = 256,
    max_target_length: int = 32,
    learning_rate: Optional[float] = None,
    beams: int = 1,
    dropout_rate: Optional[float] = None,
    techniques: Optional[Techniques] = None,
    seed: int = 1,
    resume: bool = False,
    overwrite: bool = False,
    save_every: Optional[int] = None,
    quiet: bool = False,
    say: Say = print,
    **build: Any,
) -> Dict[str, Any]:
    """Fine-tune a sequence-to-sequence model, keep the epoch with the best ROUGE-L on `valid`, save it.

    Args:
        model: see `load_seq2seq`: an mT5 or BERT folder, a bundled name, or 'small-t5'.
        train, valid, test: files as for `read_pairs`, or lists of (source, target).
        out: folder for the results: model/ (a folder that `load_seq2seq` reads), metrics.json, generated.tsv.
        source, target: columns, see `read_pairs`.
        epochs, batch_size, max_source_length, max_target_length: ints; the defaults are those of the article's
            companion script.
        learning_rate: float; None is 2e-4 for T5 and 2e-5 for a UniLM.
        beams: width of the beam search for the final scores; during training greedy decoding is used.
        dropout_rate: see `load_seq2seq`.
        techniques: `trainer.Techniques`.
        seed: int.
        resume: continue the run in `out` from its last checkpoint; overwrite: replace it.
        save_every: also save a checkpoint every so many steps.
        quiet: no progress bar.
        say: function that prints a line.
        **build: see `load_seq2seq`.

    Returns:
        dict, the contents of metrics.json: scores of the best epoch on valid (and test), history, seconds.

    Raises:
        UserError: something about the data, the model or the folder.

    Reference: kexue.fm/archives/7867 (那个屠榜的T5模型，现在可以在中文上玩玩了).
    """
    model, train, valid, test = as_text(model), as_text(train), as_text(valid), as_text(test)
    build = {name: as_text(value) for name, value in build.items()}
    techniques = techniques or Techniques()
    settings = {
        k: v for k, v in locals().items() if k not in ("say", "quiet", "resume", "overwrite", "save_every", "out")
    }
    settings["techniques"] = techniques.facts()
    techniques.refuse("seq2seq", **NOT_FOR_TOKENS)
    techniques.check_can_begin()
    parts = {"train": train, "valid": valid, "test": test}
    files = {name: part for name, part in parts.items() if isinstance(part, str)}
    check_readable_again(files)
    settings.update({name: _described(part) for name, part in parts.items()}, **settings.pop("build"))
    files["vocabulary"] = build.get("vocabulary")
    settings = json.loads(json.dumps(settings, default=repr))
    out = _Folder(out)

    def check_same(config):
        _check_same(config, settings, files, model, out.file("config.json"))

    inputs = [path for path in [model] + list(files.values()) if isinstance(path, str)]
    with out.claimed(resume=resume, overwrite=overwrite, inputs=inputs, check_same=check_same) as done:
        if done:
            metrics = read_settings(out.file("metrics.json"), METRICS, error=UserError)
            report_divergence(metrics, out)
            return metrics
        options = types.SimpleNamespace(epochs=epochs, batch_size=batch_size, seed=seed, beams=beams)
        options.quiet, options.save_every, options.learning_rate = quiet, save_every, learning_rate
        build.update(
            max_source_length=max_source_length,
            max_target_length=max_target_length,
            dropout_rate=dropout_rate,
            techniques=techniques,
        )
        parts = {k: read_pairs(v, source=source, target=target) if isinstance(v, str) else v for k, v in parts.items()}
        for name in ("train", "valid"):
            if not parts[name]:
                raise UserError("there are no %s pairs" % name)
        with accelerated(techniques, say):
            return _train(model, parts, out, lambda: _config_of(settings, files, model), build, options, say)


def _train(model, parts, out, config, build, options, say):
    """The run in its folder; returns the contents of metrics.json."""
    set_seed(options.seed)
    with repeatable_dropout(options.seed) as random_step:
        seq2seq = load_seq2seq(model, **build)
    rate = options.learning_rate or LEARNING_RATES[seq2seq.architecture]
    make_batch, epoch_steps = _batches(seq2seq, parts["train"], options, build["techniques"])
    length = {"steps": epoch_steps * options.epochs, "epoch_steps": epoch_steps}
    with wrapped(
        seq2seq.training_model,
        make_batch,
        loss=losses.MaskedCrossentropy(),
        optimizer=AdamW(rate),
        techniques=build["techniques"],
        random_step=random_step,
        say=say,
        **length,
    ) as ready:
        out.begin(config)
        trainer = Trainer(
            ready.model,
            ready.make_batch,
            random_step=ready.random_step,
            evaluate=lambda: _validate(seq2seq, parts["valid"], options.batch_size),
            folder=out.path,
            is_locked=True,
            save_every=options.save_every,
            remedy="a lower learning_rate (now %g) usually helps" % rate,
            quiet=options.quiet,
            say=say,
            **length,
        )
        trainer.run()
    metrics = metrics_of(trainer, learning_rate=rate, beams=options.beams)
    metrics.update(pairs={k: len(v) for k, v in parts.items() if v})
    for name in ("valid", "test"):
        if parts[name]:
            began = time.time()
            texts = seq2seq.generate([s for s, _ in parts[name]], beams=options.beams)
            metrics[name] = dict(generation_scores(texts, [t for _, t in parts[name]]), texts=len(texts))
            metrics[name]["seconds"] = round(time.time() - began, 1)
            say("%s: %s" % (name, ", ".join("%s %.2f" % (k, metrics[name][k]) for k in _SCORES)))
    _write_generated(out.file("generated.tsv"), parts["test"] or parts["valid"], texts)
    models.save(seq2seq.pretrained, out.cleared("model"))
    write_json(out.file("metrics.json"), metrics)
    trainer.forget()
    report_divergence(metrics, out)
    out.finish()
    return metrics


def _batches(seq2seq, pairs, options, techniques):
    """(make_batch for `Trainer`, batches per epoch) of pairs, sorted by the source, which is where the work is."""
    encoded = seq2seq.encode_pairs(pairs)
    batches = BucketedBatches(
        [(source, None) for source, _ in encoded],
        batch_size=options.batch_size,
        max_length=seq2seq.max_source_length,
        seed=options.seed,
    )
    rows_of, rounding = rows_by_step(batches), 1 if techniques.xla is None else techniques.rounding

    def make_batch(step):
        return seq2seq.training_batch([encoded[i] for i in rows_of(step)], rounding=rounding)

    return make_batch, len(batches)


_SCORES = ("rouge-l", "rouge-1", "rouge-2", "bleu")


def _validate(seq2seq, pairs, batch_size):
    """Scores of greedy decoding, and the loss a target token."""
    scores = generation_scores(seq2seq.generate([s for s, _ in pairs]), [t for _, t in pairs])
    return dict(scores, loss=seq2seq.token_loss(pairs, batch_size=batch_size), score=scores["rouge-l"])


def _write_generated(path, pairs, texts):
    with atomic(path, "w") as handle:
        handle.write("generated\ttarget\tsource\n")
        for (source, target), text in zip(pairs, texts):
            handle.write("\t".join(" ".join(part.split()) for part in (text, target, source)) + "\n")


def _described(part):
    """What config.json says of a file or of a list of pairs, so that a resumed run can be held to the same data."""
    if isinstance(part, str):
        return {"path": os.path.abspath(part), "fingerprint": fingerprint(part)}
    if part is not None:
        return {"pairs": len(part), "crc32": "%08x" % zlib.crc32(json.dumps(list(map(list, part))).encode())}


class _Folder(RunFolder):
    """The folder of a run; what is in it is replaced only on demand."""

    contents = "config.json metrics.json generated.tsv checkpoint.npz best.npz model README.md".split()
    keys = ("train", "valid", "max_source_length", "max_target_length")
    dashes = ""

    def settings_of_file(self):
        """What config.json has to hold."""
        return SEQ2SEQ_RUN


def _config_of(settings, files, model):
    """Contents of config.json."""
    return dict(settings, fingerprints=fingerprints({"vocabulary": files["vocabulary"]}, model), **surroundings())


def _check_same(config, settings, files, model, path):
    """Refuse to resume with settings, files or a stack other than those the run started with."""
    known = {name: value for name, value in config.items() if name not in ("fingerprints", "stack", "versions")}
    for name in sorted(set(known) | set(settings)):
        if known.get(name) != settings.get(name):
            raise UserError(
                "%s was %s and is %s now; a resumed run keeps its settings"
                % (shorten(name), shown(known.get(name)), shown(settings.get(name))),
                path=path,
            )
    check_stack(config.get("stack"))
    check_fingerprints(config.get("fingerprints", {}), files, model)
