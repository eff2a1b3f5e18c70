"""Entropy normalisation: the numbers of the article, hard cases, gradients of the solution, masks."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_gradients, floatx

from kexue_keras.backend import K, keras, tf1
from kexue_keras.layers import EntropyNormalization, entropy_normalize_np

P = np.array([1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 16])
ORACLE = {
    1.0: (1.5478775582, [0.6497734083, 0.2222308562, 0.0760058088, 0.0259949634, 0.0259949634]),
    1.5: (0.5704172818, [0.3652689079, 0.2459801116, 0.1656484141, 0.1115512832, 0.1115512832]),
    0.5: (2.7756935059, [0.8520946607, 0.1244287791, 0.0181699543, 0.0026533029, 0.0026533029]),
}


def entropy(p):
    return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)


class Graph(object):
    """The layer on rows of any length, in a graph of its own, which the first test that needs it makes for all."""

    def __init__(self, dtype, **options):
        self.dtype, self.options, self.session = dtype, options, None

    def build(self):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.x = tf1.placeholder(self.dtype, (None, None))
            self.target = tf1.placeholder(self.dtype, (None,))
            self.mask = tf1.placeholder(tf.bool, (None, None))
            layer = EntropyNormalization(return_gamma=True, **self.options)
            self.output = layer.call([self.x, self.target], mask=[self.mask, None])
            self.session = tf1.Session()

    def __call__(self, x, target, mask=None):
        if self.session is None:
            self.build()
        x = np.atleast_2d(x)
        mask = np.ones(x.shape, bool) if mask is None else mask
        target = np.broadcast_to(target, len(x))
        return self.session.run(self.output, {self.x: x, self.target: target, self.mask: mask})


SINGLE, DOUBLE = Graph(tf.float32), Graph(tf.float64)
PROBABILITIES = Graph(tf.float32, from_logits=False)


def test_the_numbers_of_the_specification():
    for target, (gamma, expected) in ORACLE.items():
        p, g = entropy_normalize_np(P, target, return_gamma=True)
        np.testing.assert_allclose(g, gamma, rtol=1e-9)
        np.testing.assert_allclose(p, expected, atol=1e-10)
        for values, g in (DOUBLE(np.log(P), target), SINGLE(np.log(P), target), PROBABILITIES(7 * P, target)):
            np.testing.assert_allclose(g, [gamma], rtol=3e-6)
            np.testing.assert_allclose(values[0], expected, atol=1e-6)
    h = entropy(P)
    one_step = 1 + (1 - h) / (h**2 - (P * np.log(P) ** 2).sum())
    np.testing.assert_allclose(one_step, 1.5621942270748832, rtol=1e-12)


@given(
    st.lists(st.floats(-1e3, 1e3, width=32), min_size=2, max_size=30),
    st.floats(0.01, 0.99),
    st.sampled_from([1e-3, 1.0, 30.0]),
)
def test_the_entropy_is_the_target_and_the_order_is_kept(logits, part, scale):
    x = np.array(logits) * scale / 1e2
    ties = (x == x.max()).sum()
    lowest, highest = np.log(ties), np.log(len(x))
    target = lowest + part * (highest - lowest)
    for solve, tolerance in ((SINGLE, 4e-6), (DOUBLE, 1e-9)):
        p, gamma = solve(x, target)
        order = np.argsort(x, kind="stable")
        # Equal logits may differ in the last digit: the vector exponential and that of the rest round differently.
        assert (np.diff(p[0][order]) >= -2 * np.finfo(p.dtype).eps).all() and p[0].min() >= 0
        np.testing.assert_allclose(p.sum(), 1, atol=1e-5)
        near = x >= x.max() - 1e-4 * np.ptp(x)
        if near.sum() == ties and highest - lowest > 1e-3:
            np.testing.assert_allclose(entropy(np.float64(p[0])), target, atol=tolerance)
            np.testing.assert_allclose(solve(gamma[0] * x, target)[1], 1, rtol=2e-2)


def test_random_peaked_distributions_on_which_newton_alone_fails(rng):
    p = np.maximum(rng.dirichlet(np.full(20, 0.1), size=500), 1e-300)
    target = rng.uniform(0.05, 0.95, 500) * np.log(20)
    q, gamma = entropy_normalize_np(p, target, return_gamma=True)
    np.testing.assert_allclose(entropy(q), target, atol=1e-9)
    assert (gamma > 0).all()
    failures = 0
    for row, h in zip(p, target):
        # The article's iteration, without a bracket.
        log, g = np.log(row), 1.0
        with np.errstate(all="ignore"):
            for _ in range(50):
                y = g * log
                r = np.exp(y - y.max())
                r /= r.sum()
                now = entropy(r)
                g += g * (h - now) / (now**2 - (r * np.log(np.maximum(r, 1e-300)) ** 2).sum())
        failures += not (g > 0 and abs(now - h) < 1e-6)
    assert failures > 25
    np.testing.assert_allclose(entropy(np.float64(DOUBLE(np.log(p), target)[0])), target, atol=1e-9)
    kept = p.min(axis=1) > 1e-30
    np.testing.assert_allclose(entropy(np.float64(SINGLE(np.log(p), target)[0]))[kept], target[kept], atol=2e-5)


def test_targets_out_of_reach_are_clipped_and_flagged():
    x = np.array([[0.0, 0.0, -1.0, -np.inf], [3.0, 3.0, 3.0, 3.0]])
    for target, first, gamma in ((5.0, [1 / 3, 1 / 3, 1 / 3, 0], 0), (0.1, [0.5, 0.5, 0, 0], np.inf)):
        for solve in (SINGLE, DOUBLE):
            p, g = solve(x, target)
            np.testing.assert_allclose(p, [first, [0.25] * 4], atol=1e-7)
            assert g[0] == gamma
        with np.errstate(divide="ignore"):
            p, g = entropy_normalize_np(np.exp(x), target, return_gamma=True)
        np.testing.assert_allclose(p[0], first, atol=1e-12)
        assert g[0] == gamma


def test_masks_and_rows_without_entries(rng):
    x = rng.randn(3, 6)
    mask = np.array([[1, 0, 1, 1, 0, 1], [0] * 6, [1] * 6], bool)
    p, _ = SINGLE(x, 0.8, mask)
    assert (p[~mask] == 0).all() and np.isfinite(p).all()
    np.testing.assert_allclose(p[0][mask[0]], SINGLE(x[0][mask[0]], 0.8)[0][0], atol=1e-6)
    np.testing.assert_allclose(entropy(np.float64(p))[[0, 2]], 0.8, atol=1e-5)


def test_axis_and_shapes_of_the_numpy_form(rng):
    p = rng.dirichlet(np.ones(5), size=(3, 2))
    moved = entropy_normalize_np(np.moveaxis(p, -1, 0), np.full((3, 2), 0.9), axis=0)
    np.testing.assert_allclose(np.moveaxis(moved, 0, -1), entropy_normalize_np(p, 0.9), atol=1e-12)
    same = entropy_normalize_np(p, entropy(p))
    np.testing.assert_allclose(same, p, atol=1e-8)
    np.testing.assert_allclose(entropy_normalize_np(moved, 0.9, axis=0), moved, atol=1e-8)


def test_the_gradient_is_that_of_the_solution(rng):
    with floatx("float64"):
        x, target = K.variable(2 * rng.randn(4, 7)), K.variable([0.3, 0.9, 1.4, 1.7])
        p = EntropyNormalization()([x, target])
        weight = K.constant(rng.randn(4, 7))
        assert_gradients(p * weight, [x, target], rng)
        # The entropy itself cannot be moved by the logits.
        h = K.sum(-p * K.log(p))
        gradient, by_target = K.batch_get_value(K.gradients(h, [x, target]))
        np.testing.assert_allclose(gradient, 0, atol=1e-9)
        np.testing.assert_allclose(by_target, 1, atol=1e-9)
        constant = EntropyNormalization(0.5, implicit_grad=False)(x)
        p, gradient = K.batch_get_value([constant, K.gradients(constant[0, 0], [x])[0]])
        _, gamma = entropy_normalize_np(np.exp(K.get_value(x)), 0.5, return_gamma=True)
        np.testing.assert_allclose(gradient[0], gamma[0] * p[0, 0] * (np.eye(7)[0] - p[0]), atol=1e-6)
        unreachable = K.gradients(K.sum(K.square(EntropyNormalization(5.0)(x))), [x])[0]
        np.testing.assert_allclose(K.eval(unreachable), 0)


def test_in_a_model_with_padding_ratio_and_float16(rng):
    ids = keras.layers.Input((None,))
    x = keras.layers.Embedding(10, 6, mask_zero=True)(ids)
    layer = EntropyNormalization(ratio=0.5)
    model = keras.models.Model(ids, layer(x))
    p = np.float64(model.predict_on_batch(np.array([[1, 2, 0], [4, 5, 6]])))
    np.testing.assert_allclose(entropy(p), 0.5 * np.log(6), atol=2e-6)
    assert model.output_shape == (None, None, 6)
    assert EntropyNormalization.from_config(layer.get_config()).get_config() == layer.get_config()
    for length in (2, 5):
        assert layer.compute_output_shape((None, length, 6)) == (None, length, 6)
    half = K.eval(EntropyNormalization(1.0)(K.constant(30 * rng.randn(2, 50), dtype="float16")))
    assert half.dtype == np.float16
    np.testing.assert_allclose(entropy(np.float64(half)), 1.0, atol=5e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(target=1.0, ratio=0.5), "two ways to say the same"),
        (dict(target=-1.0), "target must be a number >= 0, but is -1.0; .*nats"),
        (dict(ratio=1.5), r"ratio must be a number in \[0, 1\], but is 1.5; .*largest possible"),
        (dict(target=1.0, max_iterations=0), "max_iterations must be a whole number >= 1, but is 0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        EntropyNormalization(**options)


def test_wrong_inputs_are_named():
    with pytest.raises(ValueError, match="two inputs"):
        EntropyNormalization()(K.ones((2, 3)))
    with pytest.raises(ValueError, match="one input"):
        EntropyNormalization(1.0)([K.ones((2, 3)), K.ones((2,))])
    with pytest.raises(ValueError, match="p must be finite"):
        entropy_normalize_np([0.5, -0.5], 0.1)
    with pytest.raises(ValueError, match="target has the shape"):
        entropy_normalize_np(np.ones((2, 3)), np.ones(3))
    with pytest.raises(ValueError, match="target must be numbers >= 0"):
        entropy_normalize_np(np.ones((2, 3)), -1.0)
