"""Scores of entities: by hand, against seqeval and scikit-learn, intervals, what has no scores of seqeval."""

import numpy as np
import pytest

from kexue_keras.finetune.named_entities import _scores
from kexue_keras.finetune.named_entities._scores import entity_scores, micro_scores, seqeval_scores

TRUE = [{(0, 2, "LOC"), (3, 4, "PER")}, {(1, 3, "LOC")}, set()]
FOUND = [{(0, 2, "LOC"), (3, 5, "PER")}, {(1, 3, "PER"), (4, 5, "LOC")}, {(0, 1, "PER")}]


def test_by_hand():
    scores = entity_scores(TRUE, FOUND, ["LOC", "PER", "ORG"])
    assert (scores["precision"], scores["recall"], scores["f1"]) == (0.2, 1 / 3, 0.25)
    assert micro_scores(TRUE, FOUND) == {name: scores[name] for name in ("precision", "recall", "f1")}
    assert micro_scores([], [])["f1"] == 0
    assert (scores["texts"], scores["entities"], scores["found"]) == (3, 3, 5)
    classes = scores["classes"]
    assert (classes["LOC"]["precision"], classes["LOC"]["recall"], classes["LOC"]["f1"]) == (0.5, 0.5, 0.5)
    assert (classes["PER"]["f1"], classes["ORG"]["f1"], classes["ORG"]["entities"]) == (0.0, 0.0, 0)
    assert abs(scores["macro_f1"] - 0.5 / 3) < 1e-12
    for of in [scores] + list(classes.values()):
        for name in ("precision", "recall", "f1"):
            low, high = of[name + "_interval"]
            assert 0 <= low <= of[name] <= high <= 1
    assert classes["ORG"]["recall_interval"] == [0.0, 1.0]


def test_nothing_at_all_and_everything_right():
    empty = entity_scores([], [], ["x"])
    assert empty["f1"] == 0 and empty["texts"] == 0
    right = entity_scores(TRUE, TRUE, ["LOC", "PER"])
    assert right["f1"] == right["macro_f1"] == 1 and right["f1_interval"][1] == 1


def drawn(rng, texts):
    """Entities that do not overlap, in texts of 20 characters."""
    rows = []
    for _ in range(texts):
        bounds = np.sort(rng.choice(21, 6, replace=False))
        rows.append({(int(bounds[i]), int(bounds[i + 1]), str(rng.choice(list("xyz")))) for i in (0, 2, 4)})
    return rows


def test_seqeval_says_the_same_of_what_does_not_overlap():
    pytest.importorskip("seqeval")
    rng = np.random.RandomState(0)
    true, other = drawn(rng, 60), drawn(rng, 60)
    found = [a if rng.rand() < 0.5 else b for a, b in zip(true, other)]
    ours = entity_scores(true, found, list("xyz"))
    theirs = seqeval_scores(["好" * 20] * 60, true, found)
    assert 0.3 < theirs["f1"] < 0.9
    for name, value in theirs.items():
        assert abs(ours[name] - value) < 1e-12
    low, high = ours["f1_interval"]
    assert low < ours["f1"] - 0.05 and high > ours["f1"] + 0.05


def test_the_interval_holds_what_it_says():
    """Of many samples from one population, about 95% have its F1 within their interval."""
    rng, texts = np.random.RandomState(1), 80
    hits, rounds = 0, 60
    known, _scores.RESAMPLES = _scores.RESAMPLES, 200
    try:
        for _ in range(rounds):
            right = rng.rand(texts) < 0.7
            true = [{(0, 1, "x")} for _ in range(texts)]
            found = [{(0, 1, "x")} if r else {(0, 2, "x")} for r in right]
            low, high = entity_scores(true, found, ["x"])["f1_interval"]
            hits += low <= 0.7 <= high
    finally:
        _scores.RESAMPLES = known
    assert 0.85 <= hits / rounds <= 1.0


def test_why_there_are_no_scores_of_seqeval(monkeypatch):
    nested = [{(0, 3, "x"), (1, 2, "x")}]
    assert "entities overlap" in seqeval_scores(["好好好"], nested, nested)
    monkeypatch.setitem(__import__("sys").modules, "seqeval.metrics", None)
    assert "pip install seqeval" in seqeval_scores(["好"], [set()], [set()])
