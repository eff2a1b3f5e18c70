"""Metrics against scikit-learn, pictures with and without a font for the labels."""

import os

import numpy as np
import pytest

from kexue_keras.data import Examples
from kexue_keras.finetune import _report as report
from kexue_keras.finetune.classification._heads import HEADS

LABELS = ["好评", "差评", "中评"]


def test_measure_single(rng):
    from sklearn import metrics

    logits, targets = rng.standard_normal((60, 3)), rng.randint(0, 2, 60)
    got = report.measure(HEADS["single"], logits, targets, LABELS)
    decided = logits.argmax(axis=1)
    assert np.isclose(got["accuracy"], metrics.accuracy_score(targets, decided))
    assert np.isclose(got["micro_f1"], got["accuracy"])
    expected = metrics.f1_score(targets, decided, labels=[0, 1, 2], average="macro", zero_division=0)
    assert np.isclose(got["macro_f1"], expected)
    assert got["classes"]["中评"]["texts"] == 0
    low, high = got["accuracy_interval"]
    assert low < got["accuracy"] < high


def test_measure_multi(rng):
    from sklearn import metrics

    logits, targets = rng.standard_normal((60, 3)), rng.randint(0, 2, (60, 3)).astype("float32")
    got = report.measure(HEADS["multi"], logits, targets, LABELS)
    assert np.isclose(got["accuracy"], metrics.accuracy_score(targets, logits > 0))
    assert np.isclose(got["micro_f1"], metrics.f1_score(targets, logits > 0, average="micro"))
    assert report.confusion_matrix(HEADS["multi"], logits, targets, LABELS).shape == (3, 3)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("head", ["single", "multi"])
def test_the_scores_of_each_class_are_those_of_scikit_learn(head, seed):
    """Also of classes that are never true or never predicted."""
    from sklearn import metrics

    rng = np.random.RandomState(seed)
    logits = rng.standard_normal((12, 3)) - rng.randint(0, 3, 3)
    targets = rng.randint(0, 3, 12) if head == "single" else rng.randint(0, 2, (12, 3)).astype("float32")
    decided = HEADS[head].decide(HEADS[head].probabilities(logits))
    expected = metrics.precision_recall_fscore_support(targets, decided, labels=[0, 1, 2], zero_division=0)
    found = report.measure(HEADS[head], logits, targets, LABELS)["classes"]
    for name, *scores in zip(LABELS, *expected):
        np.testing.assert_array_max_ulp(np.array([*found[name].values()], float), np.array(scores, float), maxulp=2)
    matrix = report.confusion_matrix(HEADS[head], logits, targets, LABELS)
    if head == "single":
        np.testing.assert_array_equal(matrix, metrics.confusion_matrix(targets, decided, labels=[0, 1, 2]))
    else:
        np.testing.assert_allclose(matrix, np.stack(expected[:3], axis=1), rtol=1e-15)


@pytest.mark.parametrize("correct, total", [(0, 10), (10, 10), (7, 10), (830, 1000)])
def test_wilson_interval_solves_its_equation(correct, total):
    share, z = correct / total, 1.959964
    for bound in report.wilson_interval(correct, total):
        assert -1e-12 <= bound <= 1 + 1e-12
        assert np.isclose((share - bound) ** 2, z * z * bound * (1 - bound) / total, atol=1e-12)


@pytest.mark.parametrize("head", ["single", "multi"])
def test_pictures_and_tables(tmp_path, rng, head):
    logits = rng.standard_normal((30, 3))
    targets = rng.randint(0, 3, 30) if head == "single" else rng.randint(0, 2, (30, 3)).astype("float32")
    matrix = report.confusion_matrix(HEADS[head], logits, targets, LABELS)
    path = str(tmp_path / "confusion.png")
    assert report.draw_confusion(path, matrix, LABELS)
    assert not report.draw_confusion(path, matrix, LABELS[:-1] + ["\U0010fffd"])
    with open(path, "rb") as handle:
        assert handle.read(8) == b"\x89PNG\r\n\x1a\n"
    report.write_confusion(str(tmp_path / "confusion.tsv"), matrix, LABELS)
    lines = open(str(tmp_path / "confusion.tsv"), encoding="utf-8").read().splitlines()
    assert len(lines) == 4 and lines[1].startswith("1\t好评\t")
    history = [{"epoch": i + 1, "valid_loss": 1.0 / (i + 1), "valid_accuracy": 0.5} for i in range(14)]
    report.draw_curves(str(tmp_path / "curves.png"), list(rng.rand(50)), history, "accuracy")
    assert sorted(os.listdir(str(tmp_path))) == ["confusion.png", "confusion.tsv", "curves.png"]


def test_many_classes_and_long_names(tmp_path):
    names = ["类别%d" % i for i in range(40)]
    assert report.draw_confusion(str(tmp_path / "c.png"), np.eye(40, dtype=int), names)


def test_predictions_are_a_table(tmp_path):
    path = str(tmp_path / "p.tsv")
    pairs = Examples("f", [("a\tb", "c\nd"), ("e", "f")], ["x", "y"], [2, 3])
    report.write_predictions(path, pairs, [("x", 0.75), ("x", 0.5)])
    several = Examples("f", ["a"], [("x", "y")], [1])
    assert open(path).read().splitlines() == [
        "line\tlabel\tpredicted\tprobability\ttext\ttext_b",
        "2\tx\tx\t0.7500\ta b\tc d",
        "3\ty\tx\t0.5000\te\tf",
    ]
    report.write_predictions(path, several, [(["y", "x"], [0.9, 0.6])])
    assert open(path).read().splitlines()[1] == "1\tx|y\ty|x\t0.9000|0.6000\ta"
