import json
import os

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import Loss
from hypothesis import given

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.losses import SimilarityDistillation, similarity_distillation

with open(os.path.join(os.path.dirname(os.path.dirname(__file__)), "oracles.json")) as file:
    ORACLE = {case["name"]: case for case in json.load(file)["simbert"]}["distillation"]


def twin(teacher, student, weight=100.0):
    """Row by row, by loops."""

    def cosine(x, i, j):
        return x[i] @ x[j] / np.sqrt((x[i] @ x[i]) * (x[j] @ x[j]))

    u, v = np.asarray(teacher, "float64"), np.asarray(student, "float64")
    n = len(u)
    return np.array([weight / n * sum((cosine(u, i, j) - cosine(v, i, j)) ** 2 for j in range(n)) for i in range(n)])


def run(*tensors, **feeds):
    return get_session().run(list(tensors), feeds.get("feed"))


def test_oracle():
    u, v = ORACLE["inputs"]["teacher"], ORACLE["inputs"]["student"]
    np.testing.assert_allclose(twin(u, v).mean(), ORACLE["expected"], atol=1e-10)
    for dtype, tolerance in [(tf.float64, 1e-10), (tf.float32, 1e-4)]:
        rows = run(SimilarityDistillation().call(tf.constant(u, dtype), tf.constant(v, dtype)))[0]
        np.testing.assert_allclose(rows, twin(u, v), atol=tolerance)
        np.testing.assert_allclose(rows.mean(), ORACLE["expected"], atol=tolerance)


def test_properties():
    u, v = tf1.placeholder(tf.float64, [None, 4]), tf1.placeholder(tf.float64, [None, 3])
    w = tf1.placeholder(tf.float64, [None, 4])
    rows, same_size = similarity_distillation(u, v, weight=7.0), similarity_distillation(u, w)
    slopes = tf.gradients(rows, [u, v])
    assert slopes[0] is None  # nothing flows to the teacher
    session = get_session()

    @given(st.integers(2, 6), st.integers(0, 10**6))
    def check(n, seed):
        rng = np.random.RandomState(seed)
        teacher, student = rng.randn(n, 4), rng.randn(n, 3)
        got, slope = session.run([rows, slopes[1]], {u: teacher, v: student})
        np.testing.assert_allclose(got, twin(teacher, student, 7.0), atol=1e-9)
        np.testing.assert_allclose((slope * student).sum(axis=1), 0, atol=1e-7)  # cosines ignore lengths
        scaled = student * np.exp(rng.randn(n, 1))
        np.testing.assert_allclose(session.run(rows, {u: teacher, v: scaled}), got, atol=1e-7)
        order = rng.permutation(n)
        again = session.run(rows, {u: teacher[order], v: student[order]})
        np.testing.assert_allclose(again, got[order], atol=1e-9)
        rotation = np.linalg.qr(rng.randn(4, 4))[0]
        np.testing.assert_allclose(session.run(same_size, {u: teacher, w: 3 * teacher @ rotation}), 0, atol=1e-9)
        step = 1e-5 * rng.randn(n, 3)
        up = session.run(rows, {u: teacher, v: student + step}).sum()
        down = session.run(rows, {u: teacher, v: student - step}).sum()
        np.testing.assert_allclose((up - down) / 2, (slope * step).sum(), atol=1e-8)

    check()


def test_half_precision_and_one_sentence():
    rng = np.random.RandomState(3)
    u, v = rng.randn(4, 5).astype("float16"), rng.randn(4, 3).astype("float16")
    x = tf1.placeholder(tf.float16, [None, 3])
    y = similarity_distillation(tf1.placeholder_with_default(u, [None, 5]), x)
    got = run(y, feed={x: v})[0]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, twin(u, v), rtol=1e-4)
    single = tf1.placeholder(tf.float32, [None, 3])
    value = similarity_distillation(single, single)
    assert run(value, feed={single: [[1, 2, 3]]})[0] == 0
    with pytest.raises(ValueError, match="similarity_distillation: one sentence has no pairs"):
        similarity_distillation(tf.ones([1, 2]), tf.ones([1, 2]))


@pytest.mark.all_stacks
def test_in_compile_with_sample_weights(rng):
    x = keras.layers.Input((4,))
    model = keras.models.Model(x, keras.layers.Dense(3, use_bias=False)(x))
    model.compile(keras.optimizers.SGD(0.05), SimilarityDistillation(10.0))
    batch, teacher, weights = rng.randn(6, 4), rng.randn(6, 5), rng.rand(6)
    rows = twin(teacher, model.predict(batch), 10.0)
    np.testing.assert_allclose(model.test_on_batch(batch, teacher), rows.mean(), rtol=1e-4)
    got = model.test_on_batch(batch, teacher, sample_weight=weights)
    np.testing.assert_allclose(got, (rows * weights).mean(), rtol=1e-4)
    model.fit(batch, teacher, batch_size=3, epochs=10, verbose=0)
    assert model.test_on_batch(batch, teacher) < rows.mean()


class Distill(Loss):
    def compute_loss(self, inputs, mask=None):
        return K.mean(similarity_distillation(*inputs))


def test_as_a_bert4keras_loss_layer(rng):
    teacher, x = keras.layers.Input((5,)), keras.layers.Input((4,))
    model = keras.models.Model([teacher, x], Distill(1)([teacher, keras.layers.Dense(3)(x)]))
    model.compile("sgd")
    u, batch = rng.randn(5, 5), rng.randn(5, 4)
    expected = twin(u, model.predict([u, batch])).mean()
    np.testing.assert_allclose(model.train_on_batch([u, batch], None), expected, rtol=1e-4)


def test_errors():
    with pytest.raises(ValueError, match="same number of rows"):
        similarity_distillation(tf.zeros([3, 2]), tf.zeros([4, 2]))
    with pytest.raises(ValueError, match="y_pred .*2 axes.*has 3"):
        similarity_distillation(tf.zeros([3, 2]), tf.zeros([3, 2, 2]))
    u, v = tf1.placeholder(tf.float32, [None, 2]), tf1.placeholder(tf.float32, [None, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="similarity_distillation: .*same number of rows"):
        run(similarity_distillation(u, v), feed={u: np.ones((1, 2)), v: np.ones((3, 2))})
    with pytest.raises(ValueError, match="weight must be a number >= 0, but is -1"):
        SimilarityDistillation(-1)
