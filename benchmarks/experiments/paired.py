"""Does a technique help? The same fine-tuning with and without it, paired over seeds; intervals of the differences.

    python experiments/paired.py --data FOLDER [--experiments sentiment tnews] [--variants ...] [--seeds 1 2 3 4 5]
    python experiments/paired.py --table                       (what has been measured)
    python experiments/paired.py --quick                       (made-up texts, seconds)

A seed draws the texts to learn from and to choose by, and the first weights of the head; all variants of a seed have
the same. The test texts are always the same. Rows go to results/paired.jsonl, with every single answer, and a run
that is there is not repeated: cut short, it goes on.
"""

import argparse
import os
import random
import shutil
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from comparison import mean_and_spread  # noqa: E402
from intervals import comparisons, packed, verdict  # noqa: E402
from record import RESULTS, record, recorded, rows  # noqa: E402

from kexue_keras.backend import K, quiet  # noqa: E402
from kexue_keras.data import choose_columns, read_examples, read_table, write_parts  # noqa: E402
from kexue_keras.errors import UserError  # noqa: E402
from kexue_keras.finetune import Classifier  # noqa: E402
from kexue_keras.finetune._finetune import finetune  # noqa: E402

FROZEN = "frozen, regression"
# Variant -> options of `finetune` besides the budget. The first is what the others are compared with.
VARIANTS = {
    "plain": {},
    FROZEN: {"frozen": True},
    "plain, twice the epochs": {"epochs": 2},  # times those of the budget: the time that R-Drop, FGM, ... take
    "dropout 0.3": {"dropout_rate": 0.3},
    "R-Drop, alpha 4, dropout 0.3": {"dropout_rate": 0.3, "rdrop": 4.0},
    "FGM, epsilon 0.5": {"fgm": 0.5},
    "gradient penalty, epsilon 1": {"gradient_penalty": 1.0},
    "EMA 0.98": {"ema": 0.98},
    "layer-wise rates, 0.8": {"layerwise_lr_decay": 0.8},
    "rate of the head x 10": {"head_lr_multiplier": 10.0},
    "head from the regression": {"head_init": "probe"},
    "head at random": {"head_init": "random"},
    "batch 4 x 4, buffers": {"batch_size": 4, "accumulate": 4},
    "batch 4 x 4, momentum": {"batch_size": 4, "accumulate": 4, "accumulate_in": "momentum"},
    "batch 4": {"batch_size": 4},
}
BUDGET = {"model": "me5-zh-char-mlm", "epochs": 3, "batch_size": 16, "learning_rate": 1e-4, "train_layers": 6}
# What the budget was chosen from, by the accuracy on the validation texts; names for `--variants` too.
CANDIDATES = {
    "me5-zh-char-mlm": {},
    "me5-zh-char-mlm, rate of the head x 10": {"head_lr_multiplier": 10.0},
    "me5-zh-char-mlm, 3e-4": {"learning_rate": 3e-4},
    "me5-zh-sp": {"model": "me5-zh-sp"},
    "me5-zh-sp, rate of the head x 10": {"model": "me5-zh-sp", "head_lr_multiplier": 10.0},
    "me5-zh-sp, head from the regression": {"model": "me5-zh-sp", "head_init": "probe"},
}
# Experiment -> rows to learn from (None: all), to choose the epoch by, to test on, and its own part of the budget.
EXPERIMENTS = {
    "sentiment": {"train": 1000, "valid": 300, "test": 2110, "max_length": 64, "chosen": {}},
    "tnews": {
        "train": None,
        "valid": 300,
        "test": 2010,
        "max_length": 32,
        "chosen": {"model": "me5-zh-sp", "head_init": "probe"},
    },
    "chnsenticorp": {"train": 1000, "valid": 300, "test": 1200, "max_length": 64, "chosen": {}},
}


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", help="with the folders sentiment, fewclue/tnews, chnsenticorp")
    parser.add_argument("--experiments", nargs="+", choices=list(EXPERIMENTS), default=["sentiment", "tnews"])
    names = list(VARIANTS) + list(CANDIDATES)
    parser.add_argument("--variants", nargs="+", choices=names, default=list(VARIANTS), help="(all but candidates)")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--out", default=os.path.join("runs", "paired"), help="for files of single runs (%(default)s)")
    parser.add_argument("--results", default=RESULTS, metavar="FOLDER", help="where paired.jsonl is (%(default)s)")
    parser.add_argument("--table", action="store_true", help="only show what has been measured")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.experiments, options.seeds, options.results = ["sentiment"], [1, 2], options.out
        options.variants = ["plain", "EMA 0.98"]
    elif not (options.data or options.table):
        parser.error("give --data FOLDER")
    return options


