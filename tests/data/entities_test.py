"""Files with entities: CoNLL and JSON lines, what is refused with file and line, what is read all the same."""

import gzip
import json
import os

import pytest

from kexue_keras.data import read_entities
from kexue_keras.data._entities import check_flat, is_flat, joined
from kexue_keras.errors import UserError

RESUME = "/work/shared/data/resume_ner"


def write(path, text):
    with open(str(path), "w", encoding="utf-8") as handle:
        handle.write(text)
    return str(path)


def jsonl(path, *rows):
    return write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def test_conll(tmp_path):
    text = "-DOCSTART- O\n\n我 O\r\n在 O\r\n北 B-LOC\r\n京 E-LOC\r\n\n\n李\tS-PER\nＡ\tO\n   \n\u3000 O\n  O\n好 nn S-PER\n"
    examples = read_entities(write(tmp_path / "a.bmes", text))
    assert examples.texts == ["我在北京", "李Ａ", "\u3000 好"]
    assert examples.labels == [((2, 4, "LOC"),), ((0, 1, "PER"),), ((2, 3, "PER"),)]
    assert examples.lines == [3, 9, 12]
    with gzip.open(str(tmp_path / "b.gz"), "wb") as handle:
        handle.write(text.encode("utf-8"))
    assert read_entities(tmp_path / "b.gz").labels == examples.labels


def test_words_have_blanks_between_them(tmp_path):
    text = "John B-PER\nSmith I-PER\nlives O\nin O\n上 B-LOC\n海 I-LOC\nIBM B-ORG\n"
    examples = read_entities(write(tmp_path / "a.txt", text))
    assert examples.texts == ["John Smith lives in上海IBM"]
    assert [examples.texts[0][s:e] for s, e, _ in examples.labels[0]] == ["John Smith", "上海", "IBM"]
    assert joined("M B A".split())[0] == "MBA"


def test_jsonl(tmp_path):
    rows = [
        {
            "text": "我在北京大学😀",
            "entities": [{"start": 2, "end": 6, "label": "ORG"}, {"start": 2, "end": 4, "label": "LOC"}],
        },
        {"text": "好", "entities": []},
        {"text": "北京", "entities": [{"start": 0, "end": 2, "label": " LOC ", "text": "北京", "score": 0.5}] * 2},
    ]
    examples = read_entities(jsonl(tmp_path / "a.jsonl", *rows))
    assert examples.labels == [((2, 4, "LOC"), (2, 6, "ORG")), (), ((0, 2, "LOC"),)]
    assert not is_flat(examples) and is_flat(examples.take([1, 2]))
    with pytest.raises(UserError, match=r"a.jsonl:1: the entities LOC 2-4 and ORG 2-6 overlap, and no; yes"):
        check_flat(examples, "no", "yes")
    # Of another name, with other keys.
    other = jsonl(tmp_path / "b.data", {"t": "北京", "e": [{"start": 0, "end": 1, "label": "x"}]})
    assert read_entities(other, text="t", entities="e").labels == [((0, 1, "x"),)]


@pytest.mark.parametrize(
    "entities, message",
    [
        ([{"start": 0, "end": 2}], r"entities\[0\] is .*\"label\": \"LOC\"} is needed"),
        ("北", "entities is '北'; a list is needed"),
        (None, "entities is None"),
        ([{"start": 0, "end": 9, "label": "x"}], r"entities\[0\] goes from 0 to 9; the text has 4 characters"),
        ([{"start": 2, "end": 2, "label": "x"}], "goes from 2 to 2"),
        ([{"start": -1, "end": 2, "label": "x"}], "goes from -1 to 2"),
        ([{"start": 0.0, "end": 2, "label": "x"}], "goes from 0.0 to 2"),
        ([{"start": True, "end": 2, "label": "x"}], "goes from True to 2"),
        ([{"start": 0, "end": 2, "label": " "}], "the label of .* is ' '"),
        ([{"start": 0, "end": 2, "label": 3}], "the label of .* is 3"),
        ([{"start": 2, "end": 3, "label": "x"}], "from 2 to 3 is blank"),
        ([{"start": 0, "end": 1, "label": "x", "text": "北京"}], "from 0 to 1 there is '北'; are these characters"),
    ],
)
def test_jsonl_that_is_refused(tmp_path, entities, message):
    path = jsonl(tmp_path / "a.jsonl", {"text": "好", "entities": []}, {"text": "北京 x", "entities": entities})
    with pytest.raises(UserError, match="a.jsonl:2: .*" + message):
        read_entities(path)


@pytest.mark.parametrize(
    "text, message",
    [
        ("好 O\n北\n", "a.bmes:2: only '北'; a character and its tag are needed"),
        ("好 O\n\n北 X\n", "a.bmes:3: the tag is 'X'"),
        ("好 O\n\n北 O\n京 I-LOC\n", "a.bmes:4: I-LOC comes after O"),
        ("", "a.bmes: the file is empty"),
        ("\n\n", "a.bmes: the file is empty"),
    ],
)
def test_conll_that_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_entities(write(tmp_path / "a.bmes", text))


def test_other_refusals(tmp_path):
    path = jsonl(tmp_path / "a.jsonl", {"text": " ", "entities": []})
    with pytest.raises(UserError, match="a.jsonl:1: text is ' '; a text is needed"):
        read_entities(path)
    with pytest.raises(UserError, match="no 'spans'; there are: text, entities"):
        read_entities(path, entities="spans")
    conll = write(tmp_path / "a.bmes", "好 O\n")
    with pytest.raises(UserError, match="this file is CoNLL"):
        read_entities(conll, text="t")
    with pytest.raises(UserError, match="--format tsv does not go with --task ner"):
        read_entities(conll, format="tsv")
    with pytest.raises(UserError, match="no such file"):
        read_entities(tmp_path / "none.bmes")


def test_a_few_broken_tags_in_many_are_told(tmp_path):
    good, said = "北 B-LOC\n京 E-LOC\n\n" * 200, []
    path = write(tmp_path / "a.bmes", good + "京 E-LOC\n好 O\n")
    examples = read_entities(path, say=said.append)
    assert examples.labels[-1] == ((0, 1, "LOC"),)
    assert (
        len(said) == 1 and "a.bmes:601: E-LOC comes after the beginning of the text" in said[0] and "1 such" in said[0]
    )


@pytest.mark.skipif(not os.path.isdir(RESUME), reason="no data of the experiments here")
def test_resume_ner():
    said = []
    train = read_entities(os.path.join(RESUME, "train.char.bmes.gz"), say=said.append)
    assert len(train) == 3821 and len(said) == 1 and "62390" in said[0]
    assert len({span[2] for spans in train.labels for span in spans}) == 8 and is_flat(train)
