import json
import os
import warnings

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import Loss
from bert4keras.models import build_transformer_model
from helpers import tiny_config
from hypothesis import given

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.losses import MaskedCrossentropy, masked_crossentropy

with open(os.path.join(os.path.dirname(os.path.dirname(__file__)), "oracles.json")) as file:
    ORACLE = {case["name"]: case for case in json.load(file)["pet"]}["masked_ce"]
LABELS, PROBABILITIES = np.array(ORACLE["inputs"]["y_true"]), np.array(ORACLE["inputs"]["y_pred"])


def twin_tokens(labels, logits, mask):
    """Cross-entropies [batch, n] by loops, 0 where nothing is predicted."""
    values = np.zeros(labels.shape)
    for i, j in zip(*np.nonzero(mask)):
        row = logits[i, j].astype("float64")
        values[i, j] = np.log(np.exp(row - row.max()).sum()) + row.max() - row[labels[i, j]]
    return values


def twin(labels, logits, mask, normalization):
    sums = twin_tokens(labels, logits, mask).sum(axis=1)
    if normalization == "sum":
        return sums
    if normalization == "sample":
        return sums / np.maximum(mask.sum(axis=1), 1)
    return sums * len(sums) / max(mask.sum(), 1)


def run(*tensors, **feeds):
    return get_session().run(list(tensors), feeds.get("feed"))


def test_oracle():
    terms = twin_tokens(LABELS, np.log(PROBABILITIES), LABELS != 0)
    np.testing.assert_allclose(terms[LABELS != 0], ORACLE["expected"]["terms"], atol=1e-10)
    np.testing.assert_allclose(terms.sum() / 3, ORACLE["expected"]["loss"], atol=1e-10)
    for dtype, tolerance in [(tf.float64, 1e-10), (tf.float32, 1e-6)]:
        p = tf.constant(PROBABILITIES, dtype)
        for values in run(
            masked_crossentropy(LABELS, tf.math.log(p)),
            masked_crossentropy(LABELS, p, from_logits=False),
            MaskedCrossentropy().call(LABELS, tf.math.log(p)),
            MaskedCrossentropy(False).call(LABELS, p),
        ):
            np.testing.assert_allclose(values.mean(), ORACLE["expected"]["loss"], atol=tolerance)


def test_properties():
    y, s = tf1.placeholder(tf.int32, [None, None]), tf1.placeholder(tf.float64, [None, None, 5])
    m = tf1.placeholder(tf.bool, [None, None])
    kinds = ["batch", "sample", "sum"]
    fetches = [masked_crossentropy(y, s, normalization=kind) for kind in kinds]
    fetches += [masked_crossentropy(y, s, mask=m, normalization=kind) for kind in kinds]
    fetches += [MaskedCrossentropy(normalization=kind).call(y, s) for kind in kinds]
    slope = tf.gradients(fetches[0], s)[0]
    session = get_session()

    @given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 10**6))
    def check(batch, n, seed):
        rng = np.random.RandomState(seed)
        labels, logits = rng.randint(0, 5, (batch, n)), 10 * rng.randn(batch, n, 5)
        mask = rng.rand(batch, n) < 0.5
        got, gradient = session.run([fetches, slope], {y: labels, s: logits, m: mask})
        for i, kind in enumerate(kinds):
            expected = twin(labels, logits, labels != 0, kind)
            np.testing.assert_allclose(got[i], expected, atol=1e-9)
            np.testing.assert_allclose(got[3 + i], twin(labels, logits, mask, kind), atol=1e-9)
            assert got[6 + i].shape == labels.shape
            np.testing.assert_allclose(got[6 + i].mean(), expected.mean(), atol=1e-9)
        assert np.all(gradient[labels == 0] == 0)
        np.testing.assert_allclose(gradient.sum(axis=-1), 0, atol=1e-9)
        # rows without labels change nothing in the quotient; garbage at ignored positions does not either
        more = np.concatenate([labels, np.zeros((2, n), int)])
        garbage = np.concatenate([np.where((labels != 0)[..., None], logits, np.nan), np.full((2, n, 5), -np.inf)])
        again, gradient = session.run([fetches[0], slope], {y: more, s: garbage, m: more > 0})
        np.testing.assert_allclose(again.mean(), got[0].mean(), atol=1e-9)
        assert np.all(np.isfinite(gradient))

    check()


