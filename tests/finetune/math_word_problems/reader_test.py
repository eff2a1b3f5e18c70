"""Reading Ape210K: what is kept, what is dropped and why; the counts of the real files where they are there."""

import gzip
import json
import os

import numpy as np
import pytest
from conftest import ROOT

from kexue_keras.errors import UserError
from kexue_keras.finetune.math_word_problems import Ape210kReader, safe_eval, strip_brackets
from kexue_keras.finetune.math_word_problems._answers import counts_whole_things

DATA = os.path.join(ROOT, "..", "shared", "data", "ape210k")
ROWS = [
    {"id": "1", "original_text": "把135本平均分给3个班，每班多少本？", "ans": "45", "equation": "x=(135)/3"},
    {"id": "2", "original_text": "看了(1/5)，还剩几分之几？", "ans": "(4/5)", "equation": "x=1-(1/5)"},
    {"id": "3", "original_text": "错的", "ans": "4", "equation": "x=1+1"},
    {"id": "4", "original_text": "没有", "ans": "4", "equation": "x=1/0"},
]


def write(path, rows):
    with gzip.open(str(path), "wt", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")
    return str(path)


def test_problems_are_kept_if_equation_and_answer_agree(tmp_path):
    reader = Ape210kReader(write(tmp_path / "a.json.gz", ROWS))
    assert [p.equation for p in reader] == ["135/3", "1-1/5"] and len(reader) == 2
    assert [float(p.answer) for p in reader] == [45, 0.8]
    assert reader.problems[1].question == "看了1/5，还剩几分之几？"
    assert set(reader.dropped) == {"3", "4"} and "zero" in reader.dropped["4"] and "4" in reader.dropped["3"]
    assert reader.longer_than(15) == [reader.problems[0]]


@pytest.mark.parametrize("missing", ["original_text", "equation", "ans"])
def test_a_missing_field_names_the_line(tmp_path, missing):
    rows = [dict(row) for row in ROWS]
    del rows[1][missing]
    with pytest.raises(UserError, match=missing) as caught:
        Ape210kReader(write(tmp_path / "a.json.gz", rows))
    assert "2" in str(caught.value)


def test_no_problem_left_and_no_file(tmp_path):
    with pytest.raises(UserError, match="none of the 2"):
        Ape210kReader(write(tmp_path / "a.json.gz", ROWS[2:]))
    with pytest.raises(UserError):
        Ape210kReader(str(tmp_path / "b.json"))
    with pytest.raises(ValueError, match="brackets"):
        Ape210kReader(str(tmp_path / "b.json"), brackets="all")


@pytest.fixture(scope="module")
def real():
    if not os.path.isdir(DATA):
        pytest.skip("Ape210K is not there")
    found = {}
    for part in ("valid", "test"):
        whole = found[part, "none"] = Ape210kReader(os.path.join(DATA, part + ".ape.json.gz"), brackets="none").problems
        for rule in ("value", "meaning"):
            found[part, rule] = [p._replace(equation=strip_brackets(p.equation, rule=rule)) for p in whole]
    return found


def mean_length(reader):
    return round(float(np.mean([len(p.equation) for p in reader])), 3)


@pytest.mark.together
def test_counts_of_the_article(real):
    valid, test = real["valid", "none"], real["test", "none"]
    assert (len(valid), len(test)) == (4999, 4998)
    for part, wanted in (("valid", {"1219785"}), ("test", {"323674", "97912"})):
        with gzip.open(os.path.join(DATA, part + ".ape.json.gz"), "rt", encoding="utf-8") as handle:
            assert {json.loads(line)["id"] for line in handle} - {p.id for p in real[part, "none"]} == wanted
    assert (mean_length(valid), mean_length(test)) == (14.739, 14.341)
    assert (mean_length(real["valid", "value"]), mean_length(real["test", "value"])) == (13.217, 12.843)
    assert sum("3.14" in p.equation for p in valid) == 252
    assert sum(len(p.question) > 150 for p in valid + test) == 19


@pytest.mark.together
def test_the_articles_rule_changes_what_equations_say(real):
    for part, shortened in (("valid", 2019), ("test", 2003)):
        none, value, meaning = ([p.equation for p in real[part, rule]] for rule in ("none", "value", "meaning"))
        assert sum(a != b for a, b in zip(none, value)) == shortened
        assert sum(a != b for a, b in zip(value, meaning)) == 48
    assert (mean_length(real["valid", "meaning"]), mean_length(real["test", "meaning"])) == (13.238, 12.862)


@pytest.mark.together
def test_the_articles_rule_is_not_idempotent(real):
    again = [p.id for p in real["test", "value"] if strip_brackets(p.equation, rule="value") != p.equation]
    assert again == ["275276"]
    assert not [p.id for p in real["test", "meaning"] if strip_brackets(p.equation) != p.equation]


@pytest.mark.together
def test_exact_values_agree_with_the_answers(real):
    """Fractions instead of floats change no verdict."""
    for p in real["valid", "meaning"][::5]:
        try:
            assert round(float(safe_eval(p.equation, exact=True)), 6) == round(float(p.answer), 6)
        except ValueError as error:
            assert "root" in str(error)


@pytest.mark.together
def test_how_many_questions_with_answers_that_are_not_whole(real):
    problems = real["valid", "none"] + real["test", "none"]
    assert sum(counts_whole_things(p.question) and float(p.answer) != int(p.answer) for p in problems) == 11
