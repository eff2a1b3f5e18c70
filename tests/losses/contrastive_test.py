import json
import os

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import Loss
from hypothesis import given

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.losses import FlatNCE, InfoNCE, flat_nce, info_nce

with open(os.path.join(os.path.dirname(os.path.dirname(__file__)), "oracles.json")) as file:
    ORACLES = json.load(file)
FLAT = {case["name"]: case for case in ORACLES["flatnce"]}
SIMCSE = {case["name"]: case for case in ORACLES["simcse"]}
SIMBERT = {case["name"]: case for case in ORACLES["simbert"]}


# The independent float64 form: plain sums of exponentials, one row at a time.
def twin(scores, positive, kind):
    rows = []
    for s, p in zip(np.asarray(scores, "float64"), positive):
        values = []
        for t in np.flatnonzero(p):
            xi = sum(np.exp(s[i] - s[t]) for i in range(len(s)) if not p[i])
            values.append(0.0 if xi == 0 else np.log(xi) if kind == "flat" else np.log1p(xi))
        rows.append(np.mean(values) if values else 0.0)
    return np.array(rows)


def twin_gradient(scores, positive, kind):
    """Of the sum, for one positive a row."""
    result = []
    for s, p in zip(np.asarray(scores, "float64"), positive):
        t = int(np.argmax(p))
        e = np.where(p, 0, np.exp(s - s[t]))
        xi = e.sum()
        gradient = e / xi
        gradient[t] = -1
        result.append(gradient * (1 if kind == "flat" else xi / (1 + xi)))
    return np.array(result)


def unit(x):
    x = np.asarray(x, "float64")
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def twin_two_view(vectors, temperature, kind):
    v = unit(vectors)
    scores = v @ v.T / temperature
    n = len(v)
    partner = np.arange(n) + 1 - 2 * (np.arange(n) % 2)
    rows = []
    for i in range(n):
        keep = [j for j in range(n) if j not in (i, partner[i])]
        xi = np.exp(scores[i, keep] - scores[i, partner[i]]).sum()
        rows.append(np.log(xi) if kind == "flat" else np.log1p(xi))
    return np.array(rows)


def run(*tensors, **feeds):
    return get_session().run(list(tensors), feeds.get("feed"))


def value_and_gradient(f, x, dtype="float32"):
    x = tf.constant(np.asarray(x, dtype))
    y = f(x)
    return run(y, tf.gradients(y, x)[0])


S = np.array(FLAT["infonce_rows"]["inputs"]["scores"])
EYE = np.eye(3, dtype=bool)
SMALL = np.array([FLAT["small_xi_infonce_float64"]["inputs"]["scores"]])
FIRST = np.array([[True, False, False, False]])


@pytest.mark.parametrize("kind, function", [("flat", flat_nce), ("info", info_nce)])
def test_oracles_of_scores(kind, function):
    rows, gradient = FLAT[kind + "nce_rows"], FLAT[kind + "nce_grad_of_sum"]["expected"]
    np.testing.assert_allclose(twin(S, EYE, kind), rows["expected"]["rows"], atol=1e-10)
    np.testing.assert_allclose(twin(S, EYE, kind).mean(), rows["expected"]["mean"], atol=1e-10)
    np.testing.assert_allclose(twin_gradient(S, EYE, kind), gradient, atol=1e-10)
    for dtype, tolerance in [("float64", 1e-10), ("float32", 2e-6)]:
        value, slope = value_and_gradient(function, S, dtype)
        np.testing.assert_allclose(value, rows["expected"]["rows"], atol=tolerance)
        np.testing.assert_allclose(slope, gradient, atol=tolerance)


def test_row_ratio_of_the_gradients():
    _, info = value_and_gradient(info_nce, S, "float64")
    _, flat = value_and_gradient(flat_nce, S, "float64")
    ratio = np.array(FLAT["row_ratio_xi_over_1_plus_xi"]["expected"])
    np.testing.assert_allclose(info, ratio[:, None] * flat, atol=1e-10)


