"""Few-shot classification with the MLM head (kexue.fm/archives/7764, 8295) on FewCLUE: prompts against fine-tuning.

    python experiments/few_shot.py --data FEWCLUE [--model me5-zh-char-mlm] [--tasks eprstmt tnews] [--splits 0 1 2]
    python experiments/few_shot.py --quick                        (made-up texts, seconds)

The folder is FewCLUE's `datasets`: for each task train_K.json, dev_K.json, test_public.json, unlabeled.json (or .gz).
Each result is a row of OUT/rows.jsonl; started again, it goes on with what is missing.
"""

import argparse
import os
import sys

from comparison import add_row, find_row, side_by_side
from few_shot_methods import METHODS, FewShot, read_labelled, read_unlabelled

from kexue_keras.backend import quiet
from kexue_keras.errors import UserError

SOFT = "[unused1][unused2][unused3][unused4]%s[unused5][unused6][unused7][unused8]{text}"
TASKS = {
    "eprstmt": {
        "patterns": ["{mask}满意。{text}", "{mask}好。{text}", "{mask}理想。{text}", "感觉如何？{mask}满意。{text}"],
        "soft_pattern": SOFT % "{mask}",
        "words": {"Negative": "不", "Positive": "很"},
        "max_length": 64,
        "steps": 60,
    },
    "tnews": {
        "patterns": ["下面报导一则{mask}{mask}新闻。{text}", "{mask}{mask}新闻：{text}", "以下是{mask}{mask}版的新闻：{text}"],
        "soft_pattern": SOFT % "{mask}{mask}",
        "words": dict(
            zip(
                "100 101 102 103 104 106 107 108 109 110 112 113 114 115 116".split(),
                "故事 文化 娱乐 体育 财经 房产 汽车 教育 科技 军事 旅游 国际 股票 农业 游戏".split(),
            )
        ),
        "max_length": 64,
        "steps": 120,
    },
}
# What the rows depend on besides task, model, method and split; a row with other settings is no reason not to run.
SETTINGS = ("epochs", "batch_size", "learning_rate", "soft_learning_rate", "train_layers", "unlabelled")


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", help="FewCLUE's folder datasets")
    parser.add_argument("--model", default="me5-zh-char-mlm", help="bundled name or folder (%(default)s)")
    parser.add_argument("--out", default=os.path.join("runs", "few_shot"))
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=sorted(TASKS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=6, help="how often the dev set is looked at (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="(%(default)s); base models: 2e-5")
    parser.add_argument("--soft-learning-rate", type=float, default=5e-3, help="of the soft tokens (%(default)s)")
    parser.add_argument("--train-layers", type=int, default=6, help="highest layers to train (%(default)s)")
    parser.add_argument("--unlabelled", type=int, default=200, help="unlabelled texts (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.model, options.tasks, options.splits = "me5-zh-char", ["eprstmt"], [0]
        options.epochs, options.train_layers, options.unlabelled = 1, None, 4
        options.methods = ["zero-shot", "PET + unlabelled"]
    elif not options.data:
        parser.error("give --data FOLDER, FewCLUE's datasets")
    return options


def made_up(options):
    """A few texts in the place of a task's."""
    rows = [("东西很好用，下次还来" + "啊" * i, "Positive") for i in range(8)]
    rows += [("坏了，退货也没有人理" + "啊" * i, "Negative") for i in range(8)]
    return rows, rows, rows, ["不知道好不好用"] * options.unlabelled


def read_task(task, split, options):
    """Train, dev, test and unlabelled texts of a task's split."""

    def path(name):
        plain = os.path.join(options.data, task, name + ".json")
        return plain if os.path.exists(plain) else plain + ".gz"

    labels = list(TASKS[task]["words"])
    names = ("train_%d" % split, "dev_%d" % split, "test_public")
    train, dev, test = (read_labelled(path(name), labels) for name in names)
    return train, dev, test, read_unlabelled(path("unlabeled"), options.unlabelled, split)


def main(argv=None):
    """Run what is missing; returns the rows."""
    quiet()
    options = parse(argv)
    os.makedirs(options.out, exist_ok=True)
    path = os.path.join(options.out, "rows.jsonl")
    settings = {name: getattr(options, name) for name in SETTINGS}
    tiny = {"load": {"num_hidden_layers": 1, "missing": "initialise"}, "num_hidden_layers": 1, "steps": 2}
    tiny["allow_untrained_head"] = True
    rows = []
    # Splits in the outer loop: if the run is cut short, every method has the same number of them.
    for split in options.splits:
        for task in options.tasks:
            data = None
            for method in options.methods:
                if method == "zero-shot" and split != options.splits[0]:
                    continue  # it has seen no split
                key = {"task": task, "model": options.model, "method": method, "split": split, "settings": settings}
                row = find_row(path, key)
                if row is None:
                    data = data or (made_up(options) if options.quick else read_task(task, split, options))
                    folder = os.path.join(options.out, "%s-%d" % (task, split))
                    few = FewShot(
                        *data,
                        model=options.model,
                        folder=folder,
                        epochs=options.epochs,
                        batch_size=options.batch_size,
                        learning_rate=options.learning_rate,
                        soft_learning_rate=options.soft_learning_rate,
                        train_layers=options.train_layers,
                        seed=split + 1,
                        **dict(TASKS[task], **(tiny if options.quick else {})),
                    )
                    row = dict(key, **few.run(method))
                    add_row(path, row)
                rows.append(row)
                print("%-8s split %d  %-22s %.4f" % (task, split, method, row["accuracy"]), flush=True)
    print(side_by_side(rows, row="method", column="task", value="accuracy"))
    return rows


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("few_shot: %s" % error)
