import json
import os

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import Loss
from hypothesis import given

from kexue_keras.backend import get_session, keras, tf1
from kexue_keras.losses import CoSENT, cosent_loss

with open(os.path.join(os.path.dirname(os.path.dirname(__file__)), "oracles.json")) as file:
    ORACLES = json.load(file)["cosent"]
OF_COSINES = [case for case in ORACLES if "cos" in case["inputs"]]
OF_VECTORS = [case for case in ORACLES if "vectors" in case["inputs"]]


def twin(cosines, labels, scale, weights=None):
    """Loss and gradient by two loops over the pairs."""
    c, n = np.asarray(cosines, "float64"), len(cosines)
    w = np.ones(n) if weights is None else np.asarray(weights, "float64")
    total, slope = 0.0, np.zeros(n)
    for a in range(n):
        for b in range(n):
            if labels[a] > labels[b]:
                term = w[a] * w[b] * np.exp(scale * (c[b] - c[a]))
                total += term
                slope[b] += scale * term
                slope[a] -= scale * term
    return np.log1p(total), slope / (1 + total)


def cosines_of(vectors):
    v = np.asarray(vectors, "float64")
    v = v / np.linalg.norm(v, axis=-1, keepdims=True)
    return (v[::2] * v[1::2]).sum(axis=-1)


def run(*tensors, **feeds):
    return get_session().run(list(tensors), feeds.get("feed"))


def by_scale(cases):
    """The cases that one graph can compute: pairs (scale, list of cases)."""
    scales = sorted({case["params"]["lambda"] for case in cases})
    return [(scale, [case for case in cases if case["params"]["lambda"] == scale]) for scale in scales]


DTYPES = pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-9), ("float32", 2e-5)])


@DTYPES
def test_oracles_of_cosines(dtype, tolerance):
    for scale, cases in by_scale(OF_COSINES):
        c, y = tf1.placeholder(dtype, [None]), tf1.placeholder(tf.float64, [None])
        losses = [cosent_loss(c, y, scale, method=method) for method in ("auto", "pairwise", "factorised")]
        fetches = [(loss, tf.gradients(loss, c)[0]) for loss in losses]
        for case in cases:
            cosines, labels, expected = case["inputs"]["cos"], case["inputs"]["y"], case["expected"]
            value, slope = twin(cosines, labels, scale)
            np.testing.assert_allclose(value, expected["loss"], atol=1e-10, err_msg=case["name"])
            np.testing.assert_allclose(slope, expected.get("grad_cos", slope), atol=1e-10, err_msg=case["name"])
            two = len(set(labels)) < 3
            for got in run(*fetches[: 3 if two else 2], feed={c: cosines, y: labels}):
                np.testing.assert_allclose(got[0], expected["loss"], atol=tolerance, err_msg=case["name"])
                np.testing.assert_allclose(got[1], slope, atol=scale * tolerance, err_msg=case["name"])


@DTYPES
def test_oracles_of_vectors(dtype, tolerance):
    for scale, cases in by_scale(OF_VECTORS):
        v, c = tf1.placeholder(dtype, [None, 2]), tf1.placeholder(dtype, [None, 1])
        y, repeated = tf1.placeholder(tf.float64, [None]), tf1.placeholder(tf.float64, [None, 1])
        per_pair, rows = CoSENT(scale, labels="per_pair"), CoSENT(scale)
        loss = rows(repeated, v)
        losses = [loss, per_pair(y, v), per_pair(y, tf.reshape(v, [-1, 2, 2])), per_pair(y, c)]
        fetches = [tf.gradients(loss, v)[0]] + losses
        for case in cases:
            vectors, labels, expected = case["inputs"]["vectors"], case["inputs"]["y"], case["expected"]
            np.testing.assert_allclose(cosines_of(vectors), expected["cos"], atol=1e-10, err_msg=case["name"])
            value, slope = twin(cosines_of(vectors), labels, scale)
            np.testing.assert_allclose(value, expected["loss"], atol=1e-10, err_msg=case["name"])
            np.testing.assert_allclose(slope, expected.get("grad_cos", slope), atol=1e-10, err_msg=case["name"])
            feed = {v: vectors, y: labels, repeated: np.repeat(labels, 2)[:, None]}
            got = run(*fetches, feed={**feed, c: np.reshape(expected["cos"], [-1, 1])})
            np.testing.assert_allclose(got[1:], expected["loss"], atol=tolerance, err_msg=case["name"])
            slope = expected.get("grad_vectors", got[0])
            np.testing.assert_allclose(got[0], slope, atol=max(tolerance, 1e-8), err_msg=case["name"])


