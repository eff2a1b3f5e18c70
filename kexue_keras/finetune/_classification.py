"""Fine-tuning for text classification: one label, several labels, or pairs of texts.

What `kexue-keras finetune` does, as a function.
"""

import os
from typing import Any, Dict, Optional

import numpy as np

from kexue_keras import models
from kexue_keras.backend import preserved_random_state, set_seed
from kexue_keras.data import BucketedBatches
from kexue_keras.data._batches import rows_by_step
from kexue_keras.errors import UserError
from kexue_keras.files import write_json
from kexue_keras.finetune import _report as report
from kexue_keras.finetune._class_weights import check_class_weights, class_weights
from kexue_keras.finetune._classifier import HEAD, Classifier
from kexue_keras.finetune._corpus import read_parts
from kexue_keras.finetune._encoder import encode_texts, freeze, load_encoder
from kexue_keras.finetune._fingerprints import check_readable_again
from kexue_keras.finetune._heads import HEADS, build_classifier, check_head_init, save_head, start_as_probe
from kexue_keras.finetune._run import Run, metrics_of, report_divergence
from kexue_keras.finetune._run_folder import RunFolder, check_same, input_files
from kexue_keras.finetune._similarity import check_similarity, checked_range, finetune_similarity
from kexue_keras.finetune.math_word_problems._training import (
    TASK,
    check_math_word_problems,
    finetune_math_word_problems,
)
from kexue_keras.finetune.named_entities._recognizer import TASK as NER
from kexue_keras.finetune.named_entities._training import check_ner, finetune_ner
from kexue_keras.layers._pooling import POOLINGS as SEQUENCE_POOLINGS
from kexue_keras.options.finetune import make_options
from kexue_keras.schemas import METRICS, read_settings
from kexue_keras.tokenizing.saved import save_tokenizer
from kexue_keras.trainer import accelerated
from kexue_keras.training._randomness import repeatable_dropout
from kexue_keras.types import Path, Say


@preserved_random_state()
def finetune(
    model: Optional[Path] = None,
    data: Optional[Path] = None,
    out: Optional[Path] = None,
    *,
    say: Say = print,
    **options: Any,
) -> Dict[str, Any]:
    """Fine-tune a pretrained encoder on labelled texts, or on pairs of texts with scores (task="similarity").

    Args:
        model: 'me5-zh-char', 'me5-zh-sp', or a folder as `models.load` takes it.
        data: training file (TSV, CSV, JSON lines; also .gz).
        out: folder for the results.
        say: function that prints a line; quiet=True silences it.
        **options: every option of `kexue-keras finetune` under its name with underscores: valid, test, epochs,
            batch_size, max_length, learning_rate, warmup, pooling, class_weights, train_layers, seed, resume, ...

    Returns:
        dict, the contents of metrics.json.

    Raises:
        UserError: something about the data, the options or the folder; nothing has been written then, and with
            overwrite=True the earlier run is there as before.
        TypeError: no such option.
    """
    options = make_options(model=model, data=data, out=out, **options)
    for name in ("model", "data", "out"):
        if not getattr(options, name):
            raise UserError("--%s is needed" % name)
    try:
        os.fsencode(options.out).decode("utf-8")
    except UnicodeDecodeError:
        raise UserError("--out is a name that is not UTF-8, which TensorFlow cannot write to", path=options.out)
    if options.quiet:

        def say(line):
            pass

    options.score_range = checked_range(options.score_range)
    folder, files = RunFolder(options.out), input_files(options)
    check_readable_again(files)
    run = Run(options, folder, say)
    check_class_weights(options)
    check_head_init(options)
    task = _classify
    if options.task == "similarity":
        check_similarity(run)
        task = finetune_similarity
    elif options.task == TASK:
        check_math_word_problems(run)
        task = finetune_math_word_problems
    elif options.task == NER:
        check_ner(run)
        task = finetune_ner

    def check(config):
        check_same(config, options, folder.file("config.json"))

    inputs = [options.model] + list(files.values())
    with folder.claimed(resume=options.resume, overwrite=options.overwrite, inputs=inputs, check_same=check) as done:
        if done:
            say("%s is finished already; nothing to do" % folder.home)
            metrics = read_settings(folder.file("metrics.json"), METRICS, error=UserError)
            report_divergence(metrics, folder)
            return metrics
        return task(run)


