"""Scores of rankings: by hand, scikit-learn's NDCG, sentence-transformers' numbers, what is refused."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from sklearn.metrics import ndcg_score

from kexue_keras.similarity import retrieval_scores

PEER = {"recall@1": 0.0, "hit@1": 0.0, "mrr@1": 0.0, "ndcg@1": 0.0}
PEER.update({"recall@5": 0.27777777777777773, "hit@5": 0.5, "mrr@5": 0.15833333333333333, "ndcg@5": 0.1475070107834924})
PEER.update({"recall@10": 0.3611111111111111, "hit@10": 2 / 3, "mrr@10": 0.175, "ndcg@10": 0.17704689191416703})


def test_by_hand():
    found = retrieval_scores([list("bxacy")], [{"a", "c", "z"}], k=[1, 3, 4])
    assert found["recall@1"] == found["mrr@1"] == found["ndcg@1"] == found["hit@1"] == 0
    assert found["recall@3"] == pytest.approx(1 / 3) and found["mrr@3"] == pytest.approx(1 / 3) and found["hit@3"] == 1
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert found["ndcg@4"] == pytest.approx((1 / np.log2(4) + 1 / np.log2(5)) / ideal)


@given(st.integers(2, 8), st.integers(1, 4), st.integers(0, 10**6), st.integers(1, 9))
def test_ndcg_is_that_of_scikit_learn(n, queries, seed, k):
    rng = np.random.RandomState(seed)
    order = np.array([rng.permutation(n) for _ in range(queries)])
    right = [set(rng.choice(n, rng.randint(1, n + 1), replace=False)) for _ in range(queries)]
    gains = np.array([[float(i in one) for i in range(n)] for one in right])
    scores = -np.argsort(order, axis=1).astype(float)
    found = retrieval_scores(order.tolist(), right, k=[k])
    assert found["ndcg@%d" % k] == pytest.approx(ndcg_score(gains, scores, k=k), abs=1e-12)
    assert 0 <= found["mrr@%d" % k] <= found["hit@%d" % k] <= 1 and found["recall@%d" % k] <= found["hit@%d" % k]


def test_numbers_of_sentence_transformers():
    # Its InformationRetrievalEvaluator (6.2.0) on these cosines.
    rng = np.random.RandomState(11)
    order = np.argsort(-rng.randn(6, 20), axis=1)
    right = [set(rng.choice(20, 1 + i % 3, replace=False).tolist()) for i in range(6)]
    found = retrieval_scores(order.tolist(), right, k=[1, 5, 10])
    for name, value in PEER.items():
        assert found[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize(
    "ranked, relevant, message",
    [
        ([], [], "0 rankings"),
        ([["a"]], [], "1 rankings and 0 sets"),
        ([["a"]], [set()], "query 0 has no right answer"),
        ([["a", "a"]], [{"a"}], "query 0 has something twice"),
    ],
)
def test_refused(ranked, relevant, message):
    with pytest.raises(ValueError, match=message):
        retrieval_scores(ranked, relevant)
    with pytest.raises(ValueError, match="k must be a whole number >= 1"):
        retrieval_scores([["a"]], [{"a"}], k=[0])