def test_properties_of_cosines():
    c, y = tf1.placeholder(tf.float64, [None]), tf1.placeholder(tf.float64, [None])
    w = tf1.placeholder(tf.float64, [None])
    auto, pairwise = cosent_loss(c, y), cosent_loss(c, y, method="pairwise")
    weighted = cosent_loss(c, y, 5.0, weights=w)
    fetches = [auto, pairwise, tf.gradients(auto, c)[0], tf.gradients(pairwise, c)[0], weighted]
    session = get_session()

    @given(st.integers(2, 8), st.integers(2, 5), st.integers(0, 10**6))
    def check(pairs, grades, seed):
        rng = np.random.RandomState(seed)
        cosines, labels = rng.uniform(-1, 1, pairs), rng.randint(0, grades, pairs).astype("float64")
        weights = rng.randint(0, 4, pairs)
        got = session.run(fetches, {c: cosines, y: labels, w: weights})
        value, slope = twin(cosines, labels, 20)
        np.testing.assert_allclose(got[:2], value, atol=1e-9)
        np.testing.assert_allclose(got[2], slope, atol=1e-8)
        np.testing.assert_allclose(got[3], slope, atol=1e-8)
        assert abs(got[2].sum()) < 1e-8
        terms = [20 * (cosines[b] - cosines[a]) for a in range(pairs) for b in range(pairs) if labels[a] > labels[b]]
        assert got[0] >= max([0] + terms) - 1e-9
        # a weight is a number of repetitions
        repeated = (
            session.run(
                weighted,
                {c: np.repeat(cosines, weights), y: np.repeat(labels, weights), w: np.ones(weights.sum())},
            )
            if weights.sum()
            else 0.0
        )
        np.testing.assert_allclose(got[4], repeated, atol=1e-9)
        np.testing.assert_allclose(got[4], twin(cosines, labels, 5, weights)[0], atol=1e-9)
        order = rng.permutation(pairs)
        for other in [
            {c: cosines + 0.3, y: labels},
            {c: cosines, y: np.exp(labels) - 7},
            {c: cosines[order], y: labels[order]},
            {c: -cosines, y: -labels},
        ]:
            np.testing.assert_allclose(session.run(auto, other), value, atol=1e-9)

    check()


def test_properties_of_vectors():
    v, y = tf1.placeholder(tf.float64, [None, 3]), tf1.placeholder(tf.float64, [None])
    loss = CoSENT(labels="per_pair")(y, v)
    slope = tf.gradients(loss, v)[0]
    session = get_session()

    @given(st.integers(2, 5), st.integers(0, 10**6))
    def check(pairs, seed):
        rng = np.random.RandomState(seed)
        vectors, labels = rng.randn(2 * pairs, 3), rng.randint(0, 3, pairs)
        value, gradient = session.run([loss, slope], {v: vectors, y: labels})
        np.testing.assert_allclose(value, twin(cosines_of(vectors), labels, 20)[0], atol=1e-9)
        np.testing.assert_allclose((gradient * vectors).sum(axis=1), 0, atol=1e-8)
        scaled = vectors * np.exp(rng.randn(2 * pairs, 1))
        np.testing.assert_allclose(session.run(loss, {v: scaled, y: labels}), value, atol=1e-8)

    check()


def test_perfect_order_with_wide_gaps_costs_nothing():
    value = run(cosent_loss(np.array([0.9, 0.0, -0.9]), [3, 2, 1]))[0]
    assert 0 < value < 1e-6


def test_nothing_to_compare_is_exactly_zero_with_zero_gradient():
    c, y = tf1.placeholder(tf.float32, [None]), tf1.placeholder(tf.float32, [None])
    w = tf.constant([1.0, 0.0])
    losses = [cosent_loss(c, y), cosent_loss(c, y, method="pairwise"), cosent_loss(c, y, method="factorised")]
    fetches = [(loss, tf.gradients(loss, c)[0]) for loss in losses]
    for cosines, labels in [([0.5, 0.7], [1, 1]), ([0.5], [1])]:
        for value, slope in run(*fetches, feed={c: cosines, y: labels}):
            assert value == 0 and np.all(slope == 0)
    loss = cosent_loss(c, y, weights=w)
    value, slope = run(loss, tf.gradients(loss, c)[0], feed={c: [0.5, 0.7], y: [1, 0]})
    assert value == 0 and np.all(slope == 0)


def test_half_precision():
    rng = np.random.RandomState(1)
    vectors, labels = rng.randn(8, 4).astype("float16"), [1, 0, 1, 0]
    v = tf.constant(vectors)
    loss = CoSENT(labels="per_pair")(tf.constant(labels), v)
    value, slope = run(loss, tf.gradients(loss, v)[0])
    assert value.dtype == np.float32 and np.all(np.isfinite(slope))
    np.testing.assert_allclose(value, twin(cosines_of(vectors), labels, 20)[0], rtol=1e-5)


def test_zero_vectors_have_finite_gradients():
    v = tf.constant(np.array([[0, 0], [1, 0], [0, 1], [1, 1]], "float32"))
    loss = CoSENT(labels="per_pair")(tf.constant([1, 0]), v)
    assert np.all(np.isfinite(run(loss, tf.gradients(loss, v)[0])[1]))


