"""The same fine-tuning with and without a technique, over several seeds: a table with means and spreads."""

import math
import os

from kexue_keras.backend import K
from kexue_keras.tasks.classification import finetune

SHOWN = ("accuracy", "macro_f1", "micro_f1")


def compare(variants, *, seeds, out, data, valid, test, say=print, **common):
    """Fine-tune every variant with every seed on the same files.

    Args:
        variants: dict name -> dict of options of `finetune` that make the variant.
        seeds: list of int.
        out: folder; each run gets a folder of its own below it.
        data, valid, test: files as `finetune` takes them.
        say: function that prints a line.
        **common: options of `finetune` that all variants share.

    Returns:
        list of dict, one a run: variant, seed, test accuracy, macro_f1, micro_f1, best_epoch, seconds.
    """
    rows = []
    # Seeds in the outer loop: if a run is cut short, every variant has the same number of seeds.
    for seed in seeds:
        for name, options in variants.items():
            K.clear_session()
            folder = os.path.join(out, "%s-seed%d" % (name.replace(" ", "-"), seed))
            settings = dict(common, **options)
            metrics = finetune(
                data=data, valid=valid, test=test, out=folder, seed=seed, overwrite=True, quiet=True, **settings
            )
            row = {"variant": name, "seed": seed, "best_epoch": metrics["best_epoch"], "seconds": metrics["seconds"]}
            row.update({key: metrics["test"][key] for key in SHOWN})
            rows.append(row)
            say("%-24s seed %d  " % (name, seed) + "  ".join("%s %.4f" % (key, row[key]) for key in SHOWN))
    K.clear_session()
    return rows


def mean_and_spread(values):
    """Mean and sample standard deviation (0 for a single value).

    >>> mean_and_spread([1.0, 2.0, 3.0])
    (2.0, 1.0)
    """
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, 0.0
    return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def table(rows, keys=SHOWN):
    """Markdown table of `compare`'s rows: mean ± standard deviation over the seeds, in percent."""
    names = list(dict.fromkeys(row["variant"] for row in rows))
    lines = ["| | %s | seconds | seeds |" % " | ".join(keys), "|---|" + "---|" * (len(keys) + 2)]
    for name in names:
        of_name = [row for row in rows if row["variant"] == name]
        cells = []
        for key in keys:
            mean, spread = mean_and_spread([100 * row[key] for row in of_name])
            cells.append("%.2f ± %.2f" % (mean, spread))
        seconds, _ = mean_and_spread([row["seconds"] for row in of_name])
        lines.append("| %s | %s | %.0f | %d |" % (name, " | ".join(cells), seconds, len(of_name)))
    return "\n".join(lines)
