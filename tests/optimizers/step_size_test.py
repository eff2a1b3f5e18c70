"""ExponentiatedGradient and the learned step sizes against the spec's numbers and float64 numpy."""

import numpy as np
import pytest
import tensorflow as tf
from numpy_optimizers import Toy, difference

from kexue_keras.backend import K, get_session, keras
from kexue_keras.optimizers import (
    AdamW,
    ExponentiatedGradient,
    ExponentiatedStepSize,
    ExponentiatedStepSizeMomentum,
    GradientAccumulation,
    MomentumAccumulationSGD,
)

optimizers = keras.optimizers
CURVATURE = np.array([1.0, 10.0])

ARTICLE = {  # gamma = 0.01, eta = 0.01, theta_0 = [1, 1]: t -> nu, theta
    1: ([1, 1], [0.99, 0.9]),
    2: ([1.0099491671, 2.4596031112], [0.9800015032, 0.67863572]),
    3: ([1.0197953959, 4.5302274502], [0.970007493, 0.3711983033]),
    4: ([1.0295358843, 5.8280389746], [0.9600209178, 0.1548624854]),
    5: ([1.0391679842, 6.1728785424], [0.9500446878, 0.0592677541]),
}
MOMENTUM = {  # t -> p, s, theta
    1: ([1, 1], 1.0, [0.99, 0.9]),
    2: ([1.00994917, 2.45960311], 1.0091405217, [0.97082785, 0.58578969]),
    3: ([1.02865142, 7.05983329], 1.0279050934, [0.94298695, -0.12735607]),
}


def parabola(optimizer, start=(1.0, 1.0), dtype="float32"):
    """One variable with the gradient diag(1, 10) theta; returns it and a function that makes a step."""
    theta = K.variable(np.array(start), dtype=dtype, name="theta")
    loss = 0.5 * tf.reduce_sum(tf.constant(CURVATURE, dtype) * theta * theta)
    op = tf.group(*optimizer.get_updates(loss=loss, params=[theta]))
    K.get_value(theta)
    return theta, lambda: get_session().run(op)


def numpy_rule(gamma, steps, bounds=(0.0, np.inf), max_exponent=np.inf, alignment="raw", eta=0.01, scale=1.0):
    theta, previous, nu = np.ones(2), np.zeros(2), np.ones(2)
    for _ in range(steps):
        g = scale * CURVATURE * theta
        a = previous * g
        if alignment == "sign":
            a = np.sign(a)
        if alignment == "cosine" and previous.any():
            a = a / np.sqrt(np.mean(previous**2) * np.mean(g**2))
        nu = np.clip(nu * np.exp(np.clip(gamma * a, -max_exponent, max_exponent)), *bounds)
        theta, previous = theta - eta * nu * g, g
    return theta, nu


def test_exponentiated_gradient_oracle(rng):
    theta = K.variable([1.0, 2.0], dtype="float64", name="theta")
    optimizer = ExponentiatedGradient(0.1)
    op = tf.group(*optimizer.get_updates(loss=tf.reduce_sum(theta * [0.5, -1.0]), params=[theta]))
    K.get_value(theta)
    get_session().run(op)
    np.testing.assert_allclose(K.get_value(theta), [0.95122942, 2.21034184], atol=2e-9)


def test_exponentiated_gradient_stays_positive_and_bounded():
    theta, step = parabola(ExponentiatedGradient(1e6, max_exponent=50), (1.0, 1e-3))
    for _ in range(5):
        step()
        assert (K.get_value(theta) > 0).all() and np.isfinite(K.get_value(theta)).all()


def test_exponentiated_gradient_needs_positive_weights():
    for start in ((0.0, 1.0), (1.0, -0.5)):
        theta, step = parabola(ExponentiatedGradient(0.1), start)
        with pytest.raises(tf.errors.InvalidArgumentError, match="theta:0 holds a weight <= 0, which can never"):
            step()
        np.testing.assert_array_equal(K.get_value(theta), np.float32(start))
        K.clear_session()
    for arguments, message in (
        ({"max_exponent": 0}, "max_exponent must be a number > 0, but is 0"),
        ({"variables": "("}, "no regular expression"),
    ):
        with pytest.raises(ValueError, match=message):
            ExponentiatedGradient(0.1, **arguments)


def test_exponentiated_gradient_on_some_variables(rng):
    toy = Toy(ExponentiatedGradient(0.1, variables=["table"]), rng)
    K.set_value(toy.params[2], np.abs(toy.initial[2]) + 0.1)
    before, batch = toy.values(), toy.batch(rng)
    toy.train(batch)
    kernel, bias, table = toy.gradients(batch)
    expected = [before[0] - 0.1 * kernel, before[1] - 0.1 * bias, before[2] * np.exp(-0.1 * table)]
    assert difference(toy.values(), expected) < 1e-6
    untouched = np.setdiff1d(np.arange(6), batch[3])
    np.testing.assert_array_equal(toy.values()[2][untouched], before[2][untouched])
    with pytest.raises(ValueError, match="fits no trainable variable; there are kernel"):
        Toy(ExponentiatedGradient(0.1, variables="absent"), rng)


def test_article_oracle_round_plain_sgd():
    optimizer = ExponentiatedStepSize(optimizers.SGD(0.01), gamma=0.01, bounds=(1e-6, 1e6), max_exponent=100.0)
    theta, step = parabola(optimizer)
    for t in range(1, 6):
        step()
        np.testing.assert_allclose(K.get_value(theta), ARTICLE[t][1], rtol=1e-5)
        np.testing.assert_allclose(K.eval(optimizer.gain(theta)), ARTICLE[t][0], rtol=2e-6)
    np.testing.assert_allclose(numpy_rule(0.01, 5)[0], ARTICLE[5][1], atol=1e-10)


