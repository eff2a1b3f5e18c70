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
import paired_sets  # noqa: E402

ENGLISH, CHINESE = 0, 1
TITLES = {
    "sentiment": ("Reviews: 1,000 to learn from", "评论情感：1000 条训练数据"),
    "sentiment-all": ("Reviews: all 16,883, one epoch", "评论情感：全部 16883 条，一轮"),
    "tnews": ("Headlines, 15 classes: all 1,185 that there are", "新闻标题，15 类：全部 1185 条训练数据"),
    "chnsenticorp": ("Hotel reviews: 1,000 to learn from", "酒店评论：1000 条训练数据"),
    "chnsenticorp-200": (
        "Hotel reviews: 200 with a label, 9,400 without",
        "酒店评论：200 条有标签，9400 条无标签",
    ),
    "demo": ("Book reviews of `make demo`: 400 to learn from", "`make demo` 的书评：400 条训练数据"),
    "duee": ("Events, 65 labels, several a text: 4,000 to learn from", "事件类型，65 个标签，多标签：4000 条训练数据"),
    "duee-probe": (
        "The same events, the head started as a regression a label",
        "同样的事件类型，分类层由每个标签的回归初始化",
    ),
    "sts-b": ("Similarity: the 5,231 pairs of STS-B to learn from", "语义相似度：STS-B 的 5231 对训练数据"),
    "titles": ("Titles of abstracts: 900 to learn from", "摘要生成标题：900 条训练数据"),
}
HEAD = (
    ("", "%s", "difference from %s, 95%% interval", "", "time", "seeds"),
    ("", "%s", "与 %s 之差，95%% 区间", "", "耗时", "种子数"),
)
SCORES = {
    "accuracy": ("accuracy", "准确率"),
    "micro_f1": ("micro F1", "micro F1"),
    "spearman": ("Spearman x 100", "Spearman × 100"),
    "rouge_l": ("ROUGE-L", "ROUGE-L"),
}
BUDGET = ("Budget: %s. Run on TensorFlow %s.", "设置：%s。运行于 TensorFlow %s。")
VERDICTS = intervals.ENGLISH, intervals.CHINESE


def tables(language):
    """A table for each experiment, under its heading."""
    rows = read("paired")
    found = intervals.comparisons(rows, plain_of=paired_sets.plain_of)
    text = []
    for experiment in dict.fromkeys(one["experiment"] for one in found):
        of = [one for one in found if one["experiment"] == experiment and one["variant"] in variants(rows)]
        of = [one for one in of if len(one["scores"]) > 1]  # of one seed nothing can be said
        rival = paired_sets.plain_of(experiment)
        of.sort(key=lambda one: one["variant"] != rival)
        of_rival = [row for row in rows if (row["experiment"], row["variant"]) == (experiment, rival)]
        if rival not in [one["variant"] for one in of]:
            continue
        score = next(name for name in SCORES if name in of_rival[-1])
        head = " | ".join(HEAD[language]) % (SCORES[score][language], rival)
        names = [one["variant"] for one in of]
        ran = [row for row in rows if row["experiment"] == experiment and row["variant"] in names]
        stacks = sorted({row["versions"]["tensorflow"] for row in ran}, reverse=True)
        budget = BUDGET[language] % (said(of_rival[-1]["budget"]), (", ", "、")[language].join(stacks))
        text += ["## %s" % TITLES[experiment][language], "", budget, ""]
        text += ["| %s |" % head, "|%s" % ("---|" * len(HEAD[language]))]
        seconds = next(one["seconds"] for one in of if one["variant"] == rival)
        text += ["| %s |" % " | ".join(cells(one, seconds, language)) for one in of] + [""]
    return "\n".join(text)


def variants(rows):
    """Names of all variants, without what the budget was chosen from."""
    return [row["variant"] for row in rows if row["variant"] not in paired_sets.CANDIDATES]


def said(budget):
    """Options as on the command line."""
    return ", ".join("`--%s %s`" % (name.replace("_", "-"), value) for name, value in sorted(budget.items()) if value)


def cells(one, seconds, language):
    """A line: name, mean and spread, difference and what it says, time over `seconds`, seeds."""
    percent = 100 * one["scores"]
    spread = " ± %.2f" % percent.std(ddof=1) if len(percent) > 1 else ""
    line = [one["variant"], "%.2f%s" % (percent.mean(), spread), "", ""]
    if "difference" in one:
        mean, low, high = 100 * np.array(one["difference"])
        between = ("%+.2f (%+.2f to %+.2f)", "%+.2f（%+.2f 至 %+.2f）")[language]
        line[2:] = between % (mean, low, high), intervals.verdict(
            low / 100, high / 100, one["seeds"], VERDICTS[language]
        )
    return line + [number(round(one["seconds"] / seconds, 2)), "%d" % len(percent)]
