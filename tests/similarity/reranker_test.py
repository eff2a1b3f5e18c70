"""Rankings by a classifier of pairs: order, ties, labels, what it refuses."""

import numpy as np
import pytest

from kexue_keras.errors import UserError
from kexue_keras.finetune import Classifier
from kexue_keras.similarity import Hit, Reranker


class Letters(Classifier):
    """Says 'same' by how many letters two texts share."""

    def __init__(self, labels=("other", "same"), pairs=True):
        self.labels, self.pairs = list(labels), pairs

    def probabilities(self, texts):
        shared = [len(set(a) & set(b)) / 10 for a, b in texts]
        return np.array([[1 - p, p] for p in shared]).reshape(-1, 2)


def test_the_likeliest_first():
    reranker = Reranker(Letters(), label="same")
    np.testing.assert_allclose(reranker.score([("abc", "cba"), ("abc", "x")]), [0.3, 0.0])
    found = reranker.rank("abcd", ["x", "ab", "abc", "cd"])
    assert found == [Hit(2, "abc", 0.3), Hit(1, "ab", 0.2), Hit(3, "cd", 0.2), Hit(0, "x", 0.0)]
    assert reranker.rank("abcd", ["x", "ab", "abc"], k=1) == found[:1]
    assert reranker.rank("abcd", []) == []
    assert Reranker(Letters(labels=["0", "1"])).column == 1


def test_refused():
    with pytest.raises(UserError, match="labels single texts; a reranker takes one of pairs"):
        Reranker(Letters(pairs=False))
    with pytest.raises(UserError, match="no label '1'; the model has other, same"):
        Reranker(Letters())