@pytest.mark.parametrize("alignment", ["raw", "sign", "cosine"])
def test_bounds_hold_where_the_plain_rule_overflows(alignment):
    with np.errstate(all="ignore"):
        assert np.isnan(numpy_rule(0.1, 5)[0]).any()
    optimizer = ExponentiatedStepSize(optimizers.SGD(0.01), gamma=0.1, alignment=alignment)
    theta, step = parabola(optimizer)
    for t in range(12):
        step()
        expected, nu = numpy_rule(0.1, t + 1, (0.1, 10.0), 1.0, alignment)
        np.testing.assert_allclose(K.eval(optimizer.gain(theta)), nu, rtol=1e-5)
        np.testing.assert_allclose(K.get_value(theta), expected, atol=1e-5)
        assert (nu >= 0.1).all() and (nu <= 10).all()


def test_only_raw_products_depend_on_the_scale_of_the_loss():
    same = {}
    for alignment in ("raw", "sign", "cosine"):
        runs = [numpy_rule(0.01, 5, alignment=alignment, eta=0.01 / s, scale=s)[0] for s in (1.0, 7.0)]
        same[alignment] = np.abs(runs[0] - runs[1]).max() < 1e-12
    assert same == {"raw": False, "sign": True, "cosine": True}


@pytest.mark.parametrize("inner", [lambda: optimizers.SGD(0.05), lambda: AdamW(0.05), lambda: optimizers.RMSprop(0.05)])
def test_gamma_zero_is_the_inner_optimizer(rng, inner):
    plain, wrapped = Toy(inner(), np.random.RandomState(0)), Toy(
        ExponentiatedStepSize(inner(), gamma=0.0), np.random.RandomState(0)
    )
    for _ in range(3):
        batch = plain.batch(rng)
        plain.train(batch)
        wrapped.train(batch)
        assert difference(plain.values(), wrapped.values()) < 2e-7


def test_gains_act_on_the_step_of_adaptive_optimizers(rng):
    """On the gradient Adam would divide them out; a constant gradient gives growing gains, and steps with them."""
    theta = K.variable(np.zeros(3), name="theta")
    optimizer = ExponentiatedStepSize(AdamW(0.01, weight_decay=0.0, epsilon=1e-12), gamma=0.5, alignment="sign")
    op = tf.group(*optimizer.get_updates(loss=tf.reduce_sum(theta), params=[theta]))
    K.get_value(theta)
    seen = [0.0]
    for _ in range(4):
        get_session().run(op)
        seen.append(K.get_value(theta)[0])
    np.testing.assert_allclose(np.diff(seen), -0.01 * np.exp([0, 0.5, 1.0, 1.5]), rtol=1e-5)


def test_alternating_gradients_slow_down():
    theta, sign = K.variable(np.zeros(1), name="theta"), K.variable(1.0)
    optimizer = ExponentiatedStepSize(optimizers.SGD(0.01), gamma=0.5)
    op = tf.group(*optimizer.get_updates(loss=tf.reduce_sum(theta) * sign, params=[theta]))
    K.get_value(theta)
    gains = []
    for t in range(8):
        K.set_value(sign, (-1.0) ** t)
        get_session().run(op)
        gains.append(K.eval(optimizer.gain(theta))[0])
    np.testing.assert_allclose(gains, np.maximum(np.exp(-0.5 * np.arange(8)), 0.1), rtol=1e-5)


def test_momentum_form_oracle():
    optimizer = ExponentiatedStepSizeMomentum(0.01, gamma_p=0.1, gamma_s=0.01, max_exponent=100.0)
    theta, step = parabola(optimizer, dtype="float64")
    for t in (1, 2, 3):
        step()
        np.testing.assert_allclose(K.get_value(theta), MOMENTUM[t][2], rtol=2e-6)
        np.testing.assert_allclose(np.exp(K.get_value(optimizer.state("log_gain", theta))), MOMENTUM[t][0], rtol=1e-6)
        np.testing.assert_allclose(np.exp(K.get_value(optimizer.state("log_scale"))), MOMENTUM[t][1], rtol=1e-6)


def test_momentum_form_without_learning_is_the_heavy_ball(rng):
    toy = Toy(ExponentiatedStepSizeMomentum(0.05, gamma_p=0.0, gamma_s=0.0), rng)
    params = toy.start()
    h = [np.zeros_like(p) for p in params]
    for _ in range(4):
        batch = toy.batch(rng)
        toy.train(batch)
        for p, velocity, g in zip(params, h, toy.gradients(batch)):
            velocity[:] = 0.9 * velocity + 0.05 * g
            p -= velocity
        assert difference(toy.values(), params) < 1e-6


def test_bad_values_and_orders():
    for arguments, message in (
        ({"gamma": -1}, "gamma must be a number >= 0, but is -1; with 0 gains stay 1"),
        ({"bounds": (2, 3)}, r"the lower of bounds must be a number in \(0, 1\], but is 2; every gain starts at 1"),
        ({"bounds": 3}, r"bounds must be a pair such as \(0.1, 10.0\), but is 3"),
        ({"alignment": "cos"}, "alignment must be one of 'raw', 'sign', 'cosine', but is 'cos'"),
        ({"max_exponent": 0.0}, "max_exponent must be a number > 0, but is 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            ExponentiatedStepSize(AdamW(), **arguments)
    with pytest.raises(ValueError, match=r"momentum must be a number in \[0, 1\), but is 1.0"):
        ExponentiatedStepSizeMomentum(momentum=1.0)
    with pytest.raises(ValueError, match="does not update at every step"):
        ExponentiatedStepSize(MomentumAccumulationSGD(0.1, steps=2))
    GradientAccumulation(ExponentiatedStepSize(AdamW()), 2)