def _classify(run):
    options, say = run.options, run.say
    if options.pooling not in SEQUENCE_POOLINGS:
        raise UserError("--pooling %s goes with --task similarity" % options.pooling)
    parts, labels, facts = read_parts(options, say)
    train, valid = parts["train"], parts["valid"]
    head = HEADS[_head_name(train, options)]
    targets = head.targets(train.labels, labels)
    weights = class_weights(options, head, targets, labels, say)
    with accelerated(run.techniques, say):
        set_seed(options.seed)
        pretrained, model, random_step = _build(run, train, labels)
        train_encoded = encode_texts(pretrained, train.texts, options, "training", say)
        batches = BucketedBatches(
            train_encoded,
            batch_size=options.batch_size,
            max_length=options.max_length,
            seed=options.seed,
            bucketing=options.bucketing,
            rounding=run.techniques.rounding,
        )
        rows_of = rows_by_step(batches)

        def make_batch(step):
            rows = rows_of(step)
            ones = np.ones(len(rows), "float32")
            return batches.inputs(rows), targets[rows], ones if weights is None else _weighed(weights, targets[rows])

        classifier = Classifier(model, pretrained.tokenizer, labels, head, options, pairs=train.is_pairs)
        encoded = encode_texts(pretrained, valid.texts, options, "validation", say)
        valid_targets = head.targets(valid.labels, labels)
        if options.head_init == "probe":
            if train.is_multilabel:
                raise UserError("--head-init probe takes a regression with one class a text; these have several")
            start_as_probe(classifier, (train_encoded, targets), (encoded, valid_targets), say)

        def evaluate():
            measured = report.measure(head, classifier.logits(encoded), valid_targets, labels)
            scores = {name: measured[name] for name in ("loss", "accuracy", "macro_f1", "micro_f1")}
            return dict(scores, score=scores[head.main_metric])

        trainer = run.train(
            model,
            make_batch,
            head=head,
            epoch_steps=len(batches),
            num_hidden_layers=pretrained.bert.num_hidden_layers,
            random_step=random_step,
            evaluate=evaluate,
            facts=dict(facts, labels=labels, head=head.name),
        )
        return _finish(run, trainer, pretrained, classifier, parts)


def _head_name(train, options):
    if not train.is_multilabel:
        return "single"
    return "sigmoid" if options.multilabel_loss == "sigmoid" else "multi"


def _build(run, train, labels):
    """(`PretrainedModel`, Keras model with the head, `Step` by which it draws its random numbers)."""
    options = run.options
    with repeatable_dropout(options.seed) as random_step:
        pretrained = load_encoder(options, run.techniques, special=3 + train.is_pairs)
        model = build_classifier(
            pretrained.model,
            len(labels),
            pooling=options.pooling,
            dropout_rate=0.1 if options.dropout_rate is None else options.dropout_rate,
            seed=options.seed,
        )
    freeze(pretrained, model, options, run.say)
    return pretrained, model, random_step


def _weighed(weights, classes):
    return weights[np.asarray(classes).reshape(-1)].astype("float32")


def _finish(run, trainer, pretrained, classifier, parts):
    """Save the model and everything about it; the saved points go last."""
    folder, head, labels, p = run.folder, classifier.head, classifier.labels, trainer.progress
    save_tokenizer(pretrained.tokenizer, folder.path)
    models.save(pretrained, folder.cleared("encoder"))
    save_head(folder.file(HEAD), classifier.model)
    metrics = metrics_of(trainer, main_metric=head.main_metric, majority=majority(parts))
    last = "test" if parts["test"] is not None else "valid"
    for part in ("valid", "test")[: 2 if last == "test" else 1]:
        examples = parts[part]
        if part == "test":
            encoded = encode_texts(pretrained, examples.texts, run.options, part, run.say)
        else:
            encoded = classifier.encode(examples.texts)
        logits, targets = classifier.logits(encoded), head.targets(examples.labels, labels)
        metrics[part] = report.measure(head, logits, targets, labels)
    described = head.describe(head.probabilities(logits), labels)
    report.write_predictions(folder.file("predictions.tsv"), examples, described)
    matrix = report.confusion_matrix(head, logits, targets, labels)
    report.write_confusion(folder.file("confusion.tsv"), matrix, labels)
    if report.can_draw(run.say):
        if not report.draw_confusion(folder.file("confusion.png"), matrix, labels):
            run.say("no font here can draw the labels; in confusion.png they are numbered as in confusion.tsv")
        report.draw_curves(folder.file("curves.png"), p.losses, p.history, head.main_metric)
    write_json(folder.file("metrics.json"), metrics)
    trainer.forget()
    shown = metrics[last]
    run.say(
        "%s: accuracy %.4f (95%% interval %.4f to %.4f), macro F1 %.4f, micro F1 %.4f on %d texts; best epoch %d of %d"
        % (
            {"test": "test", "valid": "validation"}[last],
            shown["accuracy"],
            shown["accuracy_interval"][0],
            shown["accuracy_interval"][1],
            shown["macro_f1"],
            shown["micro_f1"],
            shown["texts"],
            metrics["best_epoch"],
            len(p.history),
        )
    )
    report_divergence(metrics, folder)
    folder.finish()
    run.say("results in %s" % folder.home)
    return metrics


def majority(parts):
    """Share of the most frequent training label among the texts measured last; None for several labels a text."""
    if parts["train"].is_multilabel:
        return None
    labels, counts = np.unique(parts["train"].labels, return_counts=True)
    measured = (parts["test"] or parts["valid"]).labels
    return measured.count(labels[counts.argmax()]) / len(measured)
