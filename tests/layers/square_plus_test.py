"""SquarePlus: oracles, the stable form, derivatives, a trained b."""

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from loss_graphs import evaluator, slope
from scipy.optimize import minimize_scalar

from kexue_keras.backend import K, keras
from kexue_keras.layers import SquarePlus, squareplus
from kexue_keras.layers._square_plus import CLOSEST_TO_SOFTPLUS

POINTS = np.array([-3, -1, -0.5, 0, 0.5, 1, 3])


def twin(x, b):
    x = np.asarray(x, "float64")
    root = np.sqrt(x * x + b)
    return np.where(x < 0, b / (2 * (root - np.minimum(x, 0))), (x + root) / 2)


def test_oracle_and_stable_form():
    expected = [0.0811388301, 0.2071067812, 0.3090169944, 0.5, 0.8090169944, 1.2071067812, 3.0811388301]
    np.testing.assert_allclose(K.eval(squareplus(K.constant(POINTS), 1.0)), expected, rtol=1e-6)
    np.testing.assert_allclose((POINTS + np.sqrt(POINTS**2 + 1)) / 2, expected, rtol=1e-9)
    assert K.eval(squareplus(K.constant([-1e4]), 1.0))[0] == pytest.approx(2.5e-5, rel=1e-6)


def test_the_default_b_is_nearest_to_softplus():
    x = np.linspace(-30, 30, 20001)

    def distance(b):
        return abs(twin(x, b) - np.logaddexp(0, x)).max()

    best = minimize_scalar(distance, bounds=(1.4, 1.7), method="bounded", options={"xatol": 1e-9})
    assert best.x == pytest.approx(CLOSEST_TO_SOFTPLUS, abs=1e-6)
    assert distance(CLOSEST_TO_SOFTPLUS) == pytest.approx(0.0759314510, abs=1e-8)
    least = 4 * np.log(2) ** 2
    assert (twin(x, least) >= np.logaddexp(0, x) - 1e-12).all() and not (
        twin(x, least - 1e-3) >= np.logaddexp(0, x)
    ).all()


def test_derivatives():
    def first(x):
        return (1 + x / np.sqrt(x * x + 0.5)) / 2

    value, gradient, second = evaluator(lambda x: squareplus(x, 0.5), (tf.float64, [None]), wrt=0, second=True)(POINTS)
    np.testing.assert_allclose(value, twin(POINTS, 0.5), atol=1e-14)
    np.testing.assert_allclose(gradient, first(POINTS), atol=1e-14)
    np.testing.assert_allclose(gradient, slope(lambda x: twin(x, 0.5), POINTS), atol=1e-8)
    np.testing.assert_allclose(second, 2 * first(POINTS) * 0.5 / (2 * (POINTS**2 + 0.5) ** 1.5), atol=1e-14)


def test_properties():
    evaluate = evaluator(squareplus, (tf.float64, [None]), (tf.float64, []))

    @given(st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=9), st.floats(1e-3, 1e2))
    def hold(x, b):
        x = np.sort(np.array(x))
        y = evaluate(x, b)
        np.testing.assert_allclose(y, (x + np.sqrt(x * x + b)) / 2, atol=1e-9)
        assert (y >= np.maximum(x, 0)).all() and (y - np.maximum(x, 0)).max() <= np.sqrt(b) / 2 + 1e-12
        np.testing.assert_allclose(y - evaluate(-x, b), x, atol=1e-9)
        assert (np.diff(y) >= -1e-12).all()
        middle = evaluate((x[1:] + x[:-1]) / 2, b)
        assert (middle <= (y[1:] + y[:-1]) / 2 + 1e-9).all()

    hold()


def test_half_precision_and_infinities():
    x = np.array([-np.inf, -200.0, -1, 0, 300, np.inf], "float16")
    y = K.eval(squareplus(tf.constant(x), 1.0))
    assert y.dtype == np.float16 and y[0] == 0 and y[-1] == np.inf
    np.testing.assert_allclose(y[1:-1], twin(x[1:-1], 1.0), rtol=1e-3, atol=1e-6)


def test_layer_trains_b_for_each_channel():
    x = keras.layers.Input((None, 3))
    layer = SquarePlus(0.3, trainable_b=True, per_channel=True)
    model = keras.models.Model(x, layer(x))
    np.testing.assert_allclose(model.predict(np.ones((2, 4, 3))), twin(np.ones((2, 4, 3)), 0.3), rtol=1e-5)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    model.train_on_batch(np.ones((2, 4, 3)), np.full((2, 4, 3), 1.5))
    assert layer.get_weights()[0].shape == (3,)
    assert (np.logaddexp(0, layer.get_weights()[0]) > 0.3).all()
    assert SquarePlus.from_config(layer.get_config()).get_config() == layer.get_config()
    scalar = SquarePlus(0.3, trainable_b=True)
    scalar.build((None, None))
    assert K.int_shape(scalar.raw_b) == () and not SquarePlus().trainable_weights
    assert keras.activations.get("squareplus") is squareplus


@pytest.mark.parametrize("b", [0, -1.0, float("inf"), "big", None, True])
def test_b_must_be_positive(b):
    with pytest.raises(ValueError, match="b must be a number > 0, but is"):
        SquarePlus(b)
    with pytest.raises(ValueError, match="squareplus: b must be a number > 0"):
        squareplus(K.constant([1.0]), b)


def test_per_channel_needs_to_be_trained_and_known():
    with pytest.raises(ValueError, match="per_channel=True needs trainable_b=True"):
        SquarePlus(per_channel=True)
    with pytest.raises(ValueError, match="needs a known last axis"):
        SquarePlus(trainable_b=True, per_channel=True).build((None, None))