def test_gradient_by_finite_differences(rng):
    v, labels = tf1.placeholder(tf.float64, [8, 3]), tf.constant([2.0, 0.0, 1.0, 1.0])
    loss = CoSENT(3.0, labels="per_pair")(labels, v)
    at = rng.randn(8, 3)
    slope = run(tf.gradients(loss, v)[0], feed={v: at})[0]
    for index in list(np.ndindex(8, 3))[::4]:
        step = np.zeros((8, 3))
        step[index] = 1e-5
        up, down = run(loss, feed={v: at + step})[0], run(loss, feed={v: at - step})[0]
        assert abs((up - down) / 2e-5 - slope[index]) < 1e-6


@pytest.mark.all_stacks
def test_in_compile_a_sample_weight_counts_the_pair(rng):
    x = keras.layers.Input((4,))
    model = keras.models.Model(x, keras.layers.Dense(3)(x))
    model.compile("sgd", CoSENT(4.0))
    batch, labels = rng.randn(12, 4), np.repeat([1, 0, 3, 2, 0, 1], 2)
    weights = np.repeat([1, 2, 0, 0.5, 1, 3], 2)
    cosines = cosines_of(model.predict(batch))
    np.testing.assert_allclose(model.test_on_batch(batch, labels), twin(cosines, labels[::2], 4)[0], rtol=1e-4)
    got = model.train_on_batch(batch, labels, sample_weight=weights)
    np.testing.assert_allclose(got, twin(cosines, labels[::2], 4, weights[::2])[0], rtol=1e-4)
    with pytest.raises(tf.errors.InvalidArgumentError, match="CoSENT: labels=`pair_rows`.*shuffled"):
        model.test_on_batch(batch, np.roll(labels, 1))
    with pytest.raises(tf.errors.InvalidArgumentError, match="CoSENT: rows 2i and 2i.1.*must be even"):
        model.test_on_batch(batch[:5], labels[:5])
    with pytest.raises(tf.errors.InvalidArgumentError, match="CoSENT: weights must not be negative"):
        model.test_on_batch(batch, labels, sample_weight=-weights)


def test_cosines_from_keras_dot_survive_shuffling(rng):
    a, b = keras.layers.Input((4,)), keras.layers.Input((4,))
    dense = keras.layers.Dense(3)
    model = keras.models.Model([a, b], keras.layers.Dot(-1, normalize=True)([dense(a), dense(b)]))
    model.compile(keras.optimizers.SGD(0.05), CoSENT(labels="per_pair"))
    x, y, labels = rng.randn(16, 4), rng.randn(16, 4), rng.randint(0, 3, 16)
    before = model.evaluate([x, y], labels, batch_size=16, verbose=0)
    expected = twin(model.predict([x, y])[:, 0], labels, 20)[0]
    np.testing.assert_allclose(before, expected, rtol=1e-4)
    model.fit([x, y], labels, batch_size=8, epochs=10, verbose=0)
    assert model.evaluate([x, y], labels, batch_size=16, verbose=0) < before


class RankLoss(Loss):
    def compute_loss(self, inputs, mask=None):
        return CoSENT(labels="per_pair")(*inputs)


def test_as_a_bert4keras_loss_layer(rng):
    labels, vectors = keras.layers.Input((1,)), keras.layers.Input((2, 3))
    model = keras.models.Model([labels, vectors], RankLoss(1)([labels, keras.layers.Dense(3)(vectors)]))
    model.compile("sgd")
    x, y = rng.randn(4, 2, 3), np.array([[1], [0], [2], [0]])
    expected = twin(cosines_of(model.predict([y, x]).reshape(8, 3)), y[:, 0], 20)[0]
    np.testing.assert_allclose(model.train_on_batch([y, x], None), expected, rtol=1e-4)


def test_errors():
    with pytest.raises(ValueError, match="cosent_loss: one pair cannot be compared"):
        cosent_loss([0.5], [1])
    with pytest.raises(ValueError, match="as many labels as pairs"):
        cosent_loss([0.5, 0.6], [1, 0, 1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="CoSENT: method=`factorised` needs labels of two values"):
        run(cosent_loss([0.5, 0.6, 0.7], [1, 0, 2], method="factorised"))
    with pytest.raises(ValueError, match="labels='pair_rows' takes y_pred"):
        CoSENT()(tf.zeros([4]), tf.zeros([4, 2, 3]))
    with pytest.raises(ValueError, match="axis 1 of y_pred must hold two vectors"):
        CoSENT(labels="per_pair")(tf.zeros([4]), tf.zeros([4, 3, 3]))
    for arguments, message in [
        (dict(scale=0), "scale must be a number > 0, but is 0"),
        (dict(labels="rows"), "labels must be one of"),
        (dict(method="fast"), "method must be one of"),
    ]:
        with pytest.raises(ValueError, match=message):
            CoSENT(**arguments)
    with pytest.raises(ValueError, match="method must be one of"):
        cosent_loss([0.5, 0.6], [1, 0], method="fast")
    assert CoSENT.from_config(CoSENT(5.0, labels="per_pair").get_config()).get_config() == {
        "name": "cosent",
        "scale": 5.0,
        "labels": "per_pair",
        "method": "auto",
        "distributed": False,
    }
