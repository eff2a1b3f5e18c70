"""The main job, `make demo`: fine-tune the bundled Chinese model on real reviews and compare it with two baselines.

    python examples/demo.py [--out FOLDER] [--quick]

A few hundred labelled reviews, as one has at the start of a project. The same rows train TF-IDF with logistic
regression. On two cores it takes less than six minutes.
"""

import argparse
import os
import sys
import time

from kexue_keras.backend import quiet
from kexue_keras.data import split_reviews, write_parts
from kexue_keras.errors import UserError
from kexue_keras.finetune._baselines import majority_accuracy, tfidf_accuracy
from kexue_keras.finetune._finetune import Classifier, finetune
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
    parser.add_argument("--test", type=int, default=1500, help="test reviews (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    options.num_hidden_layers, options.train_layers = None, 6
    if options.quick:
        options.train, options.test, options.epochs, options.num_hidden_layers, options.train_layers = 48, 100, 1, 2, 1
    return options


def main(argv=None):
    """Run the demo; returns the exit code."""
    options = parse(argv)
    quiet()
    begin = time.time()
    parts = split_reviews(train=options.train, valid=64, test=options.test, seed=2021)
    train, valid, test = parts
    print("%d reviews to train on, %d to choose the epoch by, %d to test on" % tuple(map(len, parts)))
    files = write_parts(parts, os.path.join(options.out, "data"))
    run = os.path.join(options.out, "run")
    metrics = finetune(
        model="me5-zh-sp",
        data=files[0],
        valid=files[1],
        test=files[2],
        out=run,
        epochs=options.epochs,
        batch_size=16,
        max_length=96,
        learning_rate=options.learning_rate,
        num_hidden_layers=options.num_hidden_layers,
        train_layers=options.train_layers,
        seed=options.seed,
        overwrite=True,
    )
    rows = [
        ("majority class", majority_accuracy(train, test)),
        ("TF-IDF + logistic regression", tfidf_accuracy(train, test)),
        ("fine-tuned me5-zh-sp", metrics["test"]["accuracy"]),
    ]
    print("\n%-30s accuracy   95%% interval on %d reviews" % ("", len(test)))
    for name, accuracy in rows:
        low, high = wilson_interval(round(accuracy * len(test)), len(test))
        print("%-30s %.3f      %.3f to %.3f" % (name, accuracy, low, high))
    print()
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
