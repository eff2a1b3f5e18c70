"""Sampling on the sphere: moments, uniformity round the mean, the constant KL."""

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from scipy import special
from scipy.integrate import quad

from kexue_keras.backend import K, get_session, keras
from kexue_keras.layers import VonMisesFisherSampling, vmf_cosines, vmf_kl, vmf_mean_resultant

# The spec prints .6376656... for (8, 8); I_4(8) / I_3(8), and the integral of the cosine, are .6376756...
ORACLES = {
    (16, 32): (7.582144376422935, 0.7898952245802807),
    (3, 1): (0.15159592392813437, 0.31303528549933124),
    (8, 8): (2.004378182703744, 0.6376756319933129),
    (64, 32): (6.0511463710822255, 0.4155469442999651),
}


@pytest.mark.parametrize("d, kappa", sorted(ORACLES))
def test_oracles(d, kappa):
    kl, resultant = ORACLES[d, kappa]
    assert vmf_kl(d, kappa) == pytest.approx(kl, rel=1e-12)
    assert vmf_mean_resultant(d, kappa) == pytest.approx(resultant, rel=1e-12)
    assert vmf_cosines(d, kappa, 10**5).mean() == pytest.approx(resultant, abs=1e-5)
    if (d, kappa) == (3, 1):
        assert resultant == pytest.approx(1 / np.tanh(1) - 1)


def test_kl_is_the_integral():
    for d, kappa in ((2, 3.0), (5, 0.7), (16, 32.0)):
        area = np.pi ** ((d - 1) / 2) * 2 / special.gamma((d - 1) / 2)  # of the sphere round the axis
        sphere = 2 * np.pi ** (d / 2) / special.gamma(d / 2)
        mass = quad(lambda t: area * np.exp(kappa * np.cos(t)) * np.sin(t) ** (d - 2), 0, np.pi)[0]
        kl = quad(
            lambda t: area
            * np.exp(kappa * np.cos(t))
            * np.sin(t) ** (d - 2)
            / mass
            * (kappa * np.cos(t) - np.log(mass / sphere)),
            0,
            np.pi,
        )[0]
        assert vmf_kl(d, kappa) == pytest.approx(kl, rel=1e-8)


@given(st.integers(2, 40), st.floats(0, 200))
def test_cosines_are_quantiles(d, kappa):
    w = vmf_cosines(d, kappa, 1000)
    assert (np.diff(w) >= 0).all() and w.min() >= -1 and w.max() <= 1
    assert w.mean() == pytest.approx(vmf_mean_resultant(d, kappa), abs=1e-3)
    assert vmf_kl(d, kappa) >= 0


def test_uniform_when_kappa_is_zero():
    assert vmf_kl(7, 0) == 0 and vmf_mean_resultant(7, 0) == 0
    np.testing.assert_allclose(vmf_cosines(3, 0.0, 1001), np.linspace(-1, 1, 1001), atol=2e-3)


def test_samples_have_unit_length_and_the_right_moments():
    rng = np.random.RandomState(0)
    mu = rng.randn(16)
    mu /= np.linalg.norm(mu)
    layer = VonMisesFisherSampling(32.0, seed=3)
    z = K.eval(layer(K.constant(np.tile(5 * mu, (30000, 1)))))
    np.testing.assert_allclose(np.sum(z**2, -1), 1, atol=1e-5)
    cosines = z @ mu
    assert cosines.mean() == pytest.approx(0.78990, abs=3e-3)
    a = vmf_mean_resultant(16, 32.0)
    assert cosines.var() == pytest.approx(1 - a * a - 15 / 32 * a, rel=0.05)
    across = z - cosines[:, None] * mu
    np.testing.assert_allclose(across.mean(0), 0, atol=0.01)
    covariance = np.cov(across.T)
    np.testing.assert_allclose(
        covariance, np.mean(np.sum(across**2, 1)) / 15 * (np.eye(16) - np.outer(mu, mu)), atol=2e-3
    )


def test_two_dimensions_and_half_precision():
    z = K.eval(VonMisesFisherSampling(4.0, seed=0)(K.constant(np.tile([1.0, 0], (20000, 1)))))
    assert z[:, 0].mean() == pytest.approx(vmf_mean_resultant(2, 4.0), abs=0.01)
    assert (z[:, 1] > 0).mean() == pytest.approx(0.5, abs=0.02)
    half = K.eval(VonMisesFisherSampling(32.0)(tf.constant(np.full((50, 8), 300.0, "float16"))))
    assert half.dtype == np.float16
    np.testing.assert_allclose(np.sum(half.astype("float64") ** 2, -1), 1, atol=5e-3)
    assert np.isfinite(K.eval(VonMisesFisherSampling(1.0)(K.constant(np.zeros((2, 5)))))).all()


def test_gradient_flows_into_the_mean():
    layer = VonMisesFisherSampling(1e6, num_caches=1000)
    mu = K.constant([[3.0, 4.0]])
    z = layer(mu)
    # With so large a kappa the sample is the normalised mean, and so is the gradient: of z_0, (1 - c^2, -c s) / 5.
    gradient = get_session().run(tf.gradients(z[:, 0], mu)[0])
    np.testing.assert_allclose(gradient, [[0.128, -0.096]], atol=2e-3)


def test_training_only():
    x = keras.layers.Input((None, 4))
    layer = VonMisesFisherSampling(2.0, training_only=True, num_caches=100)
    y = layer(keras.layers.Masking()(x))
    assert layer.output_mask is not None and K.int_shape(y) == (None, None, 4)
    inputs = np.random.RandomState(0).randn(2, 3, 4)
    expected = inputs / np.linalg.norm(inputs, axis=-1, keepdims=True)
    np.testing.assert_allclose(keras.models.Model(x, y).predict(inputs), expected, atol=1e-6)
    assert VonMisesFisherSampling.from_config(layer.get_config()).get_config() == layer.get_config()
    assert not layer.weights


@pytest.mark.parametrize("kappa", [-1, "high", None, float("inf"), float("nan"), True])
def test_kappa_must_not_be_negative(kappa):
    with pytest.raises(ValueError, match="kappa must be a number >= 0, but is"):
        VonMisesFisherSampling(kappa)


def test_other_errors():
    with pytest.raises(ValueError, match="num_caches must be a whole number >= 1, but is 0"):
        VonMisesFisherSampling(1.0, num_caches=0)
    with pytest.raises(ValueError, match="the last axis must be known and at least 2"):
        VonMisesFisherSampling(1.0).build((None, 1))
    with pytest.raises(ValueError, match="vmf_kl: d must be a whole number >= 2, but is 1"):
        vmf_kl(1, 1.0)
