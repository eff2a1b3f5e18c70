"""Choosing columns by name, by number and by what stands in them."""

import re

import pytest

from kexue_keras.data import choose_columns, read_examples, read_table
from kexue_keras.data._examples import label_names
from kexue_keras.data._tables import Table
from kexue_keras.errors import UserError


def table(rows, names=None):
    return Table("f.tsv", "tsv", names, [list(row) for row in rows], list(range(1, len(rows) + 1)), names is None)


PAIRS = [("一二三%d" % i, "四五%d" % i, "01"[i % 2]) for i in range(12)]


@pytest.mark.parametrize(
    "rows, names, given, expected",
    [
        ([("a", "b")], ["label", "text_a"], {}, ("text_a", None, "label")),
        ([("a", "b", "c")], ["label", "label_desc", "sentence"], {}, ("sentence", None, "label")),
        ([("a", "b", "c")], ["sentence1", "sentence2", "label"], {}, ("sentence1", "sentence2", "label")),
        ([("a", "b")], ["Text", "whatever"], {}, ("Text", None, "whatever")),
        ([("a", "b", "c")], ["x", "y", "z"], {"text": "z", "label": "x"}, ("z", None, "x")),
        ([("a", "b", "c")], ["x", "y", "z"], {"text": 3, "label": "1"}, ("z", None, "x")),
        ([("好的%d" % i, "01"[i % 2]) for i in range(12)], None, {}, (0, None, 1)),
        ([("01"[i % 2], "好的%d" % i) for i in range(12)], None, {}, (1, None, 0)),
        (PAIRS, None, {}, (0, 1, 2)),
        ([("prompt", "标题%d" % i, "01"[i % 2]) for i in range(12)], None, {}, (1, None, 2)),
        (PAIRS, None, {"text": 2, "label": 3}, (1, None, 2)),
    ],
)
def test_choice(rows, names, given, expected):
    columns = choose_columns(table(rows, names), **given)
    assert (columns.text, columns.text_b, columns.label) == expected


@pytest.mark.parametrize(
    "rows, names, given, words",
    [
        ([("a", "b")], ["label", "text"], {"text": "body"}, "no column 'body'; there are: label, text"),
        ([("a", "b")], None, {"text": "body"}, "has no header"),
        ([("a", "b")], None, {"text": 3}, "no column 3"),
        ([("a", "b", "c")], ["x", "y", "z"], {}, "which column is the text? There are: x, y, z"),
        ([("a", "b", "c")], ["text", "u", "v"], {}, "which column is the label?"),
        ([("好%d" % i,) for i in range(12)], None, {}, "a text and a label are needed, but there is 1 column"),
        ([("a%d" % i, "b%d" % i) for i in range(12)], None, {}, "which of the 2 columns is the label?"),
        ([("a%d" % i, "b%d" % i, "c%d" % i, "01"[i % 2]) for i in range(12)], None, {}, "is the text?"),
    ],
)
def test_unclear_or_wrong_columns(rows, names, given, words):
    with pytest.raises(UserError) as caught:
        choose_columns(table(rows, names), **given)
    assert words in str(caught.value)


INDEXED = [(str(i), "很好%d" % i, "01"[i % 2]) for i in range(12)]
SHUFFLED = [(str((7 * i) % 12), text, label) for i, (_, text, label) in enumerate(INDEXED)]
NAMES = ("text", "label")