def test_small_xi_in_float32():
    exact = FLAT["small_xi_infonce_float64"]["expected"]
    np.testing.assert_allclose(twin(SMALL, FIRST, "info"), [exact["loss"]], atol=1e-18)
    np.testing.assert_allclose(twin_gradient(SMALL, FIRST, "info"), [exact["grad"]], atol=1e-17)

    def plain(s):
        return tf1.nn.softmax_cross_entropy_with_logits_v2(labels=FIRST.astype("float32"), logits=s)

    value, slope = value_and_gradient(plain, SMALL)
    assert value[0] == 0 and slope[0, 0] == 0  # the fault this is about (the known_fault of the oracles)
    value, slope = value_and_gradient(lambda s: info_nce(s, FIRST), SMALL)
    np.testing.assert_allclose(value, [exact["loss"]], rtol=1e-5)
    np.testing.assert_allclose(slope, [exact["grad"]], rtol=1e-5)
    flat = FLAT["small_xi_flatnce_float64"]["expected"]
    np.testing.assert_allclose(twin(SMALL, FIRST, "flat"), [flat["loss"]], atol=1e-10)
    np.testing.assert_allclose(twin_gradient(SMALL, FIRST, "flat"), [flat["grad"]], atol=1e-10)
    value, slope = value_and_gradient(lambda s: flat_nce(s, FIRST), SMALL)
    single = FLAT["small_xi_flatnce_float32"]
    np.testing.assert_allclose(value, [single["expected"]["loss"]], atol=2e-6)
    np.testing.assert_allclose(slope, [single["expected"]["grad"]], atol=single["tolerance"])


@pytest.mark.parametrize(
    "cases, kind, inverse",
    [(FLAT, "flat", False), (SIMCSE, "info", False), (SIMBERT, "info", True)],
    ids=["flatnce", "simcse", "simbert"],
)
def test_oracles_of_embeddings(cases, kind, inverse):
    loss_class = FlatNCE if kind == "flat" else InfoNCE
    seen = 0
    for case in cases.values():
        if "vectors" not in case["inputs"] or not ({"tau", "scale"} & set(case["params"])):
            continue
        seen += 1
        temperature = 1 / case["params"]["scale"] if inverse else case["params"]["tau"]
        vectors, expected = case["inputs"]["vectors"], case["expected"]
        loss = loss_class(temperature, layout="two_view")
        double, single = run(
            loss.call(None, tf.constant(vectors, tf.float64)), loss.call(None, tf.constant(vectors, tf.float32))
        )
        for rows, tolerance in [
            (twin_two_view(vectors, temperature, kind), 1e-10),
            (double, 1e-10),
            (single, 1e-5),
        ]:
            if "rows" in expected:
                np.testing.assert_allclose(rows, expected["rows"], atol=tolerance)
            if "sum" in expected:
                np.testing.assert_allclose(rows.sum(), expected["sum"], atol=tolerance)
            np.testing.assert_allclose(rows.mean(), expected["mean"], atol=tolerance)
    assert seen == 2


def test_properties_of_scores():
    x = tf1.placeholder(tf.float64, [None, None])
    shift = tf1.placeholder(tf.float64, [None, 1])
    flat, info, one, shown = (
        flat_nce(x),
        info_nce(x),
        flat_nce(x, report="one"),
        flat_nce(x, report="infonce"),
    )
    slopes = [tf.gradients(y, x)[0] for y in (flat, one, shown)]
    fetches = [flat, info, one, shown, flat_nce(x + shift), info_nce(x + shift)] + slopes
    # xi times a constant of the row is L plus a constant: what a weight in the exponent would do
    fetches.append(
        tf.gradients(tf.exp(shift[:, 0]) * tf.exp(flat) / tf.stop_gradient(tf.exp(flat + shift[:, 0])), x)[0]
    )
    session = get_session()

    @given(st.integers(2, 6), st.integers(0, 2), st.floats(0.1, 20), st.integers(0, 10**6))
    def check(rows, extra, scale, seed):
        rng = np.random.RandomState(seed)
        scores, moves = scale * rng.randn(rows, rows + extra), 10 * rng.randn(rows, 1)
        f, i, o, s, f2, i2, slope, slope_one, slope_shown, scaled = session.run(fetches, {x: scores, shift: moves})
        positive = np.eye(rows, rows + extra, dtype=bool)
        np.testing.assert_allclose(f, twin(scores, positive, "flat"), atol=1e-9)
        np.testing.assert_allclose(i, twin(scores, positive, "info"), atol=1e-9)
        np.testing.assert_allclose(slope, twin_gradient(scores, positive, "flat"), atol=1e-9)
        np.testing.assert_allclose(slope.sum(axis=1), 0, atol=1e-9)
        np.testing.assert_allclose(np.logaddexp(0, f), i, atol=1e-9)
        np.testing.assert_allclose(o, 1, atol=1e-12)
        np.testing.assert_allclose(s, i, atol=1e-9)
        np.testing.assert_allclose(f2, f, atol=1e-7)
        np.testing.assert_allclose(i2, i, atol=1e-7)
        np.testing.assert_allclose(slope_one, slope, atol=1e-12)
        np.testing.assert_allclose(slope_shown, slope, atol=1e-12)
        np.testing.assert_allclose(scaled, slope, atol=1e-6)

    check()


