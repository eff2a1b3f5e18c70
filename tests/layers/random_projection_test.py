"""Random projections keep distances, SimHash keeps angles; both keep their matrix."""

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given

from kexue_keras.backend import K, keras
from kexue_keras.layers import RandomProjection, SimHash, projection_matrix


@pytest.mark.parametrize("distribution", ["gaussian", "sign", "sparse"])
def test_lengths_and_distances_are_kept(distribution):
    rng = np.random.RandomState(0)
    x = rng.randn(50, 1000)
    ratios = []
    for seed in range(4):
        y = x @ projection_matrix(1000, 376, distribution, seed)
        differences = [(x[i] - x[j], y[i] - y[j]) for i in range(0, 50, 7) for j in range(i)]
        ratios += [np.sum(b**2) / np.sum(a**2) for a, b in differences]
        ratios += list(np.sum(y**2, 1) / np.sum(x**2, 1))
    assert 0.5 < min(ratios) and max(ratios) < 1.5  # eps = .5 at n = 24 log(50) / eps^2 = 376
    assert np.mean(ratios) == pytest.approx(1, abs=0.02)


def test_the_distributions():
    sign, sparse = projection_matrix(300, 200, "sign", 1), projection_matrix(300, 200, "sparse", 1)
    np.testing.assert_allclose(abs(sign), 200**-0.5, rtol=1e-6)
    values, counts = np.unique(np.round(sparse * np.sqrt(200 / 3), 5), return_counts=True)
    assert values.tolist() == [-1, 0, 1]
    np.testing.assert_allclose(counts / counts.sum(), [1 / 6, 2 / 3, 1 / 6], atol=0.01)


@given(st.integers(0, 1000), st.sampled_from(["gaussian", "sign", "sparse"]))
def test_the_seed_decides(seed, distribution):
    first, second = projection_matrix(7, 5, distribution, seed), projection_matrix(7, 5, distribution, seed)
    np.testing.assert_array_equal(first, second)
    assert (projection_matrix(7, 5, "gaussian", seed + 1) != projection_matrix(7, 5, "gaussian", seed)).any()


def test_layer_projects_and_is_not_trained():
    x = keras.layers.Input((None, 6))
    layer = RandomProjection(4, distribution="sign", seed=5)
    y = layer(keras.layers.Masking()(x))
    assert layer.output_mask is not None and K.int_shape(y) == (None, None, 4)
    inputs = np.random.RandomState(1).randn(2, 3, 6)
    expected = inputs @ projection_matrix(6, 4, "sign", 5).astype("float64")
    np.testing.assert_allclose(keras.models.Model(x, y).predict(inputs), expected, atol=1e-5)
    assert not layer.trainable_weights and len(layer.non_trainable_weights) == 1
    unseeded = RandomProjection(4)
    assert RandomProjection.from_config(unseeded.get_config()).seed == unseeded.seed
    flat = RandomProjection(3)(keras.layers.Input((6,)))
    assert K.int_shape(flat) == (None, 3)


def test_half_precision_does_not_overflow_inside():
    x = np.full((1, 4096), 60.0, "float16")
    layer = RandomProjection(8, distribution="sign", seed=0)
    y = K.eval(layer(tf.constant(x)))
    assert y.dtype == np.float16
    np.testing.assert_allclose(y, x.astype("float64") @ projection_matrix(4096, 8, "sign", 0), rtol=2e-3, atol=0.5)
    assert np.isfinite(y).all()


def test_simhash_tells_the_angle():
    theta = np.pi / 3
    pairs = np.array([[1.0, 0], [np.cos(theta), np.sin(theta)], [0, 1], [-1, 0]])
    layer = SimHash(40000, seed=2)
    codes = K.eval(layer(K.constant(pairs)))
    assert set(np.unique(codes)) == {-1.0, 1.0}
    assert np.mean(codes[0] == codes[1]) == pytest.approx(2 / 3, abs=0.01)
    assert np.mean(codes[0] * codes[1]) == pytest.approx(1 / 3, abs=0.02)  # what the article takes for the cosine
    estimates = SimHash.cosine(codes[:1], codes)
    np.testing.assert_allclose(estimates, [1, 0.5, 0, -1], atol=0.02)
    np.testing.assert_allclose(K.eval(SimHash.cosine(K.constant(codes[:1]), K.constant(codes))), estimates, atol=1e-4)
    np.testing.assert_array_equal(K.eval(layer(K.constant(pairs * 7))), codes)
    assert SimHash.from_config(layer.get_config()).seed == 2 and layer.get_config()["bits"] == 40000
    assert (K.eval(SimHash(4, seed=0)(K.constant(np.zeros((1, 3))))) == 1).all()


@pytest.mark.parametrize("wrong", [0, -3, 2.5, "many", None])
def test_units_must_be_a_whole_number(wrong):
    with pytest.raises(ValueError, match="RandomProjection: units must be a whole number >= 1, but is"):
        RandomProjection(wrong)
    with pytest.raises(ValueError, match="SimHash: units must be"):
        SimHash(wrong)


def test_other_errors():
    with pytest.raises(ValueError, match="distribution must be one of 'gaussian', 'sign', 'sparse', but is 'dct'"):
        RandomProjection(3, distribution="dct")
    with pytest.raises(ValueError, match="SimHash: seed must be a whole number >= 0, but is -1"):
        SimHash(3, seed=-1)
    with pytest.raises(ValueError, match="the last axis must be known"):
        RandomProjection(3).build((None, None))