def test_no_position_gives_zero_and_zero_gradients():
    s = tf1.placeholder(tf.float32, [None, None, 5])
    losses = [masked_crossentropy(tf.zeros([2, 3], tf.int32), s, normalization=n) for n in ("batch", "sample", "sum")]
    losses += [MaskedCrossentropy().call(tf.zeros([2, 3]), s)]
    for value, slope in run(*[(y, tf.gradients(y, s)[0]) for y in losses], feed={s: np.full((2, 3, 5), -np.inf)}):
        assert np.all(value == 0) and np.all(slope == 0) and slope.shape == (2, 3, 5)


def test_masked_logits_and_large_ones():
    logits = tf.constant(np.array([[[2.0, -np.inf, 1.0], [1e4, 0, -1e4]]]), tf.float32)
    y = masked_crossentropy([[2, 1]], logits, normalization="sum")
    value, slope = run(y, tf.gradients(y, logits)[0])
    np.testing.assert_allclose(value, [np.log1p(np.e) + 1e4], rtol=1e-6)
    assert np.all(np.isfinite(slope)) and slope[0, 0, 1] == 0


def test_half_precision():
    rng = np.random.RandomState(2)
    logits, labels = (100 * rng.randn(2, 3, 7)).astype("float16"), rng.randint(0, 7, (2, 3))
    s = tf.constant(logits)
    y = masked_crossentropy(labels, s)
    value, slope = run(y, tf.gradients(y, s)[0])
    assert value.dtype == np.float32 and np.all(np.isfinite(slope))
    np.testing.assert_allclose(value, twin(labels, logits, labels != 0, "batch"), rtol=1e-4)
    with pytest.raises(ValueError, match="labels arrive as float16, which holds integers up to 2048 .* 5000 ids"):
        masked_crossentropy(tf.zeros([1, 1, 1], tf.float16), tf.zeros([1, 1, 5000], tf.float16))


def test_gradient_and_second_derivative_by_finite_differences(rng):
    s, labels = tf1.placeholder(tf.float64, [2, 2, 4]), np.array([[1, 0], [3, 2]])
    y = tf.reduce_sum(masked_crossentropy(labels, s))
    slope = tf.gradients(y, s)[0]
    penalty = tf.gradients(tf.reduce_sum(slope**2), s)[0]  # what a gradient penalty needs
    at, direction = rng.randn(2, 2, 4), rng.randn(2, 2, 4)
    first, second = run(slope, penalty, feed={s: at})
    up, down = [run(y, tf.reduce_sum(slope**2), feed={s: at + e * direction}) for e in (1e-5, -1e-5)]
    np.testing.assert_allclose((up[0] - down[0]) / 2e-5, (first * direction).sum(), atol=1e-8)
    np.testing.assert_allclose((up[1] - down[1]) / 2e-5, (second * direction).sum(), atol=1e-8)


def test_ignore():
    logits = np.random.RandomState(0).randn(1, 3, 4)
    labels = np.array([[-100, 0, 2]])
    got = run(masked_crossentropy(labels, tf.constant(logits), ignore=-100))[0]
    np.testing.assert_allclose(got, twin(labels, logits, labels >= 0, "batch"), atol=1e-9)
    labels = np.array([[0, 0, 2]])
    got = run(masked_crossentropy(labels, tf.constant(logits), ignore=None))[0]
    np.testing.assert_allclose(got, twin(labels, logits, labels >= 0, "batch"), atol=1e-9)


