"""Elementary functions far out, in float32: values and gradients against float64 numpy, wherever they are used."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from loss_graphs import evaluator, slope
from scipy import special
from scipy.special import expit

from kexue_keras import losses, numerics
from kexue_keras.backend import K
from kexue_keras.layers import SAU, SquarePlus
from kexue_keras.layers._kernels import KERNELS
from kexue_keras.layers._noise import NOISES

FAR = np.array([-85.0, -60, -25, -18.5, -3, -0.25, 0, 0.5, 4, 18.5, 25, 60, 85])


def softplus(x):
    return np.logaddexp(0, x)


def values_and_slopes(function, x=FAR, dtype="float32"):
    x = np.asarray(x, dtype)
    return evaluator(function, (dtype, [None]), wrt=0)(x)


# name -> (function, its value in numpy, its slope in numpy)
FUNCTIONS = {
    "softplus": (numerics.softplus, softplus, expit),
    "sigmoid": (numerics.sigmoid, expit, lambda x: expit(x) * expit(-x)),
    "logistic step": (KERNELS["logistic"].step, expit, lambda x: expit(x) * expit(-x)),
    "logistic ramp": (KERNELS["logistic"].ramp, softplus, expit),
    "logistic noise": (NOISES["logistic"].log_cdf, lambda x: -softplus(-x), lambda x: expit(-x)),
    "multi-softmax": (
        lambda x: losses.multi_softmax_crossentropy(
            tf.one_hot(tf.zeros_like(x, tf.int32), 2)[:, None], tf.stack([-x, tf.zeros_like(x)], -1)[:, None]
        ),
        softplus,
        expit,
    ),
    "InfoNCE": (
        lambda x: losses.info_nce(
            tf.stack([tf.zeros_like(x), x], -1), tf.one_hot(tf.zeros_like(x, tf.int32), 2, dtype=tf.float32)
        ),
        softplus,
        expit,
    ),
    "CoSENT": (
        lambda x: tf.map_fn(lambda one: losses.cosent_loss(tf.stack([one, 0.0]), [0, 1], 1.0), x),
        softplus,
        expit,
    ),
    "ZLPR": (lambda x: losses.multilabel_crossentropy(tf.zeros_like(x[:, None]), x[:, None]), softplus, expit),
    "sparse ZLPR": (
        lambda x: losses.sparse_multilabel_crossentropy(tf.zeros_like(x[:, None], tf.int32), -x[:, None]),
        softplus,
        expit,
    ),
    "probabilities": (
        lambda x: losses.multilabel_probabilities(x / 2),
        expit,
        lambda x: expit(x) * expit(-x),
    ),
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_no_gradient_is_lost_in_float32(name):
    function, value, derivative = FUNCTIONS[name]
    values, slopes = values_and_slopes(function)
    np.testing.assert_allclose(values, value(FAR), 3e-6)
    np.testing.assert_allclose(slopes, derivative(FAR), 3e-6)


@pytest.mark.skipif(tf.__version__ >= "2", reason="TensorFlow 2 has mended it")
def test_the_softplus_of_tensorflow_is_why():
    # Where this fails, TensorFlow has mended it, and `numerics` may go.
    _, slopes = values_and_slopes(tf.nn.softplus, [-25.0])
    assert slopes.tolist() == [0.0]


def test_the_log_of_the_normal_distribution_in_the_far_tails_with_its_gradient():
    x = np.concatenate([-np.logspace(4, -3, 200), np.linspace(-25, 9, 200)])
    for dtype, rtol in (("float32", 1e-5), ("float64", 1e-12)):
        value, gradient = evaluator(numerics.log_normal_cdf, (dtype, [None]), wrt=0)(x)
        at = x.astype(dtype).astype("float64")
        # scipy's own loses digits where the value is near 0
        wanted = np.where(at > 0, np.log1p(-special.ndtr(-at)), special.log_ndtr(at))
        mills = np.exp(-0.5 * at**2 - 0.5 * np.log(2 * np.pi) - np.where(at > -30, wanted, 0))
        series = -at * (1 + 1 / at**2 - 2 / at**4 + 10 / at**6 - 74 / at**8)
        np.testing.assert_allclose(value, wanted, rtol=rtol, atol=1e-44)
        np.testing.assert_allclose(gradient, np.where(at > -30, mills, series), rtol=10 * rtol, atol=1e-37)


def test_the_normal_distribution_keeps_its_left_tail():
    x = np.array([-12.5, -9, -5, -1, 0, 2])
    values, slopes = values_and_slopes(numerics.normal_cdf, x)
    np.testing.assert_allclose(values, special.ndtr(x), 2e-5)
    np.testing.assert_allclose(slopes, np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi), 2e-5)
    assert NOISES["normal"].log_cdf is numerics.log_normal_cdf and KERNELS["gauss"].step is numerics.normal_cdf


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_logarithm_of_a_probability_that_has_rounded_to_zero(dtype):
    values, slopes = values_and_slopes(numerics.log_probability, [0, 1e-30, 0.25, 1], dtype)
    np.testing.assert_allclose(values, np.log([np.finfo(dtype).tiny, 1e-30, 0.25, 1]), 1e-6)
    np.testing.assert_allclose(slopes, [0, 1e30, 4, 1], 1e-6)


def test_softplus_and_back():
    for value in (1e-6, 0.1, 1.0, 30.0, 500.0):
        np.testing.assert_allclose(softplus(numerics.softplus_inverse(value)), value, 1e-9)


@pytest.mark.parametrize("scores", [[25.0, 0, 0], [40.0, 0, -3]])
def test_a_right_and_sure_classification_is_still_pulled(scores):
    run = evaluator(
        lambda s: losses.multi_softmax_crossentropy([[[1.0, 0, 0]]], s), ("float32", [None, None, None]), wrt=0
    )
    value, gradient = run([[scores]])
    others = np.exp(np.array(scores[1:], "float64") - scores[0])
    np.testing.assert_allclose(value, [np.log1p(others.sum())], 1e-5)
    np.testing.assert_allclose(gradient[0, 0], [-others.sum()] + list(others), 1e-5)


pairs = st.tuples(st.floats(-60, 60, width=32), st.floats(-60, 60, width=32))


def test_differences_of_probabilities():
    run = evaluator(numerics.sigmoid_difference, ("float32", [None]), ("float32", [None]), wrt=0)

    def exact(x, y):
        # numpy has no sigmoid difference; sinh form in float64
        return np.sinh((x - y) / 2) / (2 * np.cosh(x / 2) * np.cosh(y / 2))

    @given(pairs)
    def agrees(both):
        x, y = (np.array([v], "float64") for v in both)
        value, gradient = run(x, y)
        np.testing.assert_allclose(value, exact(x, y), 2e-5, 1e-30)
        np.testing.assert_allclose(gradient, expit(x) * expit(-x), 2e-5, 1e-30)

    agrees()
    value, gradient = run([3.0], [3.0])
    np.testing.assert_allclose([value[0], gradient[0]], [0, expit(3) * expit(-3)], 1e-6)


@pytest.mark.parametrize("first, second", [([25.0, 0, -1], [20.0, 0, 1]), ([0, 30.0, 2], [1, 30.0, 0.0])])
@pytest.mark.parametrize("kind", ["softmax", "multilabel"])
def test_divergence_of_two_sure_answers(kind, first, second):
    function = losses.rdrop_divergence if kind == "softmax" else losses.multilabel_kl

    def twin(a):
        b = np.array(second, "longdouble")
        a = a.astype("longdouble")
        if kind == "softmax":
            p, q = np.exp(a - np.logaddexp.reduce(a)), np.exp(b - np.logaddexp.reduce(b))
        else:
            p, q = 1 / (1 + np.exp(-a)), 1 / (1 + np.exp(-b))
        return np.sum((p - q) * (a - b))

    run = evaluator(function, ("float32", [None]), ("float32", [None]), wrt=0)
    value, gradient = run(first, second)
    np.testing.assert_allclose(value, twin(np.array(first)), 1e-4)
    np.testing.assert_allclose(gradient, slope(twin, first, step=1e-3), 2e-3, 1e-6 * np.abs(gradient).max())


@pytest.mark.parametrize(
    "make", [lambda: SquarePlus(b=1e-9, trainable_b=True), lambda: SAU(sigma=1e-9, trainable_sigma=True)]
)
def test_a_tiny_trained_width_is_trained(make):
    layer = make()
    out = layer(tf.constant([[0.0, 1e-9]]))
    weights = layer.trainable_weights
    gradients = [K.eval(g) for g in tf.gradients(out, [w for w in weights if K.int_shape(w) == ()])]
    assert gradients and all(g != 0 for g in gradients)


def test_masked_logsumexp_of_nothing_and_of_infinity():
    x = np.array([[1.0, 2, -np.inf], [5, np.nan, 5], [-np.inf, -np.inf, -np.inf]], "float32")
    keep = np.array([[True, True, True], [False] * 3, [False] * 3])
    run = evaluator(lambda x: numerics.masked_logsumexp(x, tf.constant(keep), 1)[0], ("float32", [None, 3]), wrt=0)
    value, gradient = run(x)
    np.testing.assert_allclose(value, [np.logaddexp(1, 2), 0, 0], 1e-6)
    np.testing.assert_allclose(gradient, [[expit(-1), expit(1), 0], [0] * 3, [0] * 3], 1e-6)
    sums, some = numerics.masked_logsumexp(tf.constant(x), tf.constant(keep), 1, keepdims=True)
    assert K.eval(sums).shape == (3, 1) and K.eval(some).tolist() == [[True], [False], [False]]


def test_log_one_plus_sum_exp():
    x = np.array([[-np.inf, -np.inf], [-25, -30], [3, 3], [200, -np.inf], [0, 0]])
    value, gradient = evaluator(numerics.log_one_plus_sum_exp, ("float32", [None, 2]), wrt=0)(x)
    whole = np.logaddexp.reduce(np.concatenate([x, np.zeros([5, 1])], 1), 1)
    np.testing.assert_allclose(value, np.where(whole == 0, 0, np.log1p(np.expm1(whole))), 1e-6)
    np.testing.assert_allclose(gradient, np.exp(x - whole[:, None]), 1e-6)
