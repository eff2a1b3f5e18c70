"""FewCLUE's tasks as cloze: patterns before and after the text, label words, and how the files are read.

Reference: FewCLUE, arXiv 2107.07498; "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764.
"""

import gzip
import json
import os

import numpy as np

from kexue_keras.data import choose_columns, read_examples, read_table
from kexue_keras.data._examples import check_labels

SOFT = "[unused1][unused2][unused3][unused4]%s[unused5][unused6][unused7][unused8]{text}"
SOFT_PAIR = "[unused1][unused2]{text_a}[unused3][unused4]{mask}[unused5][unused6]{text_b}"
VERY = {"Negative": "不", "Positive": "很"}
GOOD = {"Negative": "差", "Positive": "好"}
# `prompts` are further patterns, with words of their own where they have another question.
TASKS = {
    "eprstmt": {
        "patterns": ["{mask}满意。{text}", "{mask}好。{text}", "{mask}理想。{text}", "感觉如何？{mask}满意。{text}"],
        "prompts": [
            ("{text}。{mask}满意。", VERY),
            ("{text}。总之，很{mask}。", GOOD),
        ],
        "soft_pattern": SOFT % "{mask}",
        "words": VERY,
        "max_length": 64,
        "steps": 60,
    },
    "tnews": {
        "patterns": ["下面报导一则{mask}{mask}新闻。{text}", "{mask}{mask}新闻：{text}", "以下是{mask}{mask}版的新闻：{text}"],
        "prompts": [
            ("{text}。上面是一则{mask}{mask}新闻。", None),
        ],
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
    "bustm": {
        "patterns": ["下面两句话意思{mask}像。{text_a}。{text_b}", "意思{mask}像：{text_a}，{text_b}"],
        "prompts": [
            ("{text_a}和{text_b}，意思{mask}像。", None),
            ("{text_a}。{text_b}。这两句话{mask}像。", None),
            ("{text_a}？{mask}，{text_b}", {"0": "不", "1": "是"}),
        ],
        "soft_pattern": SOFT_PAIR,
        "words": {"0": "不", "1": "很"},
        "max_length": 64,
        "steps": 60,
    },
    "csl": {
        "patterns": ["关键词{mask}是{text_b}。{text_a}", "{text_b}{mask}是下文的关键词：{text_a}"],
        "prompts": [("{text_a}。关键词{mask}是{text_b}。", None)],
        "soft_pattern": SOFT_PAIR,
        "words": {"0": "不", "1": "就"},
        "max_length": 128,
        "steps": 60,
    },
}


def read_labelled(path, labels):
    """Labelled texts of a file, as (text, label).

    Args:
        path: TSV, CSV or JSON lines, also .gz.
        labels: the labels that there are.

    Returns:
        list of (text, label); for pairs text is (str, str).

    Raises:
        UserError: with file and line; among others a label that is not one of `labels`.
    """
    table = read_table(path)
    examples = read_examples(table, choose_columns(table))
    check_labels(examples, labels, "the verbalizer")
    return list(zip(examples.texts, examples.labels))


def read_keywords(path):
    """Rows of CSL: ((abstract, its supposed keywords), label)."""
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as handle:
        rows = [json.loads(line) for line in handle]
    return [((row["abst"], "、".join(row["keyword"])), row["label"]) for row in rows]


def read_unlabelled(path, count, seed):
    """`count` texts of a file without labels, drawn with `seed`; all of them if there are fewer."""
    table = read_table(path)
    return drawn(read_examples(table, choose_columns(table, need_label=False)).texts, count, seed)


def drawn(texts, count, seed):
    """`count` of the texts in random order."""
    return [texts[i] for i in np.random.RandomState(seed).permutation(len(texts))[:count]]


def read_task(folder, task, split, unlabelled):
    """Train, dev, test and some unlabelled texts, the same for all splits, of a task's split.

    Args:
        folder: FewCLUE's `datasets`.
        task: key of `TASKS`.
        split: 0 to 4.
        unlabelled: how many; of CSL, which comes without, they are those of all training files, labels left out.
    """

    def path(name):
        plain = os.path.join(folder, task, name + ".json")
        return plain if os.path.exists(plain) else plain + ".gz"

    names = ("train_%d" % split, "dev_%d" % split, "test_public")
    if task == "csl":
        train, dev, test = (read_keywords(path(name)) for name in names)
        return train, dev, test, drawn([text for text, _ in read_keywords(path("train_few_all"))], unlabelled, 0)
    labels = list(TASKS[task]["words"])
    train, dev, test = (read_labelled(path(name), labels) for name in names)
    return train, dev, test, read_unlabelled(path("unlabeled"), unlabelled, 0)
