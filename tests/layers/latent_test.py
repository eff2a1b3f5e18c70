"""Gaussian sampling and vector quantisation: costs against float64 numpy, moments, gradients, errors."""

import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm

from kexue_keras.backend import K, get_session, keras
from kexue_keras.layers import GaussianSampling, VectorQuantization


def test_gaussian_kl(rng):
    parts = rng.standard_normal((5, 6)).astype("float32")
    z, kl = GaussianSampling()(K.constant(parts))
    mean, log_variance = np.split(parts.astype("float64"), 2, axis=1)
    expected = (mean**2 + np.exp(log_variance) - log_variance - 1).sum(1) / 2
    np.testing.assert_allclose(K.eval(kl), expected, rtol=1e-5)
    # The same by quadrature: E_q[log q - log p] of each dimension.
    x = np.linspace(-30, 30, 200001)[:, None, None]
    q = norm(mean, np.exp(log_variance / 2))
    integral = np.trapz(q.pdf(x) * (q.logpdf(x) - norm.logpdf(x)), dx=x[1, 0, 0] - x[0, 0, 0], axis=0).sum(1)
    np.testing.assert_allclose(expected, integral, rtol=1e-6)
    assert K.int_shape(z) == (5, 3)


def test_gaussian_moments_and_gradient():
    parts = np.tile([[1.0, -2.0, np.log(4.0), np.log(0.25)]], (20000, 1)).astype("float32")
    inputs = K.constant(parts)
    z, kl = GaussianSampling(seed=1)(inputs)
    values, slope, of_kl = get_session().run([z, tf.gradients(z, inputs)[0], tf.gradients(kl, inputs)[0]])
    np.testing.assert_allclose(values.mean(0), [1, -2], atol=0.05)
    np.testing.assert_allclose(values.std(0), [2, 0.5], rtol=0.03)
    np.testing.assert_allclose(slope[:, :2], 1)
    # d z / d log sigma^2 = (z - mu) / 2; d KL / d mu = mu, d KL / d log sigma^2 = (sigma^2 - 1) / 2.
    np.testing.assert_allclose(slope[:, 2:], (values - [1, -2]) / 2, atol=1e-5)
    np.testing.assert_allclose(of_kl[0], [1, -2, 1.5, -0.375], atol=1e-6)


def test_nearest_code_its_cost_and_the_gradient_straight_through(rng):
    x = rng.standard_normal((7, 3)).astype("float32")
    inputs, layer = K.constant(x), VectorQuantization(5, commitment=0.5)
    z, cost = layer(inputs)
    table = K.get_value(layer.codebook)
    distances = np.square(x[:, None] - table[None]).sum(-1)
    nearest = table[distances.argmin(1)]
    upstream = rng.standard_normal(x.shape).astype("float32")
    slopes = tf.gradients(tf.reduce_sum(z * upstream), inputs)[0], tf.gradients(cost, inputs)[0]
    of_table = tf.convert_to_tensor(tf.gradients(cost, layer.codebook)[0])
    values, costs, through, commitment, moved = get_session().run([z, cost, slopes[0], slopes[1], of_table])
    np.testing.assert_allclose(values, nearest, atol=1e-6)
    np.testing.assert_allclose(costs, 1.5 * distances.min(1), rtol=1e-5)
    np.testing.assert_allclose(through, upstream, atol=1e-6)
    np.testing.assert_allclose(commitment, 2 * 0.5 * (x - nearest), atol=1e-5)
    expected = np.zeros_like(table)
    np.add.at(expected, distances.argmin(1), 2 * (nearest - x))
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_half_precision():
    z, kl = GaussianSampling()(tf.constant([[300.0, 0.0]], tf.float16))
    assert z.dtype == tf.float16 and K.eval(kl)[0] == pytest.approx(45000)
    layer = VectorQuantization(4)
    z, cost = layer(tf.constant([[300.0, 1.0]], tf.float16))
    assert z.dtype == tf.float16 and np.isfinite(K.eval(cost)).all()


@pytest.mark.all_stacks
def test_layers_in_a_saved_model(tmp_path, run_python):
    x = keras.layers.Input((4,))
    z, kl = GaussianSampling(seed=3, name="sample")(keras.layers.Dense(6)(x))
    z, cost = VectorQuantization(8, commitment=0.1, name="codes")(z)
    model = keras.models.Model(x, z)
    assert np.isfinite(model.predict_on_batch(np.ones((2, 4)))).all()
    path = str(tmp_path / "model.h5")
    model.save(path)
    table = K.get_value(model.get_layer("codes").codebook)
    out = run_python(
        "import sys, kexue_keras\n"
        "from kexue_keras.backend import K, keras\n"
        "layer = keras.models.load_model(sys.argv[1]).get_layer('codes')\n"
        "print(layer.commitment, round(float(K.get_value(layer.codebook).sum()), 4))\n",
        path,
    )
    assert out.split()[-2:] == ["0.1", str(round(float(table.sum()), 4))]


def test_errors():
    with pytest.raises(ValueError, match="the size must be|its size must be even, but it is 3"):
        GaussianSampling()(K.zeros((2, 3)))
    with pytest.raises(ValueError, match="num_codes must be a whole number >= 1, but is 0"):
        VectorQuantization(0)
    with pytest.raises(ValueError, match="commitment must be a number >= 0"):
        VectorQuantization(2, commitment=-1)
