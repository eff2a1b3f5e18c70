"""Fine-tuning for text classification: one label, several labels, or pairs of texts.

What `kexue-keras finetune` does, as a function. What makes one run different from another
hangs on it as techniques (`recipe.py`).
"""

import os

import numpy as np

from kexue_keras import models
from kexue_keras.backend import preserved_random_state, set_seed
from kexue_keras.data import BucketedBatches
from kexue_keras.errors import UserError
from kexue_keras.files import write_json
from kexue_keras.finetune import _report as report
from kexue_keras.finetune import techniques  # noqa: F401  (fills the registry)
from kexue_keras.finetune._classifier import HEAD, Classifier
from kexue_keras.finetune._corpus import read_parts
from kexue_keras.finetune._fingerprints import check_readable_again
from kexue_keras.finetune._heads import HEADS, build_classifier, save_head
from kexue_keras.finetune._loop import report_divergence
from kexue_keras.finetune._options import make_options
from kexue_keras.finetune._recipe import Recipe
from kexue_keras.finetune._run_folder import RunFolder, check_same, input_files
from kexue_keras.finetune._running import compile_model, encode_texts, load_encoder, run_loop, say_unrepeatable
from kexue_keras.finetune._saved_tokenizer import save_tokenizer
from kexue_keras.finetune._similarity import checked_range, finetune_similarity
from kexue_keras.layers._pooling import POOLINGS as SEQUENCE_POOLINGS
from kexue_keras.schemas import METRICS, read_settings
from kexue_keras.training._randomness import repeatable_dropout


