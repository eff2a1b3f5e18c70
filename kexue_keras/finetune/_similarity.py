"""Fine-tuning sentence vectors on pairs of texts with scores: `finetune --task similarity`.

Reference: "CoSENT（一）：比Sentence-BERT更有效的句向量方案", kexue.fm/archives/8847.
"""

import collections
import os

import numpy as np

from kexue_keras.backend import set_seed
from kexue_keras.data import PairBatches, read_scored_pairs, split_pairs
from kexue_keras.data._batches import rows_by_step
from kexue_keras.errors import UserError
from kexue_keras.files import atomic, write_json
from kexue_keras.finetune import _report as report
from kexue_keras.finetune._corpus import warn_of_overlap
from kexue_keras.finetune._encoder import encode_texts, freeze, load_encoder
from kexue_keras.finetune._run import metrics_of, report_divergence
from kexue_keras.finetune._similarity_heads import HEADS, measure_similarity, one_class
from kexue_keras.options.choices import POOLINGS
from kexue_keras.similarity import SentenceEncoder
from kexue_keras.similarity._index import unit_rows
from kexue_keras.trainer import accelerated
from kexue_keras.training._randomness import repeatable_dropout


def checked_range(score_range):
    """[lowest, highest] as floats, or None.

    Raises:
        UserError: not two numbers, or the first is not the smaller one.

    >>> checked_range((0, 5))
    [0.0, 5.0]
    """
    if score_range is None:
        return None
    low, high = (float(x) for x in score_range)
    if not low < high:
        raise UserError("--score-range %g %g: the lowest score comes first, and lower than the highest" % (low, high))
    return [low, high]


def finetune_similarity(run):
    """The task 'similarity' of `finetune`.

    Args:
        run: `Run`, whose folder is free.

    Returns:
        dict, the contents of metrics.json.

    Raises:
        UserError: see `finetune`.
    """
    options, folder = run.options, run.folder
    parts, facts = _read_parts(options, run.say)
    head = HEADS[options.similarity_loss](options)
    targets = head.targets(parts["train"])
    measured_parts = {name: parts[name] for name in ("valid", "test") if parts[name] is not None}
    with accelerated(run.techniques, run.say):
        set_seed(options.seed)
        encoder, model, batches, random_step = _build(run, head, parts["train"])
        rows_of = rows_by_step(batches)

        def make_batch(step):
            rows = rows_of(step)
            return batches.inputs(rows), targets[rows], np.ones(len(rows), "float32")

        encoded = {
            name: encode_texts(encoder.pretrained, _rows(pairs), options, name, run.say)
            for name, pairs in measured_parts.items()
        }

        def cosines(name):
            vectors = unit_rows(encoder.encode_ids(encoded[name], batch_size=2 * options.batch_size))
            return np.sum(vectors[::2] * vectors[1::2], axis=1)

        def measured(name, values):
            return measure_similarity(values, measured_parts[name].labels, options.cosent_scale)

        def evaluate():
            scores = measured("valid", cosines("valid"))
            return dict({name: scores[name] for name in ("loss", "spearman", "pearson")}, score=scores["spearman"])

        trainer = run.train(
            model,
            make_batch,
            head=head,
            epoch_steps=len(batches),
            num_hidden_layers=encoder.pretrained.bert.num_hidden_layers,
            random_step=random_step,
            evaluate=evaluate,
            facts=dict(facts, head=head.name, labels=None),
        )
        metrics = metrics_of(trainer, main_metric=run.main_metric(head.main_metric))
        for name in measured_parts:
            values = cosines(name)
            metrics[name] = measured(name, values)
        _write_predictions(folder.file("predictions.tsv"), parts[name], values)
        encoder.save(folder.cleared("encoder"))
    p = trainer.progress
    if report.can_draw(run.say):
        report.draw_curves(folder.file("curves.png"), p.losses, p.history, run.main_metric(head.main_metric))
    write_json(folder.file("metrics.json"), metrics)
    trainer.forget()
    run.say(
        "%s: Spearman %.4f, Pearson %.4f on %d pairs; best epoch %d of %d"
        % (
            {"test": "test", "valid": "validation"}[name],
            metrics[name]["spearman"],
            metrics[name]["pearson"],
            metrics[name]["pairs"],
            metrics["best_epoch"],
            len(p.history),
        )
    )
    report_divergence(metrics, folder)
    folder.finish()
    run.say("results in %s" % folder.home)
    return metrics


