"""Tables of docs/evidence.md and docs/evidence.zh.md: techniques beside plain fine-tuning, from results/paired.jsonl.

benchmarks/experiments/paired.py measures, intervals.py says what an interval is.
"""

import os
import sys

import numpy as np
from benchmark_tables import number, read
from repository import ROOT

sys.path.insert(0, os.path.join(ROOT, "benchmarks", "experiments"))

import intervals  # noqa: E402

ENGLISH, CHINESE = 0, 1
TITLES = {
    "sentiment": ("Reviews: 1,000 to learn from", "评论情感：1000 条训练数据"),
    "tnews": ("Headlines, 15 classes: all 1,185 that there are", "新闻标题，15 类：全部 1185 条训练数据"),
    "chnsenticorp": ("Hotel reviews: 1,000 to learn from", "酒店评论：1000 条训练数据"),
}
HEAD = (
    ("", "accuracy", "difference from plain, 95% interval", "", "time", "seeds"),
    ("", "准确率", "与 plain 之差，95% 区间", "", "耗时", "种子数"),
)
BUDGET = ("Budget: %s.", "设置：%s。")
VERDICTS = intervals.ENGLISH, intervals.CHINESE


def tables(language):
    """A table for each experiment, under its heading."""
    rows = read("paired")
    found = intervals.comparisons(rows)
    text = []
    for experiment in dict.fromkeys(one["experiment"] for one in found):
        of = [one for one in found if one["experiment"] == experiment and one["variant"] in variants(rows)]
        budget = [row["budget"] for row in rows if (row["experiment"], row["variant"]) == (experiment, "plain")]
        plain = next((one["seconds"] for one in of if one["variant"] == "plain"), None)
        if plain is None:
            continue
        text += ["## %s" % TITLES[experiment][language], "", BUDGET[language] % said(budget[-1]), ""]
        text += ["| %s |" % " | ".join(HEAD[language]), "|%s" % ("---|" * len(HEAD[language]))]
        text += ["| %s |" % " | ".join(cells(one, plain, language)) for one in of] + [""]
    return "\n".join(text)


def variants(rows):
    """Names of all variants, without what the budget was chosen from."""
    return [row["variant"] for row in rows if not row["variant"].startswith("me5-")]


def said(budget):
    """Options as on the command line."""
    return ", ".join("`--%s %s`" % (name.replace("_", "-"), value) for name, value in sorted(budget.items()))


def cells(one, plain, language):
    """A line: name, mean and spread, difference and what it says, time over that of plain, seeds."""
    percent = 100 * one["accuracies"]
    spread = " ± %.2f" % percent.std(ddof=1) if len(percent) > 1 else ""
    line = [one["variant"], "%.2f%s" % (percent.mean(), spread), "", ""]
    if "difference" in one:
        mean, low, high = 100 * np.array(one["difference"])
        between = ("%+.2f (%+.2f to %+.2f)", "%+.2f（%+.2f 至 %+.2f）")[language]
        line[2:] = between % (mean, low, high), intervals.verdict(low / 100, high / 100, VERDICTS[language])
    return line + [number(round(one["seconds"] / plain, 2)), "%d" % len(percent)]