def test_properties_of_embeddings():
    x = tf1.placeholder(tf.float64, [None, 3])
    scale = tf1.placeholder(tf.float64, [None, 1])
    losses = [InfoNCE(0.3, layout="two_view"), FlatNCE(0.3, layout="two_view")]
    fetches = [loss.call(None, v) for loss in losses for v in (x, x * scale)]
    session = get_session()

    @given(st.integers(2, 4), st.integers(0, 10**6))
    def check(pairs, seed):
        rng = np.random.RandomState(seed)
        vectors, factors = rng.randn(2 * pairs, 3), np.exp(rng.randn(2 * pairs, 1))
        info, info_scaled, flat, flat_scaled = session.run(fetches, {x: vectors, scale: factors})
        np.testing.assert_allclose(info, twin_two_view(vectors, 0.3, "info"), atol=1e-9)
        np.testing.assert_allclose(flat, twin_two_view(vectors, 0.3, "flat"), atol=1e-9)
        np.testing.assert_allclose(info_scaled, info, atol=1e-8)
        np.testing.assert_allclose(flat_scaled, flat, atol=1e-8)
        order = rng.permutation(pairs)
        permuted = vectors.reshape(pairs, 2, 3)[order].reshape(-1, 3)
        again = session.run(fetches[2], {x: permuted, scale: factors})
        np.testing.assert_allclose(again.reshape(pairs, 2), flat.reshape(pairs, 2)[order], atol=1e-9)
        swapped = vectors.reshape(pairs, 2, 3)[:, ::-1].reshape(-1, 3)
        again = session.run(fetches[0], {x: swapped, scale: factors})
        np.testing.assert_allclose(again.sum(), info.sum(), atol=1e-9)

    check()


@pytest.mark.parametrize("kind, loss_class", [("flat", FlatNCE), ("info", InfoNCE)])
@pytest.mark.parametrize("hard", [0, 2])
@pytest.mark.parametrize("symmetric", [False, True])
def test_pairs_layout(kind, loss_class, hard, symmetric, rng):
    x = rng.randn(4, 2 + hard, 3)
    v = unit(x)
    near, far = v[:, 0] @ v[:, 1].T / 0.1, v[:, 0] @ v[:, 2:].reshape(-1, 3).T / 0.1
    expected = twin(np.concatenate([near, far], axis=1), np.eye(4, 4 + 4 * hard, dtype=bool), kind)
    if symmetric:
        expected = (expected + twin(near.T, np.eye(4, dtype=bool), kind)) / 2
    loss = loss_class(0.1, symmetric=symmetric)
    dynamic = tf1.placeholder(tf.float32, [None, None, 3])
    got = run(loss.call(None, tf.constant(x)), loss.call(None, dynamic), feed={dynamic: x})
    np.testing.assert_allclose(got[0], expected, atol=1e-9)
    np.testing.assert_allclose(got[1], expected, rtol=1e-4, atol=1e-4)


def test_several_positives_and_rows_with_nothing_to_compare():
    scores = np.array([[1.0, 2.0, 0.5, -1.0], [0.3, -np.inf, 2.0, 1.0], [1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0]])
    positive = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    for kind, function in [("flat", flat_nce), ("info", info_nce)]:
        value, slope = value_and_gradient(lambda s: function(s, positive), scores)
        np.testing.assert_allclose(value, twin(scores, positive == 1, kind), rtol=1e-5)
        assert value[2] == value[3] == 0 and np.all(slope[2:] == 0)
        assert np.all(np.isfinite(slope)) and slope[1, 1] == 0
        assert np.abs(slope[:2]).max() > 0.1


