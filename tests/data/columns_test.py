"""Choosing columns by name, by number and by what stands in them."""


import pytest

from kexue_keras.data import UserError, choose_columns, read_examples, read_table
from kexue_keras.data.examples import label_names
from kexue_keras.data.tables import Table

pytestmark = pytest.mark.one_stack  # reads files, needs no Keras


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