@pytest.fixture
def mlm():
    model = build_transformer_model(None, with_mlm="linear", **dict(tiny_config(), num_hidden_layers=1))
    tokens = np.array([[2, 6, 7, 8, 3, 0], [2, 9, 4, 3, 0, 0], [2, 5, 6, 7, 8, 3]])
    labels = np.array([[0, 9, 0, 5, 0, 0], [0, 0, 7, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
    return model, [tokens, np.zeros_like(tokens)], labels


def test_in_compile_on_a_bert_with_padding_and_sample_weights(mlm):
    model, inputs, labels = mlm
    logits, mask, weights = model.predict(inputs), labels != 0, np.array([0.5, 2.0, 1.0])
    for normalization in ("batch", "sample"):
        model.compile("sgd", MaskedCrossentropy(normalization=normalization))
        rows = twin(labels, logits, mask, normalization)
        y = labels[..., None]
        np.testing.assert_allclose(model.test_on_batch(inputs, y), rows.mean(), rtol=1e-4)
        got = model.test_on_batch(inputs, y, sample_weight=weights)
        np.testing.assert_allclose(got, (rows * weights).mean(), rtol=1e-4)
    model.fit(inputs, y, verbose=0)
    model.compile("sgd", MaskedCrossentropy(), sample_weight_mode="temporal")
    temporal = np.random.RandomState(0).rand(3, 6)
    expected = (twin_tokens(labels, model.predict(inputs), mask) * temporal).sum() / mask.sum()
    np.testing.assert_allclose(model.test_on_batch(inputs, y, sample_weight=temporal), expected, rtol=1e-4)


class MaskedLM(Loss):
    def compute_loss(self, inputs, mask=None):
        return K.mean(masked_crossentropy(*inputs))


def test_as_a_bert4keras_loss_layer(mlm):
    bert, inputs, labels = mlm
    targets = keras.layers.Input((None,))
    model = keras.models.Model(bert.inputs + [targets], MaskedLM(1)([targets, bert.output]))
    model.compile("sgd")
    expected = twin(labels, bert.predict(inputs), labels != 0, "batch").mean()
    np.testing.assert_allclose(model.test_on_batch(inputs + [labels], None), expected, rtol=1e-4)
    model.train_on_batch(inputs + [labels], None)


def test_probabilities_are_warned_about():
    p = tf.nn.softmax(tf.zeros([1, 2, 3]))
    with pytest.warns(UserWarning, match="masked_crossentropy takes logits.*softmax op"):
        masked_crossentropy([[1, 2]], p)
    with pytest.warns(UserWarning, match="MaskedCrossentropy takes logits"):
        MaskedCrossentropy().call(tf.constant([[1, 2]]), p)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value = run(masked_crossentropy([[1, 2]], p, from_logits=False))[0]
    np.testing.assert_allclose(value, [np.log(3)], rtol=1e-6)


def test_errors():
    y = tf1.placeholder(tf.int32, [None, None])
    for wrong in ([[1, 3]], [[-1, 1]]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="masked_crossentropy: labels must be ids from 0"):
            run(masked_crossentropy(y, tf.zeros([1, 2, 3])), feed={y: wrong})
    with pytest.raises(ValueError, match="y_pred .batch, n, vocabulary. must have 3 axes"):
        masked_crossentropy([[1]], tf.zeros([1, 3]))
    with pytest.raises(ValueError, match="masked_crossentropy: y_true and y_pred without its last axis"):
        masked_crossentropy([[1, 2]], tf.zeros([1, 3, 4]))
    with pytest.raises(ValueError, match="one id per position"):
        masked_crossentropy(np.zeros((1, 3, 4)), tf.zeros([1, 3, 4]))
    with pytest.raises(ValueError, match="y_true and mask must have the same shape"):
        masked_crossentropy([[1, 2]], tf.zeros([1, 2, 3]), mask=[[1]])
    with pytest.raises(ValueError, match="normalization must be one of 'batch', 'sample', 'sum', but is 'mean'"):
        MaskedCrossentropy(normalization="mean")
