"""Labels and the split."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras.data import Examples, choose_columns, read_examples, stratified_split
from kexue_keras.data._examples import check_labels, check_no_header_taken_for_data, label_names
from kexue_keras.data._tables import Table
from kexue_keras.errors import UserError


def examples(labels, texts=None):
    texts = texts or ["t%d" % i for i in range(len(labels))]
    return Examples("f.tsv", texts, labels, list(range(1, len(labels) + 1)))


def test_label_order():
    assert label_names(examples(["10", "9", "-1"])) == ["-1", "9", "10"]
    assert label_names(examples(["b", "a", "b"])) == ["a", "b"]
    assert label_names(examples([("b",), ("a", "c")])) == ["a", "b", "c"]
    with pytest.raises(UserError, match="only one class"):
        label_names(examples(["a", "a"]))


# Digits of all kinds, signs in all places, in labels as people write them.
NUMERALS = st.text(st.sampled_from("0127-①②²³Ⅳ四１٣ "), min_size=1, max_size=5)


@given(st.lists(st.one_of(NUMERALS, st.text(min_size=1, max_size=30)), min_size=2, max_size=6, unique=True))
def test_any_labels_have_an_order(names):
    names = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if len(names) > 1:
        ordered = label_names(examples(names))
        assert sorted(ordered) == sorted(names)
        if all(re.fullmatch("-?[0-9]{1,9}", name) for name in names):
            assert [int(name) for name in ordered] == sorted(map(int, names))


def test_labels_that_look_like_numbers():
    assert label_names(examples(["②", "①"])) == ["①", "②"]
    assert label_names(examples(["²", "10", "9"])) == ["10", "9", "²"]
    assert label_names(examples(["--1", "-1"])) == ["--1", "-1"]
    assert label_names(examples(["9" * 5000, "1"])) == ["1", "9" * 5000]


def test_an_empty_separator_is_refused():
    table = Table("f.csv", "csv", ["label", "text"], [["a", "好"], ["b", "坏"]], [2, 3], False)
    with pytest.raises(UserError, match="--label-separator is empty"):
        read_examples(table, choose_columns(table), separator="")


def test_unknown_label_has_its_line():
    with pytest.raises(UserError) as caught:
        check_labels(examples(["a", "c"]), ["a", "b"], "train.tsv")
    assert str(caught.value) == "f.tsv:2: unknown label 'c'; train.tsv has a, b"


def test_several_labels_in_a_cell():
    table = Table("f.csv", "csv", ["label", "text"], [["b|a|b", "好"], ["c", "坏"]], [2, 3], False)
    read = read_examples(table, choose_columns(table), separator="|")
    assert read.labels == [("a", "b"), ("c",)]
    assert read.is_multilabel
    table.rows[1][0] = "c|"
    with pytest.raises(UserError) as caught:
        read_examples(table, choose_columns(table), separator="|")
    assert str(caught.value) == "f.csv:3: the label is missing"


def test_a_header_with_unusual_names_is_asked_about():
    rows = [["评", "极性"]] + [["好%d" % i, "01"[i % 2]] for i in range(20)]
    table = Table("f.tsv", "tsv", None, rows, list(range(1, 22)), True)
    read = read_examples(table, choose_columns(table))
    with pytest.raises(UserError, match="--header yes"):
        check_no_header_taken_for_data(table, read)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 2)), min_size=25, max_size=80), st.integers(0, 5))
def test_split_parts_rows_and_never_equal_texts(rows, seed):
    whole = examples(["abc"[label] for _, label in rows], ["t%d" % text for text, _ in rows])
    try:
        first, second = stratified_split(whole, 0.2, seed)
    except UserError as error:
        assert "--valid" in str(error)
        return
    assert not set(first.texts) & set(second.texts)
    assert sorted(first.lines + second.lines) == whole.lines
    assert len(second) > 0
    again = stratified_split(whole, 0.2, seed)
    assert (again[0].lines, again[1].lines) == (first.lines, second.lines)


def test_split_keeps_the_shares_and_leaves_rare_labels_in_training():
    labels = ["a"] * 300 + ["b"] * 100 + ["rare"]
    first, second = stratified_split(examples(labels), 0.1, 3)
    assert len(second) == 40
    assert abs(second.labels.count("b") - 10) <= 1
    assert first.labels.count("rare") == 1
    assert np.isclose(first.labels.count("a") / len(first), 0.75, atol=0.01)


def test_too_few_to_split():
    with pytest.raises(UserError, match="give --valid"):
        stratified_split(examples(["a", "b"]), 0.1, 0)