def read_parts(folder, experiment, seed):
    """Texts to learn from, to choose by and to test on, as lists of (text, label).

    The first two are drawn by the seed, from different files or from different rows of one.
    """
    sizes = EXPERIMENTS[experiment]
    files = {
        "sentiment": ("sentiment.train.data.gz", "sentiment.valid.data", "sentiment.test.data"),
        "tnews": ("train_few_all.json", "dev_few_all.json", "test_public.json.gz"),
        "chnsenticorp": ("train.tsv", "dev.tsv", "test.tsv"),
    }[experiment]
    home = os.path.join(folder, "fewclue", "tnews") if experiment == "tnews" else os.path.join(folder, experiment)
    train, valid, test = (labelled(os.path.join(home, name)) for name in files)
    draw = random.Random(seed)
    train = draw.sample(train, sizes["train"] or len(train))
    return train, draw.sample(valid, sizes["valid"]), test[: sizes["test"]]


def labelled(path):
    """(text, label) of a file's rows."""
    table = read_table(path)
    examples = read_examples(table, choose_columns(table))
    return list(zip(examples.texts, examples.labels))


def made_up(count):
    """A few texts in the place of a set's."""
    good = [("东西很好用，下次还来" + "啊" * i, "1") for i in range(count)]
    return good + [("坏了，退货也没有人理" + "啊" * i, "0") for i in range(count)]


def budget_of(experiment, variant):
    """All options of `finetune` that a variant of an experiment has, but for files and seed."""
    options = dict(BUDGET, max_length=EXPERIMENTS[experiment]["max_length"])
    if variant in CANDIDATES:
        return dict(options, **CANDIDATES[variant])
    options.update(EXPERIMENTS[experiment]["chosen"])
    changed = dict(VARIANTS[variant])
    if "epochs" in changed:
        changed["epochs"] *= options["epochs"]
    if variant == FROZEN:
        # The sentence encoder is the stronger rival; what trains says nothing here.
        changed["model"] = "me5-zh-sp"
        options = {"max_length": options["max_length"]}
    return dict(options, **changed)


def measure(parts, options, *, seed, folder):
    """Train, and answer every test text.

    Returns:
        dict: accuracy, valid, best_epoch, seconds, texts, right (`packed`).
    """
    K.clear_session()
    train, valid, test = write_parts(parts, folder)
    run = os.path.join(folder, "run")
    metrics = finetune(data=train, valid=valid, out=run, seed=seed, overwrite=True, quiet=True, **options)
    K.clear_session()
    answers = Classifier.load(run).predict([text for text, _ in parts[2]])
    right = [answer == label for (answer, _), (_, label) in zip(answers, parts[2])]
    K.clear_session()
    shutil.rmtree(folder)  # a run has the whole model
    return {
        "accuracy": sum(right) / len(right),
        "valid": metrics["valid"]["accuracy"],
        "best_epoch": metrics["best_epoch"],
        "seconds": round(metrics["seconds"], 1),
        "texts": len(right),
        "right": packed(right),
    }


def under_another_name(run, measured):
    """What was measured of the same run as a candidate, or None."""
    same = [row for row in measured if all(row[key] == value for key, value in run.items())]
    kept = ("accuracy", "valid", "best_epoch", "seconds", "texts", "right")
    return {key: same[0][key] for key in kept} if same else None


def table(measured):
    """Markdown table: accuracy of each variant, and its difference from the plain one over the seeds of both."""
    lines = ["| | | accuracy | seeds | difference | |", "|---|---|---|---|---|---|"]
    for one in comparisons(measured):
        cells = [one["experiment"], one["variant"], "%.2f ± %.2f" % mean_and_spread(100 * one["accuracies"])]
        cells += ["%d" % len(one["accuracies"]), "", ""]
        if "difference" in one:
            mean, low, high = one["difference"]
            cells[-2:] = "%+.2f (%+.2f to %+.2f)" % (100 * mean, 100 * low, 100 * high), verdict(low, high)
        lines.append("| %s |" % " | ".join(cells))
    return "\n".join(lines)


def main(argv=None):
    """Run what is missing; returns the rows."""
    options = parse(argv)
    quiet()
    for seed in () if options.table else options.seeds:
        for experiment in options.experiments:
            parts = None
            for variant in options.variants:
                budget = budget_of(experiment, variant)
                if variant in VARIANTS and variant != "plain" and budget == budget_of(experiment, "plain"):
                    continue  # it was chosen for all
                if options.quick:
                    budget.update(model="me5-zh-char", num_hidden_layers=1, train_layers=1, epochs=1)
                run = {"experiment": experiment, "seed": seed, "budget": budget}
                if recorded("paired", options.results, variant=variant, **run):
                    continue
                found = under_another_name(run, rows("paired", options.results))
                if found is None:
                    if parts is None:
                        parts = [made_up(4)] * 3 if options.quick else read_parts(options.data, experiment, seed)
                    folder = os.path.join(options.out, "%s-%d" % (experiment, os.getpid()))
                    found = measure(parts, budget, seed=seed, folder=folder)
                record("paired", dict(run, variant=variant, **found), options.results)
                print(
                    "%s seed %d  %-30s %.4f  %.0f s" % (experiment, seed, variant, found["accuracy"], found["seconds"])
                )
                sys.stdout.flush()
    measured = rows("paired", options.results)
    print(table(measured))
    return measured


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("paired: %s" % error)
