"""Gradients in closed form against those op by op and finite differences."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.backend import gelu_erf
from scipy.stats import norm

from kexue_keras.backend import K, get_session, tf1
from kexue_keras.training.closed_forms import _fused_gradients, attend, gelu, multiply, normalize, scale_and_shift


def plain_normalize(x, epsilon, zero_mean=True):
    x = x - K.mean(x, axis=-1, keepdims=True) if zero_mean else x
    return tf.math.divide_no_nan(x, K.sqrt(K.mean(K.square(x), axis=-1, keepdims=True) + epsilon))


def plain_attend(q, k, v, bias, dropout):
    scores = tf.matmul(q, k, transpose_b=True)
    return tf.matmul(dropout(tf.nn.softmax(scores if bias is None else scores + bias)), v)


def both(fused, plain, inputs):
    """Values, first and second derivatives of both, evaluated."""
    results = []
    for function in (fused, plain):
        y = function(*inputs)
        loss = tf.reduce_sum(y * tf.cast(np.cos(np.arange(int(np.prod(y.shape)))).reshape(y.shape), y.dtype))
        first = tf.gradients(loss, inputs)
        second = tf.gradients(sum(tf.reduce_sum(tf.sin(g)) for g in first), inputs)
        results.append([y] + first + second)
    return get_session().run(results)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-6), ("float32", 2e-4)])
def test_values_first_and_second_derivatives(dtype, tolerance, rng):
    x = tf.constant(rng.randn(3, 5) * 2, dtype)
    # 0 is where g / x would fail, the ends are where the distribution function is 0 and 1
    ends = tf.constant(np.array([[0.0, -30.0, 30.0, -6.0, 6.0]]), dtype)
    q, k, v = (tf.constant(rng.randn(2, 3, n, 4), dtype) for n in (4, 5, 5))
    bias = tf.constant(np.where(rng.rand(2, 1, 1, 5) < 0.3, -np.inf, 0) + np.array([0.0] + [0] * 4), dtype)
    bias = tf.concat([tf.zeros_like(bias[..., :1]), bias[..., 1:]], -1)
    mask = tf.constant(rng.rand(2, 3, 4, 5) < 0.7)

    def drop(p):
        return p * tf.cast(mask, dtype) / 0.7

    cases = [
        (gelu, gelu_erf, [x]),
        (gelu, gelu_erf, [ends]),
        (lambda t: normalize(t, 1e-12), lambda t: plain_normalize(t, 1e-12), [x]),
        (lambda t: normalize(t, 1e-6, False), lambda t: plain_normalize(t, 1e-6, False), [x]),
        (lambda *t: attend(*t, bias, drop), lambda *t: plain_attend(*t, bias, drop), [q, k, v]),
        (lambda *t: attend(*t, None, drop), lambda *t: plain_attend(*t, None, drop), [q, k, v]),
    ]
    gamma, beta = (tf.constant(rng.randn(5), dtype) for _ in range(2))
    factor = tf.constant(rng.randn(3, 5), dtype)
    cases += [
        (lambda y, g, b: scale_and_shift(y, g, tf.sin(b)), lambda y, g, b: y * g + tf.sin(b), [x, gamma, beta]),
        (lambda y, gamma: scale_and_shift(tf.sin(y), gamma, None), lambda y, gamma: tf.sin(y) * gamma, [x, gamma]),
        (lambda y, b: scale_and_shift(tf.sin(y), None, tf.sin(b)), lambda y, b: tf.sin(y) + tf.sin(b), [x, beta]),
        (lambda t: multiply(tf.sin(t), factor), lambda t: tf.sin(t) * factor, [x]),
        (lambda t: multiply(tf.sin(t), factor[0, 0]), lambda t: tf.sin(t) * factor[0, 0], [x]),
    ]
    for fused, plain, inputs in cases:
        for a, b in zip(*both(fused, plain, inputs)):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * max(1, abs(b).max()))


def test_constant_rows_and_half_precision():
    flat = tf.constant(np.full([1, 4], 3.0, "float32"))
    y = normalize(flat, 0.0)
    value, gradient = get_session().run([y, tf.gradients(y * [1.0, 2.0, 3.0, 4.0], flat)[0]])
    assert (value == 0).all() and (gradient == 0).all()
    half = tf.constant(np.linspace(-4, 4, 9), "float16")
    gradient = get_session().run(tf.gradients(gelu(half), half)[0])
    assert gradient.dtype == np.float16 and np.isfinite(gradient).all() and abs(gradient[4] - 0.5) < 1e-3


def test_gelu_against_finite_differences():
    x = tf1.placeholder("float64", [None])
    y = gelu(x)
    at, step = np.linspace(-5, 5, 41), 1e-6
    ends = [get_session().run(y, {x: at + s * step}) for s in (1, -1)]
    got = get_session().run(tf.gradients(y, x)[0], {x: at})
    np.testing.assert_allclose(got, (ends[0] - ends[1]) / (2 * step), atol=1e-8)


def test_the_polynomial_is_as_exact_as_float32(monkeypatch):
    monkeypatch.setattr(_fused_gradients, "erf_is_slow", lambda: True)
    x = np.concatenate([np.linspace(-12, 12, 20001), [-1e4, -40.0, 0.0, 40.0, 1e4, np.inf]]).astype("float32")
    exact = x.astype("float64")
    given = tf.constant(x)
    y = gelu(given)
    assert not any(op.type == "Erf" for op in y.graph.get_operations())
    first = tf.gradients(y, given)[0]
    value, slope, second = get_session().run([y, first, tf.gradients(first, given)[0]])
    np.testing.assert_allclose(value, exact * norm.cdf(exact), rtol=2e-7, atol=7e-7)
    density = np.where(np.abs(x) < 40, norm.pdf(np.minimum(np.abs(exact), 40)), 0)
    exact = np.minimum(exact, 1e5)
    np.testing.assert_allclose(slope[:-1], (norm.cdf(exact) + exact * density)[:-1], atol=1e-6)
    np.testing.assert_allclose(second[:-1], ((2 - exact**2) * density)[:-1], atol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_the_polynomial_is_for_float32_alone(dtype, monkeypatch):
    monkeypatch.setattr(_fused_gradients, "erf_is_slow", lambda: True)
    assert any(op.type == "Erf" for op in gelu(tf.constant([1.0], dtype)).graph.get_operations())
