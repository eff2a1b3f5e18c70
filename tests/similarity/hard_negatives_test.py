"""Mining against a brute search by the same rules, right answers, scorers, settings out of range."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from kexue_keras.similarity import Mined, mine_hard_negatives
from kexue_keras.similarity._index import unit_rows


class Vectors(object):
    """An encoder of letters by given vectors."""

    def __init__(self, vectors):
        self.vectors = {chr(97 + i): row for i, row in enumerate(unit_rows(vectors))}

    def encode(self, texts, batch_size=64):
        return np.array([self.vectors[text] for text in texts])

    def similarity(self, a, b, batch_size=64):
        return np.sum(self.encode(a) * self.encode(b), axis=1)


def angles(*degrees):
    return Vectors([[np.cos(np.radians(d)), np.sin(np.radians(d))] for d in degrees])


# Cosines with a: b .98, c .94, d .87, e .77, f .64
ROUND = angles(0, 10, 20, 30, 40, 50)


def brute(encoder, pairs, corpus, negatives, candidates, skip, margin, relative_margin, highest):
    out = []
    for question, positive in pairs:
        right = {p for q, p in pairs if q == question} | {question}
        score = float(encoder.similarity([question], [positive])[0])
        scored = [(float(encoder.similarity([question], [text])[0]), text) for text in sorted(set(corpus) - right)]
        scored = sorted(scored, key=lambda one: -one[0])[skip : skip + candidates]
        kept = [
            text
            for s, text in scored
            if (margin is None or s <= score - margin)
            and (relative_margin is None or s <= score - relative_margin * abs(score))
            and s <= highest
        ]
        out.append((question, positive, kept[:negatives]))
    return out


def test_what_the_brute_search_finds():
    @given(
        st.integers(0, 10**6),
        st.integers(1, 3),
        st.integers(1, 6),
        st.integers(0, 2),
        st.sampled_from([None, 0.0, 0.2]),
        st.sampled_from([None, 0.0, 0.1]),
        st.sampled_from([2.0, 0.5]),
    )
    def check(seed, negatives, candidates, skip, margin, relative_margin, highest):
        rng = np.random.RandomState(seed)
        encoder = Vectors(rng.randn(9, 4))
        pairs = [("abc"[i], "defg"[j]) for i, j in rng.randint(0, 3, [4, 2])]
        rules = dict(negatives=negatives, candidates=candidates, skip=skip, highest=highest)
        rules.update(margin=margin, relative_margin=relative_margin)
        found = mine_hard_negatives(encoder, pairs, list("defghi"), **rules)
        expected = brute(encoder, pairs, list("defghi"), **rules)
        assert [(one.question, one.positive, one.negatives) for one in found] == expected

    check()


def test_right_answers_are_never_negatives_and_scores_are_told():
    pairs = [("a", "b"), ("a", "c"), ("b", "e")]
    found = mine_hard_negatives(ROUND, pairs, list("aabcdef"), negatives=9, relative_margin=None, margin=0.05)
    assert [one[:3] for one in found] == [("a", "b", ["d", "e", "f"]), ("a", "c", ["d", "e", "f"]), ("b", "e", ["f"])]
    assert isinstance(found[0], Mined) and found[0].score == pytest.approx(np.cos(np.radians(10)), abs=1e-6)
    np.testing.assert_allclose(found[0].scores, np.cos(np.radians([30, 40, 50])), atol=1e-6)
    # The corpus is that of the positives, each once.
    assert mine_hard_negatives(ROUND, pairs + [("f", "c")], relative_margin=None)[-1].negatives == ["e"]
    assert mine_hard_negatives(ROUND, [("a", "f")], relative_margin=0.05)[0].negatives == []


def test_draws_come_of_the_seed():
    options = dict(negatives=2, relative_margin=None, choose="random")
    draws = {
        tuple(mine_hard_negatives(ROUND, [("a", "b")], list("cdef"), seed=i, **options)[0].negatives) for i in range(20)
    }
    assert len(draws) > 3 and all(list(one) == sorted(one) for one in draws)
    again = [mine_hard_negatives(ROUND, [("a", "b")], list("cdef"), seed=3, **options) for _ in range(2)]
    assert again[0] == again[1]


def test_a_scorer_decides():
    asked = []

    def scorer(pairs):
        asked.extend(pairs)
        return [{"b": 0.5, "c": 0.1, "d": 0.4, "e": 0.9, "f": 0.0}[text] for _, text in pairs]

    (found,) = mine_hard_negatives(ROUND, [("a", "b")], list("cdef"), negatives=9, relative_margin=0.1, scorer=scorer)
    assert found.negatives == ["d", "c", "f"] and found.score == 0.5 and found.scores == [0.4, 0.1, 0.0]
    assert asked[0] == ("a", "b") and len(asked) == 5
    with pytest.raises(ValueError, match=r"a score for each of 5 pairs, but gave an array of shape \(2, 1\)"):
        mine_hard_negatives(ROUND, [("a", "b")], list("cdef"), scorer=lambda pairs: [[1], [2]])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"negatives": 0}, "negatives must be a whole number >= 1"),
        ({"candidates": 1.5}, "candidates must be a whole number"),
        ({"skip": -1}, "skip must be a whole number >= 0"),
        ({"margin": -0.1}, "margin must be a number >= 0"),
        ({"relative_margin": 2}, "relative_margin must be a number"),
        ({"choose": "best"}, "choose must be one of 'nearest', 'random', but is 'best'"),
        ({"method": "lsh"}, "method must be one of"),
    ],
)
def test_settings(options, message):
    with pytest.raises(ValueError, match=message):
        mine_hard_negatives(ROUND, [("a", "b")], list("cd"), **options)


def test_what_is_no_list_of_pairs():
    with pytest.raises(ValueError, match="no pairs"):
        mine_hard_negatives(ROUND, [])
    for pairs in (["a"], [("a",)], "ab", [("a", 1)]):
        with pytest.raises(ValueError):
            mine_hard_negatives(ROUND, pairs)
    with pytest.raises(ValueError):
        mine_hard_negatives(ROUND, [("a", "b")], "cd")
