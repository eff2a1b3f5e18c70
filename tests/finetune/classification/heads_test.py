"""Pooling with masks, and heads against scikit-learn."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import K, keras, tf1
from kexue_keras.finetune.classification._heads import HEADS, build_classifier
from kexue_keras.layers import SequencePooling
from kexue_keras.losses import multilabel_crossentropy

pytestmark = pytest.mark.all_stacks


def pool_numpy(x, mask, mode):
    out = []
    for rows, keep in zip(x.astype("float64"), mask.astype(bool)):
        if mode == "cls":
            out.append(rows[0])
        else:
            out.append(rows[keep].mean(axis=0) if mode == "mean" else rows[keep].max(axis=0))
    return np.array(out)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_pooling_against_numpy(rng, dtype):
    x = rng.standard_normal((3, 7, 4)) - 5
    mask = np.arange(7) < np.array([[7], [1], [4]])
    # What is masked must not matter, however large it is.
    x[~mask] = 300
    placeholder = tf1.placeholder(dtype, [None, None, 4])
    modes = ("mean", "max", "cls")
    outputs = [SequencePooling(m).call(placeholder, mask=tf.constant(mask)) for m in modes]
    unmasked = SequencePooling("mean").call(placeholder)
    values, plain = tf1.Session().run((outputs, unmasked), {placeholder: x.astype(dtype)})
    for mode, value in zip(modes, values):
        assert value.dtype == dtype
        assert np.allclose(value, pool_numpy(x.astype(dtype), mask, mode), atol=1e-6 if dtype == "float32" else 5e-3)
    assert np.allclose(plain, x.astype(dtype).mean(axis=1), atol=1e-5 if dtype == "float32" else 0.2)


def test_float16_sums_do_not_overflow():
    x = tf.constant(np.full((1, 600, 2), 500), "float16")
    assert np.allclose(K.eval(SequencePooling("mean").call(x)), 500)


def test_unknown_pooling():
    with pytest.raises(ValueError, match="'sum'"):
        SequencePooling("sum")


def test_the_head_starts_alike_whatever_else_is_in_the_graph():
    def start():
        x = keras.layers.Input((None, 6))
        return build_classifier(keras.models.Model(x, x), 3, pooling="mean", dropout_rate=0.1, seed=4).get_weights()

    first = start()
    keras.layers.Dense(3).build((None, 5))
    for a, b in zip(first, start()):
        assert np.array_equal(a, b)
    assert 0.005 < np.std(first[0]) < 0.04 and not first[1].any()


def test_single_label_head(rng):
    head = HEADS["single"]
    logits, targets = rng.standard_normal((20, 4)) * 30, rng.randint(0, 4, 20)
    probabilities = head.probabilities(logits)
    assert np.allclose(probabilities.sum(axis=1), 1)
    expected = -np.log(probabilities[np.arange(20), targets]).mean()
    assert np.isclose(head.cross_entropy(logits, targets), expected)
    assert np.isfinite(head.cross_entropy(logits * 1e30, targets))
    loss = K.eval(head.loss()(K.constant(targets[:, None], "int32"), K.constant(logits)))
    assert np.isclose(loss, head.cross_entropy(logits, targets), rtol=1e-5)
    assert head.describe(np.array([[0.2, 0.8]]), ["a", "b"]) == [("b", 0.8)]
    assert list(head.targets(["b", "a"], ["a", "b"])) == [1, 0]


def test_several_labels_as_one_cross_entropy(rng):
    head = HEADS["multi"]
    logits, targets = rng.standard_normal((20, 4)) * 3, rng.randint(0, 2, (20, 4)).astype("float32")
    expected = np.mean(K.eval(multilabel_crossentropy(targets, logits)))
    assert np.isclose(head.cross_entropy(logits, targets), expected)
    assert np.isclose(K.eval(head.loss()(K.constant(targets), K.constant(logits))), expected, rtol=1e-4)
    np.testing.assert_allclose(head.probabilities(logits), 1 / (1 + np.exp(-2 * logits)))
    assert (head.decide(head.probabilities(logits)) == (logits > 0)).all()
    assert np.isfinite(head.cross_entropy(logits * 1e30, targets))


def test_a_sigmoid_for_each_label(rng):
    head = HEADS["sigmoid"]
    logits, targets = rng.standard_normal((20, 4)) * 3, rng.randint(0, 2, (20, 4))
    p = head.probabilities(logits)
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean()
    assert np.isclose(head.cross_entropy(logits, targets), expected)
    loss = K.eval(head.loss()(K.constant(targets), K.constant(logits)))
    assert np.isclose(loss, expected, rtol=1e-4)
    assert np.isfinite(head.cross_entropy(logits * 1e30, targets))
    assert head.describe(np.array([[0.2, 0.8, 0.9], [0, 0, 0.1]]), list("abc")) == [(["c", "b"], [0.9, 0.8]), ([], [])]
    assert head.targets([("c", "a"), ()], list("abc")).tolist() == [[1, 0, 1], [0, 0, 0]]
