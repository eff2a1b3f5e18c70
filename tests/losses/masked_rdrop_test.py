"""R-Drop of tokens: against float64 numpy, and what it does with batches that are no pairs."""

import numpy as np
import pytest
import tensorflow as tf
from loss_graphs import evaluator, slope

from kexue_keras import losses, training
from kexue_keras.backend import K, keras

INF = float("inf")
LABELS = np.repeat([[2, 0, 1], [0, 3, 0]], 2, axis=0)


def twin(labels, logits, alpha, *, factor=0.25, normalization="batch"):
    """Values of the rows in float64, straight from the definition."""
    logits = np.asarray(logits, "float64")
    log_p = logits - np.logaddexp.reduce(logits, -1)[..., None]
    asked = labels > 0
    ce = -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]
    p, q = np.exp(log_p[::2]), np.exp(log_p[1::2])
    divergence = np.repeat(np.sum((p - q) * (log_p[::2] - log_p[1::2]), -1), 2, axis=0)
    sums = np.sum(np.where(asked, ce + alpha * factor * divergence, 0), 1)
    scale = {"batch": len(labels) / asked.sum(), "sample": 1 / np.maximum(asked.sum(1), 1), "sum": 1}
    return sums * scale[normalization]


def runner(dtype="float32", **kwargs):
    return evaluator(
        lambda y, s: losses.masked_rdrop_crossentropy(y, s, **kwargs),
        ("int32", [None, None]),
        (dtype, [None, None, 4]),
        wrt=1,
    )


@pytest.mark.parametrize("normalization", ["batch", "sample", "sum"])
@pytest.mark.parametrize("convention, factor", [("article", 0.25), ("mean", 0.5)])
def test_values_and_gradients(rng, normalization, convention, factor):
    logits = rng.randn(4, 3, 4)
    run = runner("float64", alpha=3.0, normalization=normalization, convention=convention)
    values, gradient = run(LABELS, logits)
    how = dict(alpha=3.0, factor=factor, normalization=normalization)
    np.testing.assert_allclose(values, twin(LABELS, logits, **how), rtol=1e-12)
    np.testing.assert_allclose(gradient, slope(lambda x: twin(LABELS, x, **how), logits), atol=1e-8)
    assert not gradient[LABELS == 0].any()


def test_without_divergence_it_is_the_masked_crossentropy(rng):
    logits = rng.randn(4, 3, 4)
    plain = evaluator(losses.masked_crossentropy, ("int32", [None, None]), ("float32", [None, None, 4]))
    np.testing.assert_allclose(runner(alpha=0.0)(LABELS, logits)[0], plain(LABELS, logits), rtol=1e-6)


def test_what_stands_where_nothing_is_predicted_does_not_matter(rng):
    logits = rng.randn(4, 3, 4)
    spoilt = np.where((LABELS == 0)[..., None], np.nan, logits)
    for ours, wanted in zip(runner()(LABELS, spoilt), runner()(LABELS, logits)):
        np.testing.assert_allclose(ours[LABELS.any(1)], wanted[LABELS.any(1)], rtol=1e-6)
    assert np.isfinite(runner()(LABELS, spoilt)[1][LABELS > 0]).all()


def test_masked_words_half_precision_and_nothing_to_predict(rng):
    logits = rng.randn(4, 3, 4)
    logits[..., 0] = -INF
    values, gradient = runner()(LABELS, logits)
    assert np.isfinite(values).all() and np.isfinite(gradient).all()
    half = runner("float16")(LABELS, logits.astype("float16"))[0]
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, values, rtol=2e-3)
    assert not runner()(0 * LABELS, logits)[0].any()


def test_probabilities(rng):
    logits = rng.randn(4, 3, 4)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(runner(from_logits=False)(LABELS, p)[0], twin(LABELS, logits, 4.0), rtol=1e-5)


@pytest.mark.parametrize("labels", [LABELS[:3], LABELS[[0, 2, 1, 3]]])
def test_a_batch_without_pairs_is_refused(labels, rng):
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="rows 2i and 2i"):
        runner()(labels, rng.randn(len(labels), 3, 4))


@pytest.mark.parametrize("wrong", [{"alpha": -1.0}, {"convention": "paper"}, {"normalization": "mean"}])
def test_wrong_words_are_refused(wrong):
    with pytest.raises(ValueError, match=list(wrong)[0]):
        losses.MaskedRDropCrossentropy(**wrong)


def words_model(rate=0.5):
    x = keras.layers.Input([3, 5])
    return keras.models.Model(x, keras.layers.Dense(4)(keras.layers.Dropout(rate)(x)))


def test_only_training_needs_pairs(rng):
    model = words_model()
    model.compile("sgd", losses.MaskedRDropCrossentropy(alpha=4.0))
    x, y = rng.randn(3, 3, 5), np.array([[2, 0, 1], [0, 3, 0], [1, 1, 0]])
    wanted = losses.masked_crossentropy(y, K.constant(model.predict(x)))
    np.testing.assert_allclose(model.test_on_batch(x, y[..., None]), K.eval(K.mean(wanted)), rtol=1e-5)
    pairs = np.repeat(x, 2, axis=0), np.repeat(y, 2, axis=0)[..., None]
    assert np.isfinite(model.train_on_batch(*pairs))
    with pytest.raises(tf.errors.InvalidArgumentError, match="rows 2i and 2i"):
        model.train_on_batch(x, y[..., None])


def test_a_model_of_training_rdrop_repeats_the_batch_itself(rng):
    model = words_model()
    trained = training.rdrop(model)
    trained.compile(keras.optimizers.SGD(0.0), losses.MaskedRDropCrossentropy(alpha=4.0))
    x, y = rng.randn(3, 3, 5), np.array([[2, 0, 1], [0, 3, 0], [1, 1, 0]])
    plain = losses.masked_crossentropy(y, K.constant(model.predict(x)))
    np.testing.assert_allclose(trained.test_on_batch(x, y[..., None]), K.eval(K.mean(plain)), rtol=1e-5)
    # Two dropouts differ, so the divergence adds to what either pass gives.
    trained.compile(keras.optimizers.SGD(0.0), losses.MaskedRDropCrossentropy(alpha=100.0))
    assert trained.train_on_batch(x, y[..., None]) > 5 * K.eval(K.mean(plain))


def test_it_warns_where_nothing_is_random():
    model = words_model(0.0)
    with pytest.warns(UserWarning, match="nothing random feeds"):
        losses.MaskedRDropCrossentropy()(K.constant(LABELS), model.output)
