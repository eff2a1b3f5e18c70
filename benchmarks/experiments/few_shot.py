"""Few-shot classification with the MLM head (kexue.fm/archives/7764, 8295) on FewCLUE: prompts against fine-tuning.

    python experiments/few_shot.py --data FEWCLUE [--model me5-zh-char-mlm] [--tasks eprstmt tnews] [--splits 0 1 ...]
    python experiments/few_shot.py --quick                        (made-up texts, seconds)

The folder is FewCLUE's `datasets`: for each task train_K.json, dev_K.json, test_public.json, unlabeled.json (or .gz).
Each result is a row of results/few_shot.jsonl; started again, it goes on with what is missing.
"""

import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import few_shot_prompted  # noqa: E402, F401  puts its methods into METHODS
from comparison import side_by_side  # noqa: E402
from few_shot_methods import METHODS, FewShot  # noqa: E402
from few_shot_tasks import TASKS, read_task  # noqa: E402
from record import RESULTS, last_row, record  # noqa: E402

from kexue_keras.backend import quiet  # noqa: E402
from kexue_keras.errors import UserError  # noqa: E402

MOST = 20000  # unlabelled texts that are read
# What the rows depend on besides task, model, method and split; a row with other settings is no reason not to run.
SETTINGS = ("epochs", "batch_size", "learning_rate", "soft_learning_rate", "train_layers", "unlabelled", "calibration")
OF_MLM = ("mlm_steps", "mlm_rate")


def parse(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="FOLDER", help="FewCLUE's folder datasets")
    parser.add_argument("--model", default="me5-zh-char-mlm", help="bundled name or folder (%(default)s)")
    parser.add_argument("--out", default=os.path.join("runs", "few_shot"), help="for files of runs (%(default)s)")
    parser.add_argument("--results", default=RESULTS, metavar="FOLDER", help="where few_shot.jsonl is (%(default)s)")
    parser.add_argument("--tasks", nargs="+", choices=sorted(TASKS), default=sorted(TASKS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--splits", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    parser.add_argument("--epochs", type=int, default=6, help="how often the dev set is looked at (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--learning-rate", type=float, default=1e-4, help="(%(default)s); base models: 2e-5")
    parser.add_argument("--soft-learning-rate", type=float, default=5e-3, help="of the soft tokens (%(default)s)")
    parser.add_argument("--train-layers", type=int, default=6, help="highest layers to train (%(default)s)")
    parser.add_argument("--unlabelled", type=int, default=200, help="unlabelled texts (%(default)s)")
    parser.add_argument("--calibration", type=int, default=150, help="unlabelled texts for the prior (%(default)s)")
    parser.add_argument("--mlm-steps", type=int, default=300, help="of continued MLM (%(default)s)")
    parser.add_argument("--mlm-rate", type=float, default=1e-4, help="its learning rate (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tiny budget, to see that it runs")
    options = parser.parse_args(argv)
    if options.quick:
        options.model, options.tasks, options.splits = "me5-zh-char", ["eprstmt"], [0]
        options.results = options.out
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


def main(argv=None):
    """Run what is missing; returns the rows."""
    quiet()
    options = parse(argv)
    os.makedirs(options.out, exist_ok=True)
    settings = {name: getattr(options, name) for name in SETTINGS}
    tiny = {"load": {"num_hidden_layers": 1, "missing": "initialise"}, "num_hidden_layers": 1, "steps": 2}
    tiny["allow_untrained_head"] = True
    rows, memories = [], {}
    # Splits in the outer loop: if the run is cut short, every method has the same number of them.
    for split in options.splits:
        for task in options.tasks:
            data = None
            for method in options.methods:
                if method == "zero-shot" and split != options.splits[0]:
                    continue  # it has seen no split
                key = {"task": task, "model": options.model, "method": method, "split": split, "settings": settings}
                if "MLM" in method:
                    key["settings"] = dict(settings, **{name: getattr(options, name) for name in OF_MLM})
                row = last_row("few_shot", options.results, **key)
                if row is None:
                    if data is None:
                        data = made_up(options) if options.quick else read_task(options.data, task, split, MOST)
                    folder = os.path.join(options.out, "%s-%d" % (task, split))
                    few = FewShot(
                        *data[:3],
                        data[3][: options.unlabelled],
                        model=options.model,
                        folder=folder,
                        epochs=options.epochs,
                        batch_size=options.batch_size,
                        learning_rate=options.learning_rate,
                        soft_learning_rate=options.soft_learning_rate,
                        train_layers=options.train_layers,
                        seed=split + 1,
                        calibration=data[3][: options.calibration],
                        mlm={"texts": data[3], "steps": options.mlm_steps, "learning_rate": options.mlm_rate},
                        memory=memories.setdefault(task, {}),
                        **dict(TASKS[task], **(tiny if options.quick else {})),
                    )
                    row = record("few_shot", dict(key, **few.run(method)), options.results)
                rows.append(row)
                print("%-8s split %d  %-22s %.4f" % (task, split, method, row["accuracy"]), flush=True)
    print(side_by_side(rows, row="method", column="task", value="accuracy"))
    return rows


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit("few_shot: %s" % error)
