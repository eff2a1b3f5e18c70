"""A second phase in paired.py: the same fine-tuned model, trained on by EXACT and by cross-entropy.

EXACT starts where cross-entropy has ended (kexue.fm/archives/9098), so its rival is more cross-entropy, not less.
"""

import os
import time

from paired_measures import finish, run_finetune, scored

from kexue_keras.backend import K, keras, set_seed
from kexue_keras.data import BucketedBatches
from kexue_keras.finetune import Classifier
from kexue_keras.finetune.classification._classifier import HEAD
from kexue_keras.finetune.classification._heads import build_classifier, load_head
from kexue_keras.losses import ExactAccuracy
from kexue_keras.models import load
from kexue_keras.models._freezing import freeze_below
from kexue_keras.optimizers import AdamW, PiecewiseLinear

DROPOUT = 0.1
LOSSES = {
    " of EXACT": ExactAccuracy,
    " of cross-entropy": lambda: keras.losses.SparseCategoricalCrossentropy(from_logits=True),
}


def measure_phases(parts, options, seed, folder):
    """One fine-tuning, then `options["then"]` (epochs, learning_rate) with each of the losses."""
    options = dict(options)
    then = options.pop("then")
    first, _, found = run_finetune(parts, options, seed, folder)
    measured = {}
    for name, loss in LOSSES.items():
        K.clear_session()
        set_seed(seed)
        began = time.time()
        classifier = trainable(os.path.join(folder, "run"), first, options, seed)
        train(classifier, loss(), parts.train, dict(options, **then), seed)
        seconds = round(found["seconds"] + time.time() - began, 1)
        measured[name] = dict(found, seconds=seconds, **answered(classifier, parts.test))
        measured[name]["valid"] = answered(classifier, parts.valid)["accuracy"]
    finish(folder)
    return measured


def trainable(run, first, options, seed):
    """The `Classifier` `first` of a run once more, with dropout, and with the layers frozen that the run left alone."""
    dropout = {"dropout_rate": DROPOUT, "attention_dropout_rate": DROPOUT}
    encoder = load(os.path.join(run, "encoder"), **dropout)
    freeze_below(encoder.bert, encoder.bert.num_hidden_layers - options["train_layers"])
    model = build_classifier(encoder.model, len(first.labels), pooling="mean", dropout_rate=DROPOUT, seed=seed)
    load_head(os.path.join(run, HEAD), model)
    return Classifier(model, encoder.tokenizer, first.labels, first.head, first, False)


def train(classifier, loss, rows, options, seed):
    """Some epochs at a rate that falls to 0."""
    encoded = classifier.encode([text for text, _ in rows])
    targets = classifier.head.targets([label for _, label in rows], classifier.labels)
    how = {name: options[name] for name in ("batch_size", "max_length")}
    batches = BucketedBatches(encoded, seed=seed, **how)
    steps = options["epochs"] * len(batches)
    optimizer = PiecewiseLinear(AdamW(options["learning_rate"], weight_decay=0.01), {0: 1.0, steps: 0.0})
    classifier.model.compile(optimizer, loss)
    for epoch in range(options["epochs"]):
        for indices in batches.epoch(epoch):
            classifier.model.train_on_batch(batches.inputs(indices), targets[indices])


def answered(classifier, rows):
    """accuracy, and which texts were right."""
    return scored([label for label, _ in classifier.predict([text for text, _ in rows])], rows)