@preserved_random_state()
def finetune(model=None, data=None, out=None, *, say=print, **options):
    """Fine-tune a pretrained encoder on labelled texts, or on pairs of texts with scores (task="similarity").

    Args:
        model: 'me5-zh-char', 'me5-zh-sp', or a folder as `models.load` takes it.
        data: training file (TSV, CSV, JSON lines; also .gz).
        out: folder for the results.
        say: function that prints a line; quiet=True silences it.
        **options: every option of `kexue-keras finetune` under its name with underscores: valid, test, epochs,
            batch_size, length, learning_rate, warmup, pooling, class_weights, train_layers, seed, resume, ...

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

    if options.task not in TASKS:
        raise UserError("--task is %r; it is one of %s" % (options.task, ", ".join(TASKS)))
    options.score_range = checked_range(options.score_range)
    folder, files = RunFolder(options.out), input_files(options)
    check_readable_again(files)
    recipe = Recipe(options, say)

    def check(config):
        check_same(config, options, folder.file("config.json"))

    inputs = [options.model] + list(files.values())
    with folder.claimed(resume=options.resume, overwrite=options.overwrite, inputs=inputs, check_same=check) as done:
        if done:
            say("%s is finished already; nothing to do" % folder.home)
            metrics = read_settings(folder.file("metrics.json"), METRICS, error=UserError)
            report_divergence(metrics, folder)
            return metrics
        return TASKS[options.task](recipe, folder)


def _classify(recipe, folder):
    options = recipe.options
    if options.pooling not in SEQUENCE_POOLINGS:
        raise UserError("--pooling %s goes with --task similarity" % options.pooling)
    facts = read_parts(recipe)
    recipe.head = HEADS[_head_name(recipe)]
    recipe.targets = recipe.head.targets(recipe.train.labels, recipe.labels)
    recipe.steps = recipe.updates = -(-len(recipe.train) // options.batch_size) * options.epochs
    recipe.notify("data_ready")
    set_seed(options.seed)
    _build(recipe)
    valid = Classifier(recipe.model, recipe.pretrained.tokenizer, recipe.labels, recipe.head, options, pairs=None)
    valid_targets = recipe.head.targets(recipe.valid.labels, recipe.labels)
    valid_encoded = encode_texts(recipe, recipe.valid.texts, "validation")

    def evaluate():
        measured = report.measure(recipe.head, valid.logits(valid_encoded), valid_targets, recipe.labels)
        scores = {name: measured[name] for name in ("loss", "accuracy", "macro_f1", "micro_f1")}
        return dict(scores, score=scores[recipe.head.main_metric])

    facts = dict(facts, labels=recipe.labels, head=recipe.head.name)
    loop, progress = run_loop(recipe, folder, facts, evaluate)
    return _finish(recipe, folder, loop, progress)


def _head_name(recipe):
    if not recipe.train.is_multilabel:
        return "single"
    return "sigmoid" if recipe.options.multilabel_loss == "sigmoid" else "multi"


def _build(recipe):
    """Model, batches, loss and optimizer of a recipe whose data are read."""
    options = recipe.options
    with repeatable_dropout(options.seed) as recipe.random_step:
        load_encoder(recipe, special=3 + recipe.train.is_pairs)
        recipe.model = build_classifier(
            recipe.pretrained.model,
            len(recipe.labels),
            pooling=options.pooling,
            dropout=0.1 if options.dropout is None else options.dropout,
            seed=options.seed,
        )
        encoded = encode_texts(recipe, recipe.train.texts, "training")
        recipe.batches = BucketedBatches(
            encoded,
            batch_size=options.batch_size,
            maxlen=options.length,
            seed=options.seed,
            bucketing=options.bucketing,
        )
        recipe.notify("model_built")
        compile_model(recipe)
    say_unrepeatable(recipe)


def _finish(recipe, folder, loop, progress):
    """Save the model and everything about it; the saved points go last."""
    save_tokenizer(recipe.pretrained.tokenizer, folder.path)
    models.save(recipe.pretrained, folder.cleared("encoder"))
    save_head(folder.file(HEAD), recipe.model)
    classifier = Classifier(
        recipe.model, recipe.pretrained.tokenizer, recipe.labels, recipe.head, recipe.options, recipe.train.is_pairs
    )
    metrics = {
        "best_epoch": progress.best["epoch"],
        "main_metric": recipe.head.main_metric,
        "history": progress.history,
        "seconds": round(progress.seconds, 1),
        **loop.remarks(),
        "majority": majority(recipe),
    }
    last = "test" if recipe.test is not None else "valid"
    for part in ("valid", "test")[: 2 if last == "test" else 1]:
        examples = getattr(recipe, part)
        logits = classifier.logits(
            encode_texts(recipe, examples.texts, part) if part == "test" else classifier.encode(examples.texts)
        )
        targets = recipe.head.targets(examples.labels, recipe.labels)
        metrics[part] = report.measure(recipe.head, logits, targets, recipe.labels)
    described = recipe.head.describe(recipe.head.probabilities(logits), recipe.labels)
    report.write_predictions(folder.file("predictions.tsv"), examples, described)
    matrix = report.confusion_matrix(recipe.head, logits, targets, recipe.labels)
    report.write_confusion(folder.file("confusion.tsv"), matrix, recipe.labels)
    if report.can_draw(recipe.say):
        if not report.draw_confusion(folder.file("confusion.png"), matrix, recipe.labels):
            recipe.say("no font here can draw the labels; in confusion.png they are numbered as in confusion.tsv")
        report.draw_curves(folder.file("curves.png"), progress.losses, progress.history, recipe.head.main_metric)
    write_json(folder.file("metrics.json"), metrics)
    loop.forget()
    shown = metrics[last]
    recipe.say(
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
            len(progress.history),
        )
    )
    report_divergence(metrics, folder)
    folder.finish()
    recipe.say("results in %s" % folder.home)
    return metrics


def majority(recipe):
    """Share of the most frequent training label among the texts measured last; None for several labels a text."""
    if recipe.train.is_multilabel:
        return None
    labels, counts = np.unique(recipe.train.labels, return_counts=True)
    measured = (recipe.test or recipe.valid).labels
    return measured.count(labels[counts.argmax()]) / len(measured)


# Name -> function of recipe and folder that gives what metrics.json holds.
TASKS = {"classification": _classify, "similarity": finetune_similarity}
