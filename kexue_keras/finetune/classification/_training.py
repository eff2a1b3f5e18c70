"""Training a classifier: one label, several labels, or pairs of texts."""

import numpy as np

from kexue_keras import models
from kexue_keras.backend import set_seed
from kexue_keras.data import BucketedBatches
from kexue_keras.data._batches import rows_by_step
from kexue_keras.errors import UserError
from kexue_keras.files import write_json
from kexue_keras.finetune import _report as report
from kexue_keras.finetune._corpus import read_parts
from kexue_keras.finetune._encoder import encode_texts, freeze, load_encoder
from kexue_keras.finetune._run import metrics_of, report_divergence
from kexue_keras.finetune._run_folder import config_of
from kexue_keras.finetune.classification._class_weights import check_class_weights, class_weights
from kexue_keras.finetune.classification._classifier import HEAD, Classifier
from kexue_keras.finetune.classification._heads import HEADS, build_classifier, save_head
from kexue_keras.finetune.classification._regression import check_regression, fit_frozen, start_as_probe
from kexue_keras.finetune.classification._unlabelled import check_unlabelled, read_unlabelled, with_unlabelled
from kexue_keras.layers._pooling import POOLINGS as SEQUENCE_POOLINGS
from kexue_keras.tokenizing.saved import save_tokenizer
from kexue_keras.trainer import accelerated
from kexue_keras.training._randomness import repeatable_dropout


def check_classification(run):
    """Refuse options that do not go together, before any file is read.

    Args:
        run: `Run`.

    Raises:
        UserError: with what to do.
    """
    check_class_weights(run.options)
    check_regression(run)
    check_unlabelled(run)


def finetune_classification(run):
    """Train a classifier, or with `--frozen` its last layer alone; what `finetune` does for labels.

    Args:
        run: `Run`, its folder claimed.

    Returns:
        dict, the contents of metrics.json.
    """
    options, say = run.options, run.say
    if options.pooling not in SEQUENCE_POOLINGS:
        raise UserError("--pooling %s goes with --task similarity" % options.pooling)
    parts, labels, facts = read_parts(options, say)
    train, valid = parts["train"], parts["valid"]
    unlabelled = read_unlabelled(options, parts, facts, say) if options.unlabelled is not None else []
    head = HEADS[_head_name(train, options)]
    facts = dict(facts, labels=labels, head=head.name)
    targets = head.targets(train.labels, labels)
    weights = class_weights(options, head, targets, labels, say)
    with accelerated(run.techniques, say):
        set_seed(options.seed)
        pretrained, model, random_step = _build(run, train, labels)
        classifier = Classifier(model, pretrained.tokenizer, labels, head, options, pairs=train.is_pairs)
        train_encoded = encode_texts(pretrained, train.texts, options, "training", say)
        if options.frozen:
            run.folder.begin(lambda: config_of(options, facts))
            _, groups = np.unique([str(text) for text in train.texts], return_inverse=True)
            of_texts = None if weights is None else _weighed(weights, targets)
            found = fit_frozen(classifier, train_encoded, targets, groups=groups, weights=of_texts, say=say)
            metrics = {"best_epoch": None, "history": [], "seconds": found["seconds"], "frozen": found}
            return _finish(run, metrics, pretrained, classifier, parts)
        how = dict(batch_size=options.batch_size, max_length=options.max_length, seed=options.seed)
        how.update(bucketing=options.bucketing, rounding=run.techniques.rounding)
        batches = BucketedBatches(train_encoded, **how)
        rows_of = rows_by_step(batches)

        def make_batch(step):
            rows = rows_of(step)
            ones = np.ones(len(rows), "float32")
            return batches.inputs(rows), targets[rows], ones if weights is None else _weighed(weights, targets[rows])

        if unlabelled:
            more = encode_texts(pretrained, unlabelled, options, "unlabelled", say)
            make_batch = with_unlabelled(make_batch, more, **how)
        encoded = encode_texts(pretrained, valid.texts, options, "validation", say)
        valid_targets = head.targets(valid.labels, labels)
        if options.head_init == "probe":
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
            facts=facts,
        )
        return _finish(run, metrics_of(trainer), pretrained, classifier, parts, trainer)


def _head_name(train, options):
    if not train.is_multilabel:
        return "single"
    return "sigmoid" if options.frozen or options.multilabel_loss == "sigmoid" else "multi"


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


def _finish(run, metrics, pretrained, classifier, parts, trainer=None):
    """Save the model and everything about it; the checkpoints of the training are removed last."""
    folder, head, labels = run.folder, classifier.head, classifier.labels
    save_tokenizer(pretrained.tokenizer, folder.path)
    models.save(pretrained, folder.cleared("encoder"))
    save_head(folder.file(HEAD), classifier.model)
    metrics = dict(metrics, main_metric=run.main_metric(head.main_metric), majority=majority(parts))
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
        if trainer is not None:
            p = trainer.progress
            report.draw_curves(folder.file("curves.png"), p.losses, p.history, run.main_metric(head.main_metric))
    write_json(folder.file("metrics.json"), metrics)
    if trainer is not None:
        trainer.forget()
    shown = metrics[last]
    run.say(
        "%s: accuracy %.4f (95%% interval %.4f to %.4f), macro F1 %.4f, micro F1 %.4f on %d texts"
        % (
            {"test": "test", "valid": "validation"}[last],
            shown["accuracy"],
            shown["accuracy_interval"][0],
            shown["accuracy_interval"][1],
            shown["macro_f1"],
            shown["micro_f1"],
            shown["texts"],
        )
        + ("; best epoch %d of %d" % (metrics["best_epoch"], len(metrics["history"])) if metrics["history"] else "")
    )
    report_divergence(metrics, folder)
    folder.finish()
    run.say("results in %s" % folder.home)
    return metrics


def majority(parts):
    """Share of the most frequent training label among the texts measured last; None for several labels per text."""
    if parts["train"].is_multilabel:
        return None
    labels, counts = np.unique(parts["train"].labels, return_counts=True)
    measured = (parts["test"] or parts["valid"]).labels
    return measured.count(labels[counts.argmax()]) / len(measured)
