"""Several labels a text: multi-label cross-entropy (ZLPR, kexue.fm/archives/7359) against sigmoid cross-entropy.

    python experiments/multilabel_duee.py --data FOLDER      FOLDER has train.csv(.gz) and test.csv: label,content

The data are the event types of DuEE 1.0 (65 labels, joined by |), for research only, so they do not come with this
package. Both losses get the same rows, epochs and learning rates; the result is micro and macro F1 on the test file.
"""

import argparse
import csv
import gzip
import io
import os
import random
import sys

from comparison import compare, table

from kexue_keras.backend import quiet
from kexue_keras.errors import UserError

HERE = os.path.dirname(os.path.abspath(__file__))
SHARED = os.path.join(HERE, "..", "..", "..", "shared", "data", "duee_multilabel")


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default=SHARED, help="folder with train.csv or train.csv.gz, and test.csv")
    parser.add_argument("--out", default=os.path.join("runs", "multilabel_duee"))
    parser.add_argument("--rows", type=int, default=2000, help="training rows (%(default)s)")
    parser.add_argument(
        "--num-hidden-layers", type=int, default=12, help="lowest layers of the encoder to use (%(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--max-length", type=int, default=96)
    parser.add_argument("--learning-rate", type=float, default=2e-4)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--quick", action="store_true", help="a tiny budget on made-up rows, to see that it runs")
    return parser.parse_args(argv)


def read(path):
    """Rows (label, content) of a CSV file, gzipped or not."""
    opener = gzip.open if path.endswith(".gz") else open
    with opener(path, "rb") as handle:
        return list(csv.reader(io.TextIOWrapper(handle, encoding="utf-8")))[1:]


def write(rows, path):
    """CSV with the header label,content."""
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["label", "content"])
        writer.writerows(rows)
    return path


def made_up(count, seed):
    """Rows in the form of the data, for --quick."""
    rng = random.Random(seed)
    topics = {"灾害": "发生地震洪水", "比赛": "夺得冠军决赛", "财经": "股价上涨融资"}
    rows = []
    for _ in range(count):
        labels = rng.sample(sorted(topics), rng.choice([1, 1, 2]))
        text = "".join(rng.choice("今昨明") + "日" + topics[label] for label in labels)
        rows.append(["|".join(labels), text + rng.choice("。！")])
    return rows


def main(argv=None):
    """Run the comparison; returns its rows."""
    options = parse(argv)
    quiet()
    os.makedirs(options.out, exist_ok=True)
    if options.quick:
        options.num_hidden_layers, options.epochs, options.seeds, options.max_length = 1, 1, [1], 24
        train, test = made_up(60, 1), made_up(30, 2)
    else:
        files = [os.path.join(options.data, name) for name in ("train.csv", "train.csv.gz", "test.csv")]
        found = [path for path in files if os.path.exists(path)]
        if len(found) != 2:
            raise UserError("no train.csv(.gz) and test.csv in %s; see --data" % options.data)
        train, test = map(read, found)
    random.Random(0).shuffle(train)
    variants = {"ZLPR": {"multilabel_loss": "zlpr"}, "sigmoid": {"multilabel_loss": "sigmoid"}}
    if options.quick:
        del variants["sigmoid"]
    rows = compare(
        variants,
        seeds=options.seeds,
        out=options.out,
        model="me5-zh-char",
        num_hidden_layers=options.num_hidden_layers,
        data=write(train[: options.rows], os.path.join(options.out, "train.csv")),
        valid=write(train[-300:] if not options.quick else test, os.path.join(options.out, "valid.csv")),
        test=write(test, os.path.join(options.out, "test.csv")),
        label_separator="|",
        epochs=options.epochs,
        batch_size=16,
        max_length=options.max_length,
        learning_rate=options.learning_rate,
    )
    print(table(rows, ("micro_f1", "macro_f1", "accuracy")))
    return rows


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("multilabel_duee: %s" % error)