@pytest.mark.parametrize(
    "rows, names, given, expected",
    [
        # Without a header it is refused, unless the user names the text.
        (INDEXED, None, {}, "column 1 looks like the index that pandas writes"),
        (SHUFFLED, None, {}, "column 1 looks like the index"),
        ([row[:2] for row in INDEXED], None, {"need_label": False}, "column 1 looks like the index"),
        (INDEXED, None, {"label": 3}, "column 1 looks like the index"),
        (INDEXED, None, {"text": 2, "label": 3}, (1, None, 2)),
        (INDEXED, None, {"text": 1, "label": 3}, (0, None, 2)),
        # With one it is left out, and is no label and no second text either.
        (INDEXED, ("", "text", "label"), {}, ("text", None, "label")),
        (INDEXED, ("Unnamed: 0", "body", "label"), {}, ("body", None, "label")),
        (INDEXED, ("id", "body", "label"), {}, ("body", None, "label")),
        ([row[:2] for row in INDEXED], ("", "text"), {}, "which column is the label?"),
        ([row[:2] for row in INDEXED], ("id", "text"), {}, "which column is the label?"),
        ([row[::2] for row in INDEXED], ("", "label"), {}, "which column is the text?"),
        ([row[:2] for row in INDEXED], ("text", "label"), {}, "'text' looks like the index"),
        # Numbers that repeat, do not count or stand alone are what they were.
        ([("12"[i % 2], "好%d" % i) for i in range(12)], None, {}, (1, None, 0)),
        ([(str(i * i), "好%d" % i, "01"[i % 2]) for i in range(5)], None, {}, (0, 1, 2)),
        ([(str(i),) for i in range(12)], None, {"need_label": False}, (0, None, None)),
    ],
)
def test_the_index_of_a_table_is_no_text(rows, names, given, expected):
    read = table(rows, list(names) if names else None)
    if isinstance(expected, str):
        with pytest.raises(UserError, match=re.escape(expected)):
            choose_columns(read, **given)
    else:
        columns = choose_columns(read, **given)
        assert (columns.text, columns.text_b, columns.label) == expected


def test_a_header_over_an_index_is_found(tmp_path):
    for first in ("", "Unnamed: 0"):
        path = tmp_path / "a.csv"
        rows = [(first, "说", "极")] + INDEXED
        path.write_text("".join(",".join(row) + "\n" for row in rows), encoding="utf-8")
        assert read_table(path).names == [first, "说", "极"]


@pytest.mark.parametrize("names", [None, ["a", "b"]])
@pytest.mark.parametrize("column", ["²", "①", "--1", "-1", "0", "9" * 400, "", "1.0", 3, -2])
def test_what_is_no_number_of_a_column(names, column):
    with pytest.raises(UserError, match="no column"):
        choose_columns(table([("好", "1")], names), text=column, label="2")


# How published sets are laid out, with lines made up: name, text of the file, separator, rows, labels, pairs.
LAYOUTS = [
    ("ChnSentiCorp.tsv", 'label\ttext_a\n1\t房间很大\n0\t太"吵\n1\t不错\n', None, 3, 2, False),
    ("sentiment.data", "很好用，下次还来\t1\n坏了没人理\t0\n质量不错\t1\n", None, 3, 2, False),
    ("DuEE.csv", 'label,content\n灾害|财经,"地震，股价下跌"\n财经,公司上市\n', "|", 2, 2, False),
    ("LCQMC.data", "怎么去公园\t公园怎么走\t1\n怎么买票\t票价多少\t0\n我想看书\t我想买书\t0\n", None, 3, 2, True),
    (
        "tnews.json",
        '{"label": "108", "label_desc": "news_edu", "sentence": "高考成绩", "keywords": "", "id": 0}\n'
        '{"label": "104", "label_desc": "news_finance", "sentence": "股票", "keywords": "基金", "id": 1}\n',
        None,
        2,
        2,
        False,
    ),
    ("CSL.tsv", "一种新算法的研究\t计算机\n水稻育种\t农学\n桥梁的抗震设计\t土木\n", None, 3, 3, False),
]


@pytest.mark.parametrize("name, content, separator, rows, labels, pairs", LAYOUTS, ids=[row[0] for row in LAYOUTS])
def test_layouts_of_published_sets_need_no_options(name, content, separator, rows, labels, pairs, tmp_path):
    (tmp_path / name).write_text(content, encoding="utf-8")
    read = read_table(str(tmp_path / name))
    examples = read_examples(read, choose_columns(read), separator=separator)
    assert len(examples) == rows and len(label_names(examples)) == labels
    assert examples.is_pairs == pairs and examples.is_multilabel == (separator is not None)
