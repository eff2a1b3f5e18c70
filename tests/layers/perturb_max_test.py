"""PerturbMax against numpy, integrals and sampling; the oracles of the article."""

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from loss_graphs import slope
from scipy import special, stats

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.layers import PerturbMax, perturb_max, perturb_max_np, sample_perturb_max
from kexue_keras.layers._noise import NOISES

MU = np.array([1, 0, -0.5, 0.3])
EXACT = {
    "gumbel": [0.47902014, 0.17622166, 0.10688384, 0.23787436],
    "normal": [0.5523125669, 0.1499634732, 0.0666977324, 0.2310262276],
    "uniform": [0.955, 0, 0, 0.045],
    "exponential": [0.57120256, 0.14320848, 0.0828139, 0.20277506],
    "logistic": [0.42517698, 0.1962199, 0.12829552, 0.2503076],
    "laplace": [0.50260642, 0.16699743, 0.09550324, 0.23489291],
}
SCIPY = {
    "gumbel": stats.gumbel_r,
    "normal": stats.norm,
    "uniform": stats.uniform,
    "exponential": stats.expon,
    "logistic": stats.logistic,
    "laplace": stats.laplace,
}


def test_distributions_are_those_of_scipy():
    x, t = np.linspace(-4, 4, 33), np.linspace(0.01, 0.99, 21)
    wide = np.concatenate([np.linspace(-30, 30, 61), [-4.999, -5.001]])
    logs = get_session().run({n: noise.log_cdf(tf.constant(wide)) for n, noise in NOISES.items()})
    for name, noise in NOISES.items():
        np.testing.assert_allclose(noise.cdf(x), SCIPY[name].cdf(x), atol=1e-14)
        np.testing.assert_allclose(noise.quantile(t), SCIPY[name].ppf(t), atol=1e-12)
        expected = np.maximum(SCIPY[name].logcdf(wide), -1e30)
        np.testing.assert_allclose(logs[name], expected, rtol=1e-5, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("noise", sorted(NOISES))
def test_oracles(noise):
    # The integral over t = F(e), by scipy's distributions, in 20000 cells.
    e = SCIPY[noise].ppf((np.arange(20000) + 0.5) / 20000)
    by_integral = [
        np.prod([SCIPY[noise].cdf(MU[i] - m + e) for m in np.delete(MU, i)], axis=0).mean() for i in range(4)
    ]
    np.testing.assert_allclose(by_integral, EXACT[noise], atol=1e-6)
    np.testing.assert_allclose(perturb_max_np(MU, noise, num_nodes=1000), EXACT[noise], atol=5e-4)


def test_errors_of_the_nodes_are_as_published():
    for nodes, points, error, total, renormalized in [
        ("article", 10, 2.71e-2, 0.9301280, 4.72e-2),
        ("article", 100, 3.83e-3, 0.9907261, 5.70e-3),
        ("article", 1000, 4.22e-4, 0.9990151, 5.97e-4),
        ("midpoint", 10, 5.88e-3, 0.9889350, 6.14e-3),
        ("midpoint", 100, 1.78e-4, 0.9997270, 1.60e-4),
        ("midpoint", 1000, 4.22e-6, 0.9999942, 3.83e-6),
    ]:
        p = perturb_max_np(MU, num_nodes=points, nodes=nodes, renormalize=False)
        assert p.sum() == pytest.approx(total, abs=1e-6)
        assert abs(p - EXACT["normal"]).max() == pytest.approx(error, rel=5e-3)
        p = perturb_max_np(MU, num_nodes=points, nodes=nodes)
        assert abs(p - EXACT["normal"]).max() == pytest.approx(renormalized, rel=5e-3)
    expected = [0.5528365432, 0.1466208298, 0.0628641215, 0.228404607]
    np.testing.assert_allclose(perturb_max_np(MU, nodes="article", renormalize=False), expected, atol=1e-9)


def test_tensors_agree_with_numpy_in_both_precisions():
    mu = tf1.placeholder(tf.float64, [None, None])
    cases = [(n, nodes, r) for n in NOISES for nodes, r in (("midpoint", True), ("article", False))]
    double = [perturb_max(mu, n, num_nodes=30, nodes=d, renormalize=r, scale=0.7, chunk_size=13) for n, d, r in cases]
    single = [perturb_max(tf.cast(mu, tf.float32), n, num_nodes=30) for n in NOISES]
    half = [perturb_max(tf.cast(mu, tf.float16), n, num_nodes=30) for n in NOISES]
    x = np.array([[1, 0, -0.5, 0.3], [0, 0, 0, -9], [-np.inf, 2, 1, -np.inf], [-np.inf] * 4, [3e4, 0, -3e4, 5]])
    fetched = get_session().run([double, single, half], {mu: x})
    for (noise, nodes, renormalize), p in zip(cases, fetched[0]):
        expected = perturb_max_np(x, noise, num_nodes=30, nodes=nodes, renormalize=renormalize, scale=0.7)
        np.testing.assert_allclose(p, expected, atol=1e-6, err_msg=noise)
        assert not p[3].any() and p[2, 0] == 0
    for noise, p, h in zip(NOISES, *fetched[1:]):
        expected = perturb_max_np(x, noise, num_nodes=30)
        np.testing.assert_allclose(p, expected, atol=1e-5, err_msg=noise)
        assert h.dtype == np.float16 and np.isfinite(h).all()
        np.testing.assert_allclose(h[:4], expected[:4], atol=3e-3, err_msg=noise)


def test_gradients_agree_with_differences_and_are_finite():
    mu = tf1.placeholder(tf.float64, [None, 4])
    weights = np.array([1.0, -2, 3, 0.5])
    smooth = [n for n in NOISES if n != "uniform"]
    tensors = {n: tf.gradients(perturb_max(mu, n, num_nodes=20) * weights, mu)[0] for n in NOISES}
    wild = np.array([[50.0, -50, 0, 1], [-np.inf, 1, 2, 3], [1e4, 1e4, -1e4, 0]])
    got, extreme = get_session().run(tensors, {mu: MU[None]}), get_session().run(tensors, {mu: wild})
    for noise in NOISES:
        assert np.isfinite(extreme[noise]).all(), noise
        assert got[noise].sum() == pytest.approx(0, abs=1e-9)  # a constant added to all changes nothing
    for noise in smooth:
        expected = slope(lambda m: perturb_max_np(m, noise, num_nodes=20) * weights, MU[None])
        np.testing.assert_allclose(got[noise], expected, atol=1e-5, err_msg=noise)


@given(
    st.sampled_from(sorted(NOISES)),
    st.lists(st.floats(-4, 4), min_size=2, max_size=6),
    st.floats(-50, 50),
    st.floats(0.3, 5),
)
def test_properties(noise, mu, shift, scale):
    mu = np.array(mu)
    p = perturb_max_np(mu, noise, scale=scale)
    assert (p >= 0).all() and p.sum() == pytest.approx(1)
    assert (np.diff(p[np.argsort(mu)]) >= -1e-9).all()
    np.testing.assert_allclose(perturb_max_np(mu + shift, noise, scale=scale), p, atol=1e-9)
    np.testing.assert_allclose(perturb_max_np(mu, noise, scale=1e6), np.full(len(mu), 1 / len(mu)), atol=1e-3)
    np.testing.assert_allclose(perturb_max_np(mu / scale, noise), p, atol=1e-12)
    if np.sort(mu)[-1] - np.sort(mu)[-2] > 0.1:
        assert perturb_max_np(mu, noise, scale=1e-3).max() == pytest.approx(1)


def test_gumbel_is_softmax_and_two_classes_have_closed_forms():
    np.testing.assert_allclose(perturb_max_np(MU, "gumbel", num_nodes=1000), special.softmax(MU), atol=5e-4)
    for d in (0.5, 1.5):
        exact = {
            "gumbel": special.expit(d),
            "normal": special.ndtr(d / np.sqrt(2)),
            "uniform": 1 - (1 - d) ** 2 / 2 if d <= 1 else 1,
            "exponential": 1 - np.exp(-d) / 2,
            "logistic": (1 - (1 + d) * np.exp(-d)) / (1 - np.exp(-d)) ** 2,
        }
        for noise, p in exact.items():
            assert perturb_max_np([d, 0], noise, num_nodes=1000)[0] == pytest.approx(p, abs=5e-4), (noise, d)


def test_samples_follow_the_distribution():
    mu = tf.constant(np.tile(MU, (40000, 1)), tf.float32)
    drawn = get_session().run({n: sample_perturb_max(mu, n, seed=4) for n in NOISES})
    for noise, classes in drawn.items():
        np.testing.assert_allclose(np.bincount(classes, minlength=4) / 40000, EXACT[noise], atol=0.01, err_msg=noise)
    masked = sample_perturb_max(tf.constant([[-np.inf, 0.0]] * 50), "laplace")
    assert K.eval(masked).tolist() == [1] * 50


def test_layer_in_a_model():
    x = keras.layers.Input((None, 3))
    layer = PerturbMax("logistic", num_nodes=10, scale=2.0, chunk_size=4)
    y = layer(keras.layers.Masking()(x))
    assert layer.output_mask is not None and K.int_shape(y) == (None, None, 3)
    inputs = np.random.RandomState(0).randn(2, 5, 3)
    expected = perturb_max_np(inputs, "logistic", num_nodes=10, scale=2.0)
    np.testing.assert_allclose(keras.models.Model(x, y).predict(inputs), expected, atol=1e-5)
    copy = PerturbMax.from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()
    assert K.eval(layer.sample(K.constant([[9e9, 0.0]]))).tolist() == [0]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"noise": "cauchy"}, "noise must be one of .*'normal'.* but is 'cauchy'"),
        ({"num_nodes": 0}, "num_nodes must be a whole number >= 1, but is 0"),
        ({"nodes": "gauss"}, "nodes must be one of 'midpoint', 'article', but is 'gauss'"),
        ({"scale": 0}, "scale must be a number > 0, but is 0"),
        ({"chunk_size": -1}, "chunk_size must be a whole number >= 1, but is -1"),
    ],
)
def test_errors_say_what_to_do(arguments, words):
    with pytest.raises(ValueError, match=words):
        PerturbMax(**arguments)


def test_a_scalar_has_no_classes():
    with pytest.raises(ValueError, match="axis of classes"):
        perturb_max(K.constant(1.0))