def test_masked_candidates_are_as_absent():
    full = np.array([[2.0, -np.inf, 0.5], [0.0, 1.0, -np.inf], [-np.inf, -np.inf, 1.0]])
    for function in (flat_nce, info_nce):
        value, slope = value_and_gradient(function, full)
        alone = run(function(tf.constant([[2.0, 0.5]]), [[1, 0]]), function(tf.constant([[0.0, 1.0]]), [[0, 1]]))
        np.testing.assert_allclose(value, [alone[0][0], alone[1][0], 0], rtol=1e-6)
        assert np.all(np.isfinite(slope)) and np.all(slope[2] == 0)


def test_a_nan_score_is_not_hidden():
    value, _ = value_and_gradient(flat_nce, [[1.0, np.nan], [0.0, 1.0]])
    assert np.isnan(value[0]) and not np.isnan(value[1])


def test_half_precision_comes_in_float32_goes_out():
    scores = (S * 100).astype("float16")
    value, slope = value_and_gradient(flat_nce, scores, "float16")
    assert value.dtype == np.float32 and np.all(np.isfinite(slope))
    np.testing.assert_allclose(value, twin(scores, EYE, "flat"), rtol=1e-4)
    vectors = tf.constant(np.random.RandomState(0).randn(6, 4), tf.float16)
    value = run(FlatNCE(0.01, layout="two_view").call(None, vectors))[0]
    assert value.dtype == np.float32 and np.all(np.isfinite(value))


@pytest.mark.parametrize("layout", ["pairs", "two_view"])
def test_gradients_by_finite_differences(layout, rng):
    shape = (4, 3, 3) if layout == "pairs" else (4, 3)
    x = tf1.placeholder(tf.float64, shape)
    y = tf.reduce_sum(FlatNCE(0.5, layout=layout, symmetric=layout == "pairs").call(None, x))
    slope, at = tf.gradients(y, x)[0], rng.randn(*shape)
    analytic = run(slope, feed={x: at})[0]
    for index in list(np.ndindex(*shape))[::3]:
        step = np.zeros(shape)
        step[index] = 1e-5
        up, down = run(y, feed={x: at + step})[0], run(y, feed={x: at - step})[0]
        assert abs((up - down) / 2e-5 - analytic[index]) < 1e-6


def test_zero_vectors_have_finite_gradients():
    value, slope = value_and_gradient(
        lambda v: FlatNCE(layout="two_view").call(None, v), np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    )
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(slope))


def test_one_pair():
    message = "at least 2 pairs"
    with pytest.raises(ValueError, match="flat_nce.*" + message):
        flat_nce(tf.zeros([1, 1]))
    with pytest.raises(ValueError, match="FlatNCE.*" + message):
        FlatNCE().call(None, tf.zeros([1, 2, 3]))
    with pytest.raises(ValueError, match="InfoNCE.*" + message):
        InfoNCE(layout="two_view").call(None, tf.zeros([2, 3]))
    FlatNCE().call(None, tf.zeros([1, 3, 3]))  # a hard negative is a negative
    pairs, rows = tf1.placeholder(tf.float32, [None, 2, 3]), tf1.placeholder(tf.float32, [None, 3])
    for loss, x, batch in [
        (FlatNCE(), pairs, np.ones((1, 2, 3))),
        (FlatNCE(layout="two_view", report="one"), rows, np.ones((2, 3))),
        (InfoNCE(layout="two_view"), rows, np.ones((2, 3))),
    ]:
        y = loss.call(None, x)
        value, slope = run(y, tf.gradients(y, x)[0], feed={x: batch})
        assert np.all(value == 0) and np.all(slope == 0)


