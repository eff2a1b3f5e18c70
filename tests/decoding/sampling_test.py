"""cut and draw: the distributions that bert4keras' numpy code draws from; numbers that depend on the seed alone."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import tf1
from kexue_keras.decoding import cut, to_entropy
from kexue_keras.decoding._sampling import draw
from kexue_keras.layers import entropy_normalize_np


@pytest.fixture(scope="module")
def cuts():
    """function(logits, top_k, top_p) -> probabilities `[n, vocabulary]`."""
    with tf.Graph().as_default() as graph:
        logits = tf1.placeholder("float32", [None, None])
        top_k, top_p = tf1.placeholder("int32", []), tf1.placeholder("float32", [])
        found = {
            (k, p): cut(logits, top_k=top_k if k else None, top_p=top_p if p else None)
            for k in (True, False)
            for p in (True, False)
        }
    session = tf1.Session(graph=graph)

    def run(values, k, p):
        feed = {logits: values, top_k: k or 0, top_p: p or 0}
        x, tokens = session.run(found[k is not None, p is not None], feed)
        probabilities = np.zeros(values.shape)
        x = np.exp(x - x.max(-1, keepdims=True))
        np.put_along_axis(probabilities, tokens.astype(int), x / x.sum(-1, keepdims=True), -1)
        return probabilities

    yield run
    session.close()


@hypothesis.given(
    st.integers(0, 10**6), st.one_of(st.none(), st.integers(1, 12)), st.one_of(st.none(), st.floats(0.05, 1.0))
)
def test_cut_is_that_of_bert4keras(cuts, seed, top_k, top_p):
    values = 2 * np.random.RandomState(seed).randn(3, 8).astype("float32")
    found = cuts(values, top_k, top_p)
    for x, ours in zip(values.astype("float64"), found):
        p = np.exp(x) / np.exp(x).sum()
        if top_k is not None:
            p[np.argsort(-p)[top_k:]] = 0
            p /= p.sum()
        if top_p is not None:
            order = np.argsort(-p)
            before = np.cumsum(p[order]) - p[order]
            hypothesis.assume(np.abs(before - top_p).min() > 1e-5)
            p[order[before >= top_p]] = 0
            p /= p.sum()
        np.testing.assert_allclose(ours, p, atol=1e-5)
        assert (ours[p == 0] == 0).all()


@pytest.fixture(scope="module")
def entropies():
    """function(logits, entropy, cap_only) -> probabilities in float64."""
    with tf.Graph().as_default() as graph:
        logits, entropy = tf1.placeholder("float32", [None, None]), tf1.placeholder("float32", [])
        found = [to_entropy(logits, entropy, cap_only=cap_only) for cap_only in (False, True)]
    session = tf1.Session(graph=graph)
    yield lambda x, h, cap_only: np.exp(session.run(found[cap_only], {logits: x, entropy: h}).astype("float64"))
    session.close()


def entropy_of(p):
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


@pytest.mark.parametrize("target", [0.02, 0.5, 1.7, 3.0])
def test_distributions_get_the_entropy_of_the_oracle(rng, entropies, target):
    x = rng.uniform(0.5, 8, (60, 1)) * rng.randn(60, 40)
    x[:, 35:] = -np.inf
    x = x.astype("float32")
    p = np.exp(x.astype("float64"))
    p /= p.sum(-1, keepdims=True)
    found = entropies(x, target, False)
    np.testing.assert_allclose(found, entropy_normalize_np(p, target), atol=2e-6)
    np.testing.assert_allclose(entropy_of(found), target, atol=3e-6)
    assert (found[:, 35:] == 0).all()
    capped, low = entropies(x, target, True), entropy_of(p) <= target
    np.testing.assert_allclose(capped[low], p[low], rtol=2e-5)
    np.testing.assert_allclose(capped[~low], found[~low], atol=1e-7)
    if target < 3:
        assert 0 < low.sum() < 60


def test_entropies_that_cannot_be_reached(entropies):
    x = np.array([[1.0, 1.0, 0.0, -np.inf], [2.0, 1.0, 0.0, -np.inf]], "float32")
    np.testing.assert_allclose(entropies(x, 5.0, False), [[1 / 3.0] * 3 + [0]] * 2, rtol=1e-6)
    np.testing.assert_allclose(entropies(x, 0.0, False), [[0.5, 0.5, 0, 0], [1, 0, 0, 0]], rtol=1e-6)


def test_draws_follow_the_probabilities_and_the_seed():
    p = np.array([0.5, 0.3, 0.15, 0.05, 0.0])
    with tf.Graph().as_default(), tf1.Session() as session:
        seed = tf1.placeholder("int32", [2])
        logits = tf.tile(tf.math.log(tf.constant(p[None], "float32")), [20000, 1])
        tokens = tf.tile(tf.constant([[10, 11, 12, 13, 14]]), [20000, 1])
        drawn = draw(logits, tokens, seed=seed)
        first, again, other = (session.run(drawn, {seed: s}) for s in ([1, 2], [1, 2], [1, 3]))
    assert first.tolist() == again.tolist() != other.tolist()
    counts = np.bincount(first, minlength=15)[10:]
    assert counts[4] == 0
    np.testing.assert_allclose(counts / 20000.0, p, atol=0.012)  # 3.4 standard deviations of the largest
