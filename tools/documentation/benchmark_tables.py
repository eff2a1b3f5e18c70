"""Tables of benchmarks/results/*.jsonl for the pages docs/benchmarks.md and docs/benchmarks.zh.md.

A row of a table is what has the same setting; a cell is the median over its rows, with the smallest and the largest of
them in brackets where there are several. benchmark_list.py says which tables there are.
"""

import collections
import glob
import json
import os

import numpy as np
from benchmark_labels import LABELS
from benchmark_list import TABLES
from repository import ROOT

RESULTS = os.path.join(ROOT, "benchmarks", "results")
ENGLISH, CHINESE = 0, 1
WORDS = {
    "runs": ("runs", "次数"),
    "stack": {"keras": "Keras 2.3.1", "tf.keras": "tf.keras", "tf2": "TensorFlow 2"},
}


def read(name):
    """Rows of results/`name`.jsonl."""
    with open(os.path.join(RESULTS, name + ".jsonl"), encoding="utf-8") as handle:
        return [json.loads(line) for line in handle if line.strip()]


def names():
    """All files of results."""
    return sorted(os.path.splitext(os.path.basename(path))[0] for path in glob.glob(os.path.join(RESULTS, "*.jsonl")))


def at(row, path):
    """What stands at a path such as 'test_loss>64' or 'curve>-1>1' of a row, None if nothing does.

    Behind `=`: what stands there then.
    """
    path, _, default = path.partition("=")
    for key in path.split(">"):
        if isinstance(row, list):
            row = row[int(key)] if row else None
        elif isinstance(row, dict):
            row = row.get(key)
        else:
            return None
    return int(default) if row is None and default else row


def number(value):
    """Three or four digits of a number, as a page has it."""
    if value == 0 or float(value).is_integer() and abs(value) < 1e7:
        return "%d" % value
    text = "%.3g" % value if abs(value) < 1 else "%.4g" % value
    return text.replace("e-0", "e-").replace("e+0", "e")


def cell(values):
    """Median of what was measured, and how far the runs lie apart."""
    values = [value for value in values if isinstance(value, (int, float))]
    if not values:
        return ""
    if len(values) == 1:
        return number(values[0])
    return "%s (%s to %s)" % tuple(number(v) for v in (np.median(values), min(values), max(values)))


def setting(value, language):
    """A setting as it stands in a cell."""
    if isinstance(value, bool) or value is None:
        return {True: ("yes", "是"), False: ("no", "否"), None: ("", "")}[value][language]
    if isinstance(value, dict):
        return ", ".join("%s %s" % (k, number(v) if isinstance(v, (int, float)) else v) for k, v in value.items())
    if isinstance(value, (int, float)):
        return number(value)
    text = WORDS["stack"].get(value, str(value)).strip("{}").replace("'", "")
    return text.replace("|", "\\|").replace("_", "\\_")


def in_order(columns):
    """Stacks as everywhere, numbers by size, the rest as it came."""
    stacks = list(WORDS["stack"])
    if set(columns) <= set(stacks):
        return sorted(columns, key=stacks.index)
    return sorted(columns) if all(isinstance(column, (int, float)) for column in columns) else columns


def label(path, language, file):
    """Heading of a column; what is meant in one file only stands as 'file:path'."""
    return LABELS.get("%s:%s" % (file, path), LABELS.get(path))[language]


def grouped(rows, paths):
    """Rows by what stands at the paths, in order of appearance."""
    groups = collections.OrderedDict()
    for row in rows:
        groups.setdefault(json.dumps([at(row, path) for path in paths], sort_keys=True), []).append(row)
    return [(json.loads(key), group) for key, group in groups.items()]


def selected(table):
    """The rows of a results file that a table is made of."""
    return [row for row in read(table.file) if all(at(row, k) == v for k, v in table.where.items())]


def markdown(table, language):
    """A table, with its heading, what measures it, and versions."""
    rows = selected(table)
    head = [label(path, language, table.file) for path in table.by]
    values = list(table.values)
    columns = [None]
    if table.across:
        columns = in_order([key[0] for key, _ in grouped(rows, [table.across])])
        head += ["%s %s" % (label(table.across, language, table.file), setting(c, language)) for c in columns]
        if table.across == "stack":
            head[-len(columns) :] = [setting(column, language) for column in columns]
    else:
        head += [label(path, language, table.file) for path in values]
    several = False
    lines = []
    for key, group in grouped(rows, table.by):
        cells = [setting(part, language) for part in key]
        for path in values:
            for column in columns:
                of = group if column is None else [row for row in group if at(row, table.across) == column]
                cells.append(cell([at(row, path) for row in of]))
        several = several or " to " in "".join(cells)
        count = (
            len(group)
            if not table.across
            else max(sum(at(row, table.across) == column for row in group) for column in columns)
        )
        lines.append((cells, count))
    if language == CHINESE:
        lines = [([text.replace(" to ", " 至 ") for text in cells], count) for cells, count in lines]
    if several:
        head.append(WORDS["runs"][language])
        lines = [(cells + [str(count)], count) for cells, count in lines]
    text = ["## %s" % table.title[language], "", source(table, rows, language), ""]
    if table.picture:
        text += [picture(table.picture, table.title[language]), ""]
    text += ["| %s |" % " | ".join(head), "|%s" % ("---|" * len(head))]
    text += ["| %s |" % " | ".join(cells) for cells, _ in lines]
    return "\n".join(text) + "\n"


def picture(name, title):
    """Markdown of a picture of docs_pictures.py, for light and for dark pages."""
    form = "![%s](figures/%s-%s.svg#gh-%s-mode-only)"
    return " ".join(form % (title, name, mode, mode) for mode in ("light", "dark"))


def source(table, rows, language):
    """A line: the page that says what it means, the script, versions and dates."""
    pages = (", ", "、")[language].join("[%s](%s)" % (page[: -len(".md")], page) for page in table.pages)
    cells = label(table.values[0], language, table.file) if table.across else ""
    versions = []
    for (python, tensorflow), _ in grouped(rows, ["versions>python", "versions>tensorflow"]):
        versions.append("Python %s, TensorFlow %s" % (python, tensorflow))
    dates = sorted({row["time"][:10] for row in rows})
    when = dates[0] if dates[0] == dates[-1] else "%s to %s" % (dates[0], dates[-1])
    if language == CHINESE:
        when = when.replace(" to ", " 至 ")
        form = "含义见 %s。脚本 `benchmarks/%s`，结果 `benchmarks/results/%s.jsonl`，%s，%d 核，%s。"
        between = "；"
    else:
        form = "Explained in %s. Script `benchmarks/%s`, rows `benchmarks/results/%s.jsonl`; %s; %d cores; %s."
        between = "; "
    if cells:
        form += (" Shown is: **%s**.", "表中是**%s**。")[language] % cells.replace("%", "%%")
    return form % (pages, table.script, table.file, between.join(versions), max(row["cores"] for row in rows), when)


def all_tables(language):
    """What stands between the marks of the page."""
    return "\n".join(markdown(table, language) for table in TABLES)
