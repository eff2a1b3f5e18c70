"""Intervals of paired differences: their width is right, and rows of another budget do not count."""

import numpy as np
import pytest
from intervals import (
    comparisons,
    difference,
    f1_difference,
    packed,
    packed_counts,
    resampled,
    resampled_difference,
    unpacked,
    unpacked_counts,
)


def test_answers_are_packed_whole():
    right = np.random.RandomState(0).rand(2, 2011) < 0.7
    for row in right:
        np.testing.assert_array_equal(unpacked(packed(row), 2011), row)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Accuracies that differ by 2 points, by seed (spread 1 point) and by text."""
    random, held, rounds = np.random.RandomState(1), 0, 200
    for _ in range(rounds):
        gain = 0.02 + 0.01 * random.randn(5, 1)
        hard = random.rand(1, 50)  # texts are as hard for both
        rival = hard + 0.2 * random.randn(5, 50) < 0.7
        right = np.where(random.rand(5, 50) < np.abs(gain) / 0.3, np.maximum(rival, gain > 0), rival)
        truth = 0.02 / 0.3 * (1 - 0.7)
        _, low, high = difference(right, rival)
        held += low <= truth <= high
    assert 0.85 * rounds <= held <= rounds


def test_more_seeds_and_texts_make_it_narrower():
    random = np.random.RandomState(2)

    def width(seeds, texts):
        right, rival = random.rand(seeds, texts) < 0.8, random.rand(seeds, texts) < 0.8
        _, low, high = difference(right, rival)
        return high - low

    assert width(5, 2000) < width(5, 200) and width(10, 500) < width(3, 500)
    with pytest.raises(ValueError, match="two seeds or more"):
        difference([[1, 0]], [[1, 1]])
    with pytest.raises(ValueError, match=r"\(2, 3\), \(2, 2\)"):
        difference(np.zeros((2, 3)), np.zeros((2, 2)))


def row(variant, seed, right, **budget):
    return {
        "experiment": "reviews",
        "variant": variant,
        "seed": seed,
        "budget": budget,
        "accuracy": float(np.mean(right)),
        "right": packed(right),
        "texts": len(right),
        "seconds": 10.0 * seed,
    }


def test_variants_are_compared_over_the_seeds_of_both():
    rows = [row("plain", seed, [1, 0, 1, 0], epochs=3) for seed in (1, 2, 3)]
    rows += [row("EMA", seed, [1, 1, 1, 1], epochs=1) for seed in (1, 2)]  # of a budget that has changed since
    rows += [row("EMA", seed, [1, 0, 1, 1], epochs=3) for seed in (2, 3, 4)]
    rows += [row("frozen", 1, [1, 0, 1, 1])]
    plain, average, frozen = comparisons(rows)
    assert plain["variant"] == "plain" and "difference" not in plain and plain["seconds"] == 20
    assert list(average["scores"]) == [0.75] * 3 and average["difference"][0] == 0.25
    assert "difference" not in frozen and list(frozen["scores"]) == [0.75]


def test_the_draws_of_a_score_give_the_interval_of_the_answers_themselves():
    random = np.random.RandomState(4)
    right, rival = (random.rand(5, 400) < share for share in (0.8, 0.7))
    sides = [[resampled(lambda places: one[places].mean(), 400) for one in side] for side in (right, rival)]
    drawn = resampled_difference(right.mean(axis=1), rival.mean(axis=1), *sides)
    # By 1,000 draws instead of 2,000.
    np.testing.assert_allclose(drawn, difference(right, rival), atol=6e-3)
    with pytest.raises(ValueError, match="two seeds"):
        resampled_difference([0.5], [0.4], sides[0][:1], sides[1][:1])


def test_f1_of_many_texts_and_of_none():
    random = np.random.RandomState(3)
    counts, rival = random.randint(0, 4, (2, 3, 400, 3))
    with np.errstate(all="raise"):
        mean, low, high = f1_difference(counts, rival)
        assert f1_difference(counts * 0, counts * 0)[0] == 0

    def f1(c):
        found, wrong, missed = c.reshape(-1, 3).sum(axis=0)
        return found / (found + (wrong + missed) / 2)

    assert abs(mean - (f1(counts) - f1(rival))) < 1e-12 and low < mean < high
    np.testing.assert_array_equal(unpacked_counts(packed_counts(counts[0])), counts[0])
    with pytest.raises(ValueError, match="at most 15"):
        packed_counts([[16, 0, 0]])
    with pytest.raises(ValueError, match="two seeds"):
        f1_difference(counts[:1], rival[:1])
    rows = [
        dict(row(v, seed, [1]), micro_f1=0.5, counts=packed_counts(c[seed]))
        for v, c in (("sigmoid", rival), ("ZLPR", counts))
        for seed in (0, 1, 2)
    ]
    for one in rows:
        del one["accuracy"], one["right"]
    _, zlpr = comparisons(rows, plain_of={"reviews": "sigmoid"}.get)
    assert zlpr["difference"] == (mean, low, high) and list(zlpr["scores"]) == [0.5] * 3
