"""Smoothed functions against numpy closed forms, those against quadrature, and the oracles of the articles."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from loss_graphs import evaluator, slope
from scipy import special

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.layers import SAU, Smooth, gauss_relu, gelu_s, smooth, smooth_by_quadrature, smooth_values

STEPS = {
    "gauss": lambda u: special.ndtr(u),
    "logistic": lambda u: special.expit(u),
    "cauchy": lambda u: 0.5 + np.arctan(u) / np.pi,
    "square": lambda u: np.where(u < 0, 0.5 / (u * u + 1 - u * np.sqrt(u * u + 1)), 0.5 + 0.5 * u / np.sqrt(u * u + 1)),
}
RAMPS = {
    "gauss": lambda u: u * special.ndtr(u) + np.exp(-u * u / 2) / np.sqrt(2 * np.pi),
    "logistic": lambda u: np.logaddexp(0, u),
    "cauchy": lambda u: u * STEPS["cauchy"](u) - np.log1p(u * u) / (2 * np.pi),
    "square": lambda u: (u + np.sqrt(u * u + 1)) / 2,
}
SHARP = {
    "relu": lambda x: max(x, 0.0),
    "leaky_relu": lambda x: x if x > 0 else 0.25 * x,
    "sign": lambda x: float(np.sign(x)),
    "abs": abs,
    "step": lambda x: float(x > 0),
    "clip": lambda x: min(max(x, -1.0), 1.0),
}
UNARY = ("relu", "gated_relu", "leaky_relu", "sign", "abs", "step", "clip", "floor")
PAIRS = [(f, k) for f in UNARY for k in STEPS if not (k == "cauchy" and f in ("relu", "leaky_relu", "abs"))]
POINTS = np.array([-3, -1, -0.5, 0, 0.5, 1, 3])


def twin(fn, kernel, width, x):
    x = np.asarray(x, "float64")
    step, ramp = (lambda v: STEPS[kernel](v / width)), (lambda v: width * RAMPS[kernel](v / width))
    if fn == "floor":
        if kernel == "cauchy":  # the Fourier series of the sawtooth, summed
            r, angle = np.exp(-2 * np.pi * width), 2 * np.pi * x
            return x - 0.5 + np.arctan2(r * np.sin(angle), 1 - r * np.cos(angle)) / np.pi
        terms = np.arange(2000 if kernel == "square" else 60)[:, None]
        n, m = np.round(x) + 1 + terms, np.round(x) - terms
        return np.round(x) + (step(x - n) + step(x - m) - 1).sum(0)
    return {
        "relu": lambda: ramp(x),
        "gated_relu": lambda: x * step(x),
        "leaky_relu": lambda: 0.25 * x + 0.75 * ramp(x),
        "sign": lambda: 2 * step(x) - 1,
        "abs": lambda: 2 * ramp(x) - x,
        "step": lambda: step(x),
        "clip": lambda: -1 + ramp(x + 1) - ramp(x - 1),
    }[fn]()


ORACLES = [
    (
        "relu",
        "gauss",
        1,
        POINTS,
        [3.8215431705e-4, 0.0833154706, 0.1977965574, 0.3989422804, 0.6977965574, 1.0833154706, 3.0003821543],
    ),  # noqa: E501
    (
        "leaky_relu",
        "gauss",
        0.5,
        POINTS,
        [-0.7499999999, -0.2468159865, -0.0937566985, 0.1496033552, 0.5312433015, 1.0031840135, 3.0000000001],
    ),  # noqa: E501
    (
        "relu",
        "logistic",
        0.5,
        POINTS,
        [0.0012378426, 0.0634640055, 0.1566308438, 0.3465735903, 0.6566308438, 1.0634640055, 3.0012378426],
    ),  # noqa: E501
    ("abs", "gauss", 0.5, POINTS[:4], [3.0000000002, 1.0084907026, 0.5833154706, 0.3989422804]),
    ("clip", "logistic", 0.2, POINTS[:4], [-0.9999909206, -0.8613796437, -0.4843326394, 0]),
    (
        "step",
        "cauchy",
        0.1,
        np.array([-1, -0.5, 0, 0.5, 1]),
        [0.0317255174, 0.0628329582, 0.5, 0.9371670418, 0.9682744826],
    ),  # noqa: E501
    (
        "floor",
        "logistic",
        0.1,
        np.array([-1.5, -0.2, 0, 0.3, 0.5, 0.9, 1, 2.5]),
        [-2, -0.8811262989, -0.5, -0.046517041, 0, 0.2688347234, 0.5, 2],
    ),  # noqa: E501
    (
        "floor",
        "logistic",
        0.05,
        np.array([-1.5, -0.2, 0, 0.3, 0.5, 0.9, 1, 2.5]),
        [-2, -0.9820139025, -0.5, -0.0024717916, 0, 0.1192029071, 0.5, 2],
    ),  # noqa: E501
    (
        "floor",
        "gauss",
        0.1,
        np.array([-1.5, -0.2, 0, 0.3, 0.5, 0.9, 1, 2.5]),
        [-2, -0.9772498681, -0.5, -0.0013498980, 0, 0.1586552539, 0.5, 2],
    ),  # noqa: E501
]


@pytest.mark.parametrize("kernel, width", [("gauss", 0.3), ("logistic", 0.1), ("square", 0.2), ("cauchy", 0.1)])
def test_ceil_and_round_are_floors(kernel, width):
    x = np.linspace(-3.2, 3.3, 41)
    ceil, rounded = [K.eval(smooth_values(tf.constant(x), fn, kernel=kernel, width=width)) for fn in ("ceil", "round")]
    np.testing.assert_allclose(
        ceil, -K.eval(smooth_values(tf.constant(-x), "floor", kernel=kernel, width=width)), atol=1e-5
    )
    floor = K.eval(smooth_values(tf.constant(x + 0.5), "floor", kernel=kernel, width=width))
    np.testing.assert_allclose(rounded, floor, atol=1e-12)
    if kernel in ("gauss", "logistic"):
        for fn, hard, breaks in (("ceil", math.ceil, 0.0), ("round", lambda y: math.floor(y + 0.5), 0.5)):
            exact = smooth_by_quadrature(hard, kernel, width, breaks=np.arange(-14, 15) + breaks, reach=30)
            points = np.array([-0.4, 0.25, 1.1])
            values = K.eval(smooth_values(tf.constant(points), fn, kernel=kernel, width=width))
            np.testing.assert_allclose(values, exact(points), atol=1e-6)


def test_oracles_of_the_article():
    for dtype, tolerance in (("float64", 1e-9), ("float32", 1e-6)):
        tensors = [smooth_values(K.constant(x, dtype), fn, kernel=k, width=w) for fn, k, w, x, _ in ORACLES]
        for got, (fn, kernel, width, x, expected) in zip(get_session().run(tensors), ORACLES):
            np.testing.assert_allclose(got, expected, atol=tolerance, err_msg="%s %s" % (fn, kernel))
            np.testing.assert_allclose(twin(fn, kernel, width, x), expected, atol=1e-9)
    pair = [K.constant([1.0, 2.0, -1.0]), K.constant([1.5, 0.0, -1.0])]
    top = K.eval(smooth_values(pair, "max", kernel="square", width=math.sqrt(0.1)))
    np.testing.assert_allclose(top, [1.5458039892, 2.0124228366, -0.841886117], rtol=1e-6)


def test_all_functions_and_kernels_agree_with_numpy():
    x, w = tf1.placeholder(tf.float64, [None]), tf1.placeholder(tf.float64, [])
    tensors = [smooth_values(x, f, kernel=k, width=w) for f, k in PAIRS]
    gradients = [tf.gradients(t, x)[0] for t in tensors]
    points = np.concatenate([np.linspace(-4, 4, 21), [-30.3, 12.7, 1e4, -1e4]])
    # At the half-integers floor changes its centre; a difference must not straddle them.
    near = (abs(points) < 5) & (abs(points % 1 - 0.5) > 0.01)
    for width in (0.1, 1.0):
        values, slopes = get_session().run([tensors, gradients], {x: points, w: width})
        for (fn, kernel), v, s in zip(PAIRS, values, slopes):
            tolerance = 1e-5 if fn == "floor" and (width == 1 or kernel in ("square", "cauchy")) else 1e-9
            name = "%s %s %s" % (fn, kernel, width)
            np.testing.assert_allclose(v, twin(fn, kernel, width, points), atol=tolerance, rtol=1e-9, err_msg=name)
            ends = [twin(fn, kernel, width, points[near] + d) for d in (1e-6, -1e-6)]
            expected = (ends[0] - ends[1]) / 2e-6
            np.testing.assert_allclose(s[near], expected, atol=max(10 * tolerance, 1e-7), err_msg="slope of " + name)


def test_closed_forms_are_the_convolution():
    for fn, kernel in PAIRS:
        if fn in ("gated_relu", "floor"):
            continue
        for width in (0.3, 1.0):
            by_quadrature = smooth_by_quadrature(SHARP[fn], kernel, width, breaks=[-1.0, 0.0, 1.0])
            x = np.array([-2.0, -0.1, 0.0, 0.7])
            # The tails of these kernels fall as a power, where the integrator promises less.
            tolerance = 1e-11 if kernel in ("gauss", "logistic") else 1e-7
            np.testing.assert_allclose(by_quadrature(x), twin(fn, kernel, width, x), atol=tolerance, err_msg=fn)
    floor = smooth_by_quadrature(math.floor, "gauss", 0.3, breaks=range(-6, 7), reach=12)
    np.testing.assert_allclose(floor([-0.4, 0.25]), twin("floor", "gauss", 0.3, [-0.4, 0.25]), atol=1e-12)


def test_second_derivatives_are_kernels():
    x = tf1.placeholder(tf.float64, [None])
    points = np.linspace(-3, 3, 13)
    density = {
        "gauss": lambda u: np.exp(-u * u / 2) / np.sqrt(2 * np.pi),
        "square": lambda u: 0.5 * (u * u + 1) ** -1.5,
    }
    for kernel in density:
        first = tf.gradients(smooth_values(x, "relu", kernel=kernel, width=0.7), x)[0]
        second = get_session().run(tf.gradients(first, x)[0], {x: points})
        np.testing.assert_allclose(second, density[kernel](points / 0.7) / 0.7, atol=1e-12)


def test_gradient_of_a_trained_width():
    def total(w):
        return sum(np.sum(twin(f, k, float(w), POINTS * 0.3)) for f, k in PAIRS if f != "floor")

    width = tf1.placeholder(tf.float64, [])
    x = tf.constant(POINTS * 0.3, tf.float64)
    sums = tf.add_n([tf.reduce_sum(smooth_values(x, f, kernel=k, width=width)) for f, k in PAIRS if f != "floor"])
    got = get_session().run([sums, tf.gradients(sums, width)[0]], {width: 0.8})
    np.testing.assert_allclose(got, [total(0.8), slope(total, 0.8)], rtol=1e-8)


@pytest.fixture
def families(monkeypatch):
    x = tf1.placeholder(tf.float64, [None])
    w = tf1.placeholder(tf.float64, [])
    tensors = {(f, k): smooth_values(x, f, kernel=k, width=w) for f, k in PAIRS}
    session = get_session()
    return lambda points, width: dict(zip(tensors, session.run(list(tensors.values()), {x: points, w: width})))


def test_properties(families):
    @given(st.lists(st.floats(-50, 50), min_size=2, max_size=8), st.floats(0.01, 3))
    def hold(points, width):
        points = np.sort(np.array(points))
        values, mirrored = families(points, width), families(-points, width)
        moved = families(points + 1, width)
        for fn, kernel in PAIRS:
            v = values[fn, kernel]
            if fn in ("relu", "leaky_relu", "step", "sign", "clip", "floor"):
                assert (np.diff(v) >= -1e-9).all(), (fn, kernel)
            if fn == "relu":
                assert (v >= np.maximum(points, 0) - 1e-14).all()  # a last digit of x / w * w
                np.testing.assert_allclose(v - mirrored[fn, kernel], points, atol=1e-9)
                at_zero = {"logistic": math.log(2), "gauss": 1 / math.sqrt(2 * math.pi), "square": 0.5}[kernel]
                assert (v - np.maximum(points, 0)).max() <= at_zero * width + 1e-9
            if fn == "abs":
                np.testing.assert_allclose(v, mirrored[fn, kernel], atol=1e-9)
            if fn in ("sign", "clip"):
                np.testing.assert_allclose(v, -mirrored[fn, kernel], atol=1e-9)
            if fn == "floor":
                np.testing.assert_allclose(moved[fn, kernel], v + 1, atol=1e-4)

    hold()


def test_narrow_kernels_give_the_sharp_function(families):
    points = np.array([-2.3, -0.4, 0.2, 0.6, 2.7])
    values = families(points, 1e-5)
    for fn, kernel in PAIRS:
        sharp = (
            [SHARP[fn](p) for p in points]
            if fn in SHARP
            else {"gated_relu": np.maximum(points, 0), "floor": np.floor(points)}[fn]
        )  # noqa: E501
        np.testing.assert_allclose(values[fn, kernel], sharp, atol=1e-4)


def test_two_functions_keep_two_names():
    x = K.constant(np.linspace(-4, 2, 25))
    convolved, gated = get_session().run([gauss_relu(x), gelu_s(x)])
    points = np.linspace(-4, 2, 25)
    assert (convolved >= np.maximum(points, 0)).all() and (np.diff(convolved) > 0).all()
    assert gated.min() < -0.15 and (np.diff(gated) < 0).any()
    np.testing.assert_allclose(gated, points * special.ndtr(points), atol=1e-6)
    assert keras.activations.get("gauss_relu") is gauss_relu and keras.activations.get("gelu_s") is gelu_s
    np.testing.assert_allclose(K.eval(gelu_s(x, 0.5)), points * special.ndtr(points / 0.5), atol=1e-6)


def test_max_of_two_tensors():
    evaluate = evaluator(
        lambda a, b: smooth_values([a, b], "max", kernel="logistic", width=0.5), *[(tf.float64, [None, 2])] * 2, wrt=0
    )
    a, b = np.array([[1.0, -2], [3, 3]]), np.array([[0.5, 4], [3, -np.inf]])
    value, gradient = evaluate(a, b)
    np.testing.assert_allclose(value, 0.5 * np.logaddexp(2 * a, 2 * b), atol=1e-12)
    np.testing.assert_allclose(gradient, special.expit(2 * (a - b)), atol=1e-12)
    value, gradient = evaluate(np.array([[-np.inf, -np.inf]]), np.array([[2.0, -np.inf]]))
    assert value.tolist() == [[2.0, -np.inf]] and np.isfinite(gradient).all()
    swapped = evaluate(b, a)[0]
    np.testing.assert_array_equal(swapped, evaluate(a, b)[0])


def test_extreme_values_give_no_nan():
    x = K.constant([-np.inf, -3e4, -50, 0, 50, 3e4, np.inf])
    tensors = {(f, k): smooth_values(x, f, kernel=k) for f, k in PAIRS if f in ("relu", "step", "sign")}
    values = get_session().run(tensors)
    for (fn, kernel), v in values.items():
        assert not np.isnan(v).any(), (fn, kernel)
        if fn == "relu":
            assert (v >= 0).all() and v[0] == 0 and v[-1] == np.inf
    gradients = get_session().run({k: tf.gradients(t, x)[0][1:-1] for k, t in tensors.items()})
    for key, v in gradients.items():
        assert np.isfinite(v).all(), key


def test_half_precision_is_computed_in_float32():
    x = np.linspace(-6, 6, 25).astype("float16")
    tensors = {(f, k): smooth_values(tf.constant(x), f, kernel=k, width=0.5) for f, k in PAIRS}
    for (fn, kernel), v in get_session().run(tensors).items():
        assert v.dtype == np.float16
        np.testing.assert_allclose(v, twin(fn, kernel, 0.5, x), rtol=1e-3, atol=1e-3 if fn == "floor" else 1e-6)


def test_layers_train_their_parameters_and_pass_masks_on():
    tokens = keras.layers.Input((None,))
    x = keras.layers.Embedding(5, 4, mask_zero=True)(tokens)
    x = smooth("leaky_relu", "square", 0.5, True)(x)
    x = SAU(0.1, 0.7, trainable_alpha=True, trainable_sigma=True)(x)
    trained, sau = keras.models.Model(tokens, x).layers[-2:]
    assert sau.output_mask is not None
    assert len(trained.trainable_weights) == 1 and len(sau.trainable_weights) == 2
    assert K.int_shape(x) == (None, None, 4)
    larger = smooth("max")
    both = larger([keras.layers.Input((3, 2)), keras.layers.Masking()(keras.layers.Input((3, 2)))])
    assert larger.output_mask is not None and K.int_shape(both) == (None, 3, 2)
    np.testing.assert_allclose(K.eval(tf.nn.softplus(trained.raw_width)), 0.5, rtol=1e-6)
    copy = Smooth.from_config(trained.get_config())
    assert copy.get_config() == trained.get_config() and copy.fn == "leaky_relu" and copy.kernel == "square"
    assert SAU.from_config(sau.get_config()).get_config() == sau.get_config()
    plain = SAU()
    np.testing.assert_allclose(K.eval(plain(K.constant(POINTS))), ORACLES[1][4], atol=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"fn": "elu"}, "fn must be one of .*'relu'.* but is 'elu'"),
        ({"kernel": "box"}, "kernel must be one of .*'gauss'.* but is 'box'"),
        ({"width": 0}, "width must be a number > 0, but is 0"),
        ({"width": -1.0}, "width must be a number > 0, but is -1.0"),
        ({"width": float("nan")}, "width must be a number > 0, but is nan"),
        ({"width": "wide"}, "width must be a number > 0, but is 'wide'"),
        ({"kernel": "cauchy"}, "'relu' with the 'cauchy' kernel diverges; use 'gauss'"),
        ({"fn": "clip", "low": 1.0, "high": 0.0}, "high must be a number > 1, but is 0.0"),
        ({"fn": "floor", "cells": 0}, "cells must be a whole number >= 1, but is 0"),
        ({"fn": "leaky_relu", "slope": float("inf")}, "slope must be a number, but is inf"),
    ],
)
def test_errors_say_what_to_do(arguments, words):
    with pytest.raises(ValueError, match=words):
        smooth(**arguments)


def test_errors_of_inputs():
    with pytest.raises(ValueError, match="takes a list of two tensors"):
        smooth_values(K.constant([1.0]), "max")
    with pytest.raises(ValueError, match="must have one shape"):
        smooth_values([K.constant([1.0]), K.constant([1.0, 2.0])], "max")
    with pytest.raises(ValueError, match="takes one tensor, not a list of 2"):
        smooth_values([K.constant([1.0]), K.constant([1.0])], "relu")
    with pytest.raises(ValueError, match="SAU: sigma must be a number > 0, but is 0"):
        SAU(sigma=0)
    with pytest.raises(ValueError, match="kernel must be one of"):
        smooth_by_quadrature(abs, "box")
