"""Scored pairs: what files look like, what is refused with its line, splits and batches that part no pair."""

import gzip

import numpy as np
import pytest

from kexue_keras.data import Examples, PairBatches, read_scored_pairs, split_pairs
from kexue_keras.errors import UserError

ROWS = [("今天天气不错", "今天天气很好", "4.5"), ("我喜欢北京", "我不喜欢北京", "1"), ("电影不错", "电影很好", "5")]


def write(path, rows, separator="\t"):
    text = "".join(separator.join(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode("utf-8")))
    else:
        path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    "name, rows, separator, options",
    [
        ("a.data", ROWS, "\t", {}),
        ("a.data.gz", ROWS, "\t", {"score_range": (0, 5)}),
        ("b.csv", [("sentence1", "score", "sentence2")] + [(a, s, b) for a, b, s in ROWS], ",", {}),
        ("c.tsv", [("问", "相似度", "答")] + [(a, s, b) for a, b, s in ROWS], "\t", {"text": "问"}),
        ("d.tsv", [("x", s, a, b) for a, b, s in ROWS], "\t", {"text": 3, "text_b": "4", "score": 2}),
        ("e.tsv", [(s, a, b) for a, b, s in ROWS], "\t", {}),
        ("f.jsonl", [('{"query": "%s", "query2": "%s", "label": %s}' % row,) for row in ROWS], "\t", {}),
    ],
)
def test_pairs_are_found(tmp_path, name, rows, separator, options):
    pairs, _ = read_scored_pairs(write(tmp_path / name, rows, separator), **options)
    assert pairs.texts == [(a, b) for a, b, _ in ROWS] and pairs.labels == [4.5, 1, 5]


@pytest.mark.parametrize(
    "rows, options, message",
    [
        ([("今天天气不错",)] * 3, {}, r"a.tsv:1: 1 column\(s\): 今天天气不错; a pair file has two texts and a number"),
        ([("a", "b")] * 3, {}, r"a.tsv:1: 2 column\(s\)"),
        (ROWS[:2] + [("a", "b", "好")], {}, "a.tsv:3: the score is '好'; a number is needed"),
        (ROWS + [("a", "b", "nan")], {}, "a.tsv:4: the score is 'nan'; a number is needed"),
        (ROWS + [("a", "b", "")], {}, "a.tsv:4: the score is ''"),
        (ROWS, {"score_range": (0, 4.5)}, r"a.tsv:3: the score 5 lies outside of the declared range 0 to 4.5"),
        (ROWS + [("a", " ", "3")], {}, "a.tsv:4: the text is empty"),
        ([("1", "2", "3")] * 2, {}, "which of the 3 columns is the score"),
        ([("a", "b", "c", "3")] * 2, {}, "which of the 4 columns are the texts"),
        ([("text", "other", "more", "score"), ("a", "b", "c", "3")], {}, "which column is the second text"),
        (ROWS, {"text": 7}, "no column '?7"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(tmp_path, rows, options, message):
    with pytest.raises(UserError, match=message):
        read_scored_pairs(write(tmp_path / "a.tsv", rows), **options)


def test_pairs_without_scores(tmp_path):
    path = write(tmp_path / "a.tsv", [row[:2] for row in ROWS])
    pairs, columns = read_scored_pairs(path, need_score=False)
    assert pairs.labels is None and columns.label is None and len(pairs) == 3
    with pytest.raises(UserError, match="two texts are needed"):
        read_scored_pairs(write(tmp_path / "b.tsv", [("a",)]), need_score=False)


def test_a_split_parts_no_texts_that_belong_together():
    texts = [("a%d" % (i // 3), "b%d" % i) for i in range(60)]
    whole = Examples("f", texts, list(range(60)), list(range(60)))
    first, second = split_pairs(whole, 0.2, seed=3)
    assert 10 <= len(second) <= 14 and len(first) + len(second) == 60
    assert not {t for p in first.texts for t in p} & {t for p in second.texts for t in p}
    again = split_pairs(whole, 0.2, seed=3)[1]
    assert again.texts == second.texts and split_pairs(whole, 0.2, seed=4)[1].texts != second.texts
    # All joined by one text: then only equal pairs hold together.
    star = Examples("f", [("a", "b%d" % (i // 2)) for i in range(20)], [0] * 20, list(range(20)))
    first, second = split_pairs(star, 0.2, seed=1)
    assert len(second) == 4 and not set(first.texts) & set(second.texts)
    with pytest.raises(UserError, match="too few"):
        split_pairs(star.take([0, 1]), 0.5, seed=0)


@pytest.mark.parametrize("positives", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_split_of_few_positives_leaves_some_in_both_parts(positives, seed):
    scores = [1.0] * positives + [0.0] * (60 - positives)
    whole = Examples("f", [("a%d" % i, "b%d" % i) for i in range(60)], scores, list(range(60)))
    parts = split_pairs(whole, 0.1, seed)
    assert [set(part.labels) for part in parts] == [{0.0, 1.0}] * 2
    assert 4 <= len(parts[1]) <= 8
    # A number that parts the scores counts as two classes.
    graded = Examples("f", whole.texts, [5 * s + i % 7 / 10 for i, s in enumerate(scores)], whole.lines)
    parts = split_pairs(graded, 0.1, seed, [score > 4 for score in graded.labels])
    assert all(min(part.labels) < 4 < max(part.labels) for part in parts)


def test_of_a_single_positive_training_has_it():
    lone = Examples("f", [("a%d" % i, "b%d" % i) for i in range(30)], [1.0] + [0.0] * 29, list(range(30)))
    for seed in range(4):
        first, second = split_pairs(lone, 0.1, seed)
        assert len(second) == 3 and len(first) == 27 and 1.0 in first.labels


@pytest.mark.parametrize(
    "rows, options, message",
    [
        ([(str(i), "a%d" % i, "b%d" % i, "01"[i % 2]) for i in range(12)], {}, "column 1 looks like the index"),
        ([(str(i), "a%d" % i, "b%d" % i) for i in range(12)], {}, "column 1 looks like the index"),
        ([(str(i), "a%d" % i, "b%d" % i) for i in range(12)], {"need_score": False}, "column 1 looks like the index"),
        ([("", "text", "score")] + [(str(i), "a%d" % i, "1") for i in range(12)], {}, "which column is the second"),
    ],
)
def test_the_index_of_a_table_is_no_text_and_no_score(tmp_path, rows, options, message):
    with pytest.raises(UserError, match=message):
        read_scored_pairs(write(tmp_path / "a.tsv", rows), **options)


def test_batches_keep_pairs_together(rng):
    encoded = [([i + 1] * n, [0] * n) for i, n in enumerate(rng.randint(2, 30, 22))]
    batches = PairBatches(encoded, batch_size=4, max_length=32, seed=1)
    rows = batches.epoch(0)
    assert len(batches) == len(rows) == 3 and sorted(map(len, rows)) == [6, 8, 8]
    assert all(np.array_equal(r[::2] + 1, r[1::2]) and not (r[::2] % 2).any() for r in rows)
    assert sorted(np.concatenate(rows)) == list(range(22))
    tokens, segments = batches.inputs(rows[0])
    assert tokens.shape == segments.shape and list(tokens[:, 0]) == [i + 1 for i in rows[0]]