def test_errors():
    odd = tf1.placeholder(tf.float32, [None, 3])
    with pytest.raises(tf.errors.InvalidArgumentError, match="InfoNCE: .*even number of rows"):
        run(InfoNCE(layout="two_view").call(None, odd), feed={odd: np.ones((3, 3))})
    with pytest.raises(ValueError, match="FlatNCE: .*even number of rows.* 5"):
        FlatNCE(layout="two_view").call(None, tf.zeros([5, 3]))
    with pytest.raises(ValueError, match="FlatNCE: y_pred .*layout='pairs'.*3 axes.*has 2"):
        FlatNCE().call(None, odd)
    with pytest.raises(ValueError, match="stacked on axis 1.* 1"):
        FlatNCE().call(None, tf.zeros([4, 1, 3]))
    with pytest.raises(ValueError, match="positive_mask must have the same shape"):
        flat_nce(tf.zeros([2, 3]), np.eye(3))
    tall = tf1.placeholder(tf.float32, [None, None])
    with pytest.raises(tf.errors.InvalidArgumentError, match="flat_nce: without positive_mask"):
        run(flat_nce(tall), feed={tall: np.zeros((3, 2))})
    for arguments, message in [
        (dict(layout="rows"), "layout must be one of 'pairs', 'two_view', but is 'rows'"),
        (dict(temperature=0), "temperature must be a number > 0, but is 0"),
        (dict(report="none"), "report must be one of"),
        (dict(layout="two_view", symmetric=True), "symmetric already"),
    ]:
        with pytest.raises(ValueError, match=message):
            FlatNCE(**arguments)
    with pytest.raises(ValueError, match="report must be one of"):
        flat_nce(tf.zeros([2, 2]), report="none")


def two_towers(temperature=0.2):
    a, b = keras.layers.Input((4,)), keras.layers.Input((4,))
    dense, stack = keras.layers.Dense(3, use_bias=False), keras.layers.RepeatVector(1)
    pair = keras.layers.Concatenate(axis=1)([stack(dense(a)), stack(dense(b))])
    model = keras.models.Model([a, b], pair)
    model.compile(keras.optimizers.SGD(0.1), FlatNCE(temperature))
    return model, dense


@pytest.mark.all_stacks
def test_in_compile_with_sample_weights(rng):
    model, dense = two_towers()
    a, b, weights = rng.randn(7, 4), rng.randn(7, 4), rng.rand(7)
    kernel = dense.get_weights()[0].astype("float64")
    u, v = unit(a @ kernel), unit(b @ kernel)
    rows = twin(u @ v.T / 0.2, np.eye(7, dtype=bool), "flat")
    y = np.zeros((7, 1, 1))
    np.testing.assert_allclose(model.test_on_batch([a, b], y), rows.mean(), rtol=1e-4)
    got = model.test_on_batch([a, b], y, sample_weight=weights)
    np.testing.assert_allclose(got, (rows * weights).mean(), rtol=1e-4)
    before = model.evaluate([a, b], y, batch_size=7, verbose=0)
    model.fit([a, b], y, batch_size=3, epochs=15, verbose=0)  # the last batch of an epoch has one pair
    assert model.evaluate([a, b], y, batch_size=7, verbose=0) < before


def test_two_views_in_compile(rng):
    x = keras.layers.Input((4,))
    model = keras.models.Model(x, keras.layers.Dense(3)(x))
    model.compile("sgd", InfoNCE(0.5, layout="two_view"))
    batch = rng.randn(6, 4)
    expected = twin_two_view(model.predict(batch), 0.5, "info").mean()
    np.testing.assert_allclose(model.train_on_batch(batch, np.zeros(6)), expected, rtol=1e-4)


class PairLoss(Loss):
    def compute_loss(self, inputs, mask=None):
        a, b = inputs
        return K.mean(flat_nce(K.dot(a, K.transpose(b))))


def test_as_a_bert4keras_loss_layer(rng):
    a, b = keras.layers.Input((3,)), keras.layers.Input((3,))
    dense = keras.layers.Dense(3, use_bias=False)
    model = keras.models.Model([a, b], PairLoss(0)([dense(a), dense(b)]))
    model.compile("sgd")
    x, y = rng.randn(5, 3), rng.randn(5, 3)
    kernel = dense.get_weights()[0]
    expected = twin(x @ kernel @ kernel.T @ y.T, np.eye(5, dtype=bool), "flat").mean()
    np.testing.assert_allclose(model.train_on_batch([x, y], None), expected, rtol=1e-4)
