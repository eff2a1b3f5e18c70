"""Runs side by side over several seeds: the same fine-tuning with and without a technique; rows in a file; tables."""

import json
import math
import os

from kexue_keras.backend import K
from kexue_keras.data import read_table
from kexue_keras.finetune._finetune import finetune

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


def side_by_side(rows, *, row, column, value):
    """Markdown table with a line for each `row` and a cell for each `column`: mean ± spread in percent (how many).

    Args:
        rows: list of dict.
        row, column, value: keys of them; lines and columns come in the order in which they occur.

    >>> runs = [{'method': 'PET', 'task': 'tnews', 'accuracy': a} for a in (.5, .6)]
    >>> print(side_by_side(runs, row='method', column='task', value='accuracy'))
    | | tnews |
    |---|---|
    | PET | 55.00 ± 7.07 (2) |
    """
    columns = list(dict.fromkeys(one[column] for one in rows))
    lines = ["| | %s |" % " | ".join(columns), "|---|" + "---|" * len(columns)]
    for name in dict.fromkeys(one[row] for one in rows):
        cells = []
        for other in columns:
            values = [100 * one[value] for one in rows if (one[row], one[column]) == (name, other)]
            cells.append("%.2f ± %.2f (%d)" % (mean_and_spread(values) + (len(values),)) if values else "")
        lines.append("| %s | %s |" % (name, " | ".join(cells)))
    return "\n".join(lines)


def read_rows(path):
    """Rows of a file of JSON lines, a list of dict; empty if there is no such file."""
    if not os.path.exists(path):
        return []
    return read_table(path, format="jsonl", max_line=10**6).rows


def find_row(path, key):
    """Last row of a file of JSON lines that has all of the key's values, or None.

    Args:
        path: the file; it need not be there.
        key: dict of what tells the run apart, settings included, so that a changed setting runs again.
    """
    found = [row for row in read_rows(path) if all(name in row and row[name] == key[name] for name in key)]
    return found[-1] if found else None


def add_row(path, row):
    """Append a row to a file of JSON lines."""
    with open(path, "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