def check_similarity(run):
    """Refuse options that do not go with the task, before any file is read.

    Args:
        run: `Run`.

    Raises:
        UserError: with what to do.
    """
    options = run.options
    run.techniques.refuse("--task similarity", rdrop="it repeats the rows of a batch, of which two and two are a pair")
    if options.label_separator is not None:
        raise UserError("--label-separator goes with --task classification; a pair has one score")
    if options.positive_above is not None and options.similarity_loss != "sbert":
        raise UserError("--positive-above goes with --similarity-loss sbert; CoSENT takes the scores as they are")
    if options.similarity_loss == "cosent":
        if options.batch_size < 2:
            raise UserError("--batch-size is 1; CoSENT compares the pairs of a batch, so it needs at least 2")
        if options.gradient_penalty and options.penalty_reduction == "per_sample":
            raise UserError(
                "--penalty-reduction per_sample: CoSENT is one number per batch, there are no per-sample losses"
            )
        if options.accumulate > 1:
            run.say(
                "note: CoSENT compares pairs within a batch of %d only; --accumulate %d averages such losses, which is "
                "not the loss of a batch of %d"
                % (options.batch_size, options.accumulate, options.batch_size * options.accumulate)
            )


def _read_parts(options, say):
    """(dict train, valid, test -> `Examples` or None, facts for config.json)."""
    how = dict(format=options.format, header=options.header, max_line=options.max_line, score_range=options.score_range)
    train, columns = read_scored_pairs(
        options.data, text=options.text_column, text_b=options.text_b_column, score=options.label_column, **how
    )
    say("columns: %s" % columns.describe().replace("label", "score"))
    # The other files have the columns of the first, numbered from 1 where there are no names.
    same = {
        role: column if isinstance(column, str) else column + 1
        for role, column in (("text", columns.text), ("text_b", columns.text_b), ("score", columns.label))
    }
    parts = {"train": train, "valid": None, "test": None}
    for part in ("valid", "test"):
        if getattr(options, part):
            parts[part], _ = read_scored_pairs(getattr(options, part), **dict(how, **same))
    for part in ("train", "valid", "test"):
        pairs = parts[part]
        if pairs is not None and len(set(pairs.labels)) < 2:
            raise UserError(
                "all %d scores are %g; there is no order to learn or to measure, so pairs with other scores are needed"
                % (len(pairs), pairs.labels[0]),
                path=pairs.path,
            )
    if parts["valid"] is None:
        above = options.positive_above
        classes = train.labels if above is None else [score > above for score in train.labels]
        if len(set(classes)) < 2:
            raise UserError(one_class(above, train.labels), path=train.path)
        parts["train"], parts["valid"] = split_pairs(train, options.valid_share, options.seed, classes)
        _check_split(train, parts, above)
        say(
            "no --valid: %d of %d pairs split off for validation, seed %d"
            % (len(parts["valid"]), len(train), options.seed)
        )
    warn_of_overlap(parts, say)
    sizes = {name: len(part) for name, part in parts.items() if part is not None}
    say(
        "pairs: %s; scores from %g to %g"
        % (", ".join("%s %d" % item for item in sizes.items()), min(train.labels), max(train.labels))
    )
    return parts, {"columns": columns.get_config(), "pairs": True, "texts": sizes}


def _check_split(train, parts, above):
    """Refuse a split that left a part with one class, where the file as a whole has several."""
    for part, what in (("valid", "the part split off for validation"), ("train", "what is left for training")):
        scores = parts[part].labels
        classes = set(scores if above is None or part == "valid" else [score > above for score in scores])
        if len(classes) < 2:
            score, count = collections.Counter(train.labels).most_common(1)[0]
            raise UserError(
                "%s has pairs of one class only, for %d of the %d pairs of the file have the score %g; add pairs with "
                "others, or give --valid" % (what, count, len(train), score),
                path=train.path,
            )


def _rows(pairs):
    return [text for pair in pairs.texts for text in pair]


def _build(run, head, train):
    """(`SentenceEncoder`, Keras model that is trained, its batches, `Step` by which it draws its random numbers)."""
    options = run.options
    pool = POOLINGS[options.pooling]
    with repeatable_dropout(options.seed) as random_step:
        pretrained = load_encoder(options, run.techniques, **({"with_pool": pool} if pool else {}))
        encoder = SentenceEncoder(pretrained, pooling=options.pooling, max_length=options.max_length)
        model = head.build(encoder.model, options.seed)
    batches = PairBatches(
        encode_texts(pretrained, _rows(train), options, "training", run.say),
        batch_size=options.batch_size,
        max_length=options.max_length,
        seed=options.seed,
        bucketing=options.bucketing,
        rounding=run.techniques.rounding,
    )
    freeze(pretrained, model, options, run.say)
    return encoder, model, batches, random_step


def _write_predictions(path, pairs, cosines):
    with atomic(path, "w") as handle:
        handle.write("line\tscore\tcosine\ttext\ttext_b\n")
        for line, score, cosine, texts in zip(pairs.lines, pairs.labels, cosines, pairs.texts):
            cells = ["%d" % line, "%g" % score, "%.8f" % cosine] + [report.one_line(text) for text in texts]
            handle.write("\t".join(cells) + "\n")


def load_similarity(run):
    """The `SentenceEncoder` of a finished run of `finetune --task similarity`.

    Args:
        run: folder, its `out`.

    Raises:
        UserError: the run is not finished.
    """
    path = os.path.join(run, "encoder")
    if not os.path.isdir(path):
        raise UserError("the run is not finished (no encoder); continue it with finetune --resume", path=run)
    return SentenceEncoder.load(path)
