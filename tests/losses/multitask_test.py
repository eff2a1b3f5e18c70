import json
import math
import os

import hypothesis.strategies as st
import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import Loss
from hypothesis import given

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.losses import MultiTaskLoss, UncertaintyWeights, combine_losses, prior_loss

with open(os.path.join(os.path.dirname(os.path.dirname(__file__)), "oracles.json")) as file:
    ORACLES = {case["name"]: case for case in json.load(file)["mtl"]}
TASKS = ["sparse_categorical_crossentropy", "mean_squared_error"]


def twin_power(losses, gamma):
    losses = np.asarray(losses, "float64")
    if gamma == 0:
        return np.prod(losses) ** (1 / len(losses))
    if math.isinf(gamma):
        return losses.max() if gamma > 0 else losses.min()
    unit = losses.max() if gamma > 0 else losses.min()  # so that no power overflows
    return unit * np.mean((losses / unit) ** gamma) ** (1 / gamma)


def twin_power_slope(losses, gamma):
    losses = np.asarray(losses, "float64")
    return twin_power(losses, gamma) ** (1 - gamma) * losses ** (gamma - 1) / len(losses)


def run(*tensors, **feeds):
    return get_session().run(list(tensors), feeds.get("feed"))


@pytest.mark.parametrize("dtype, tolerance", [(tf.float64, 1e-10), (tf.float32, 2e-6)])
def test_oracles_of_the_generalised_mean(dtype, tolerance):
    case, slopes = ORACLES["generalised_mean"], ORACLES["generalised_mean_grad"]
    values = case["inputs"]["L"]
    losses = [tf.constant(v, dtype) for v in values]
    gammas = [float(g) for g in case["params"]["gamma"]]
    got = run(*[combine_losses(losses, method="power", gamma=g) for g in gammas])
    np.testing.assert_allclose([twin_power(values, g) for g in gammas], case["expected"], atol=1e-10)
    np.testing.assert_allclose(got, case["expected"], atol=tolerance * 8)
    assert run(combine_losses(losses, method="geometric"))[0] == pytest.approx(2, abs=tolerance)
    combined = [combine_losses(losses, method="power", gamma=g) for g in slopes["params"]["gamma"]]
    got = run(*[tf.stack(tf.gradients(c, losses)) for c in combined])
    np.testing.assert_allclose(got, slopes["expected"], atol=tolerance)
    for gamma, expected in zip(slopes["params"]["gamma"], slopes["expected"]):
        np.testing.assert_allclose(twin_power_slope(values, gamma), expected, atol=1e-10)


def test_oracle_of_uncertainty():
    case = ORACLES["uncertainty"]
    values, s = np.array(case["inputs"]["L"]), np.array(case["inputs"]["s"])
    assert np.sum(np.exp(-s) * values + s) / 2 == pytest.approx(case["expected"]["value"], abs=1e-10)
    assert np.sum(1 + np.log(values)) / 2 == pytest.approx(case["expected"]["optimum"], abs=1e-10)
    for dtype, tolerance in [(tf.float64, 1e-10), (tf.float32, 1e-5)]:
        losses = [tf.constant(v, dtype) for v in values]
        best = tf.constant(np.log(values), dtype)
        at_best = combine_losses(losses, method="uncertainty", log_variances=best)
        got = run(
            combine_losses(losses, method="uncertainty", log_variances=s), at_best, tf.gradients(at_best, best)[0]
        )
        assert got[0] == pytest.approx(case["expected"]["value"], abs=tolerance)
        assert got[1] == pytest.approx(case["expected"]["optimum"], abs=tolerance)
        np.testing.assert_allclose(got[2], 0, atol=tolerance)


def test_properties():
    x = tf1.placeholder(tf.float64, [3])
    losses = tf.unstack(x)
    gammas = [-math.inf, -30, -1, -1e-3, -1e-9, 0, 1e-9, 1e-3, 1, 3, 30, math.inf]
    means = [combine_losses(losses, method="power", gamma=g) for g in gammas]
    others = [
        combine_losses(losses, method="geometric"),
        combine_losses(losses, method="running"),
        combine_losses(losses),
        combine_losses(losses, method="initial", initial=[0.5, 2, 4]),
        combine_losses(losses, method="prior", prior=[0.5, 2, 4]),
    ]
    slopes = [tf.gradients(y, x)[0] for y in means + others[:2]]
    logs = tf.gradients(tf.reduce_sum(tf.math.log(x)), x)[0]
    session = get_session()

    @given(st.integers(0, 10**6), st.floats(0.01, 8))
    def check(seed, spread):
        rng = np.random.RandomState(seed)
        values = np.exp(spread * rng.randn(3))
        m, o, g, log_slope = session.run([means, others, slopes, logs], {x: values})
        for gamma, got in zip(gammas, m):
            expected = twin_power(values, gamma) if abs(gamma) > 1e-8 else twin_power(values, 0)
            np.testing.assert_allclose(got, expected, rtol=1e-6)
        assert all(a <= b * (1 + 1e-9) for a, b in zip(m, m[1:]))  # monotone in gamma
        np.testing.assert_allclose(
            o, [twin_power(values, 0), 3, values.sum()] + 2 * [(values / [0.5, 2, 4]).sum()], rtol=1e-9
        )
        np.testing.assert_allclose(g[-1], log_slope, rtol=1e-9)  # running: the gradient of sum log L
        np.testing.assert_allclose(g[-2], log_slope * o[0] / 3, rtol=1e-9)  # geometric: the same direction
        for gamma, slope in list(zip(gammas, g))[1:-1]:
            np.testing.assert_allclose(
                (slope * values).sum(),
                twin_power(values, gamma or 0) if abs(gamma) > 1e-8 else twin_power(values, 0),
                rtol=1e-6,
            )  # homogeneous of degree 1
        factors = np.exp(rng.randn(3))
        scaled, _, scaled_slopes = session.run([means, others, slopes], {x: values * factors})[:3]
        # geometric and running do not see the units of the tasks
        np.testing.assert_allclose(scaled_slopes[-1] * factors, g[-1], rtol=1e-9)
        np.testing.assert_allclose(scaled[5], m[5] * np.prod(factors) ** (1 / 3), rtol=1e-9)
        order = rng.permutation(3)
        np.testing.assert_allclose(session.run(means, {x: values[order]}), m, rtol=1e-9)

    check()


def test_power_mean_in_float32_for_tiny_and_huge_exponents():
    values = [1e-6, 3.0, 1e6]
    losses = [tf.constant(v, tf.float32) for v in values]
    gammas = [1e-6, 1e-4, 0.009, 0.011, 1.0, 20.0, 100.0, -100.0]
    combined = [combine_losses(losses, method="power", gamma=g) for g in gammas]
    got = run(*combined, *[tf.stack(tf.gradients(c, losses)) for c in combined])
    np.testing.assert_allclose(got[:8], [twin_power(values, g) for g in gammas], rtol=2e-3)
    assert np.all(np.isfinite(np.array(got[8:])))


def test_half_precision_and_mixed_dtypes():
    losses = [tf.constant(300.0, tf.float16), tf.constant(2.0), tf.constant(4.0)]
    got = run(combine_losses(losses, method="power", gamma=3))[0]
    assert got.dtype == np.float32 and got == pytest.approx(twin_power([300, 2, 4], 3), rel=1e-5)
    assert run(combine_losses(losses + [tf.constant(1.0, tf.float64)]))[0].dtype == np.float64


@pytest.mark.parametrize("method, extra", [("running", {}), ("geometric", {}), ("power", {"gamma": 2})])
def test_losses_that_can_be_negative_are_rejected(method, extra):
    allowed = "needs positive losses.*use .sum., .initial. and .prior..*FlatNCE, CE"
    with pytest.raises(ValueError, match="combine_losses: method='%s' %s.*-1" % (method, allowed)):
        combine_losses([tf.constant(-1.0), tf.constant(1.0)], method=method, names=["FlatNCE", "CE"], **extra)
    x = tf1.placeholder(tf.float32, [])
    y = combine_losses([x, tf.constant(1.0)], method=method, names=["FlatNCE", "CE"], **extra)
    assert np.isfinite(run(y, feed={x: 0.5})[0])
    for value in (-1.0, 0.0):
        with pytest.raises(tf.errors.InvalidArgumentError, match="combine_losses: method=`%s` %s" % (method, allowed)):
            run(y, feed={x: value})


def test_methods_that_take_any_sign():
    losses = [tf.constant(-1.0), tf.constant(3.0)]
    got = run(
        combine_losses(losses),
        combine_losses(losses, method="prior", prior=[1, 2]),
        combine_losses(losses, method="power", gamma=1),
        combine_losses(losses, method="power", gamma=math.inf),
        combine_losses([tf.constant(0.0), tf.constant(3.0)], method="uncertainty", log_variances=[0.0, 0.0]),
    )
    np.testing.assert_allclose(got, [2, 0.5, 1, 3, 1.5])
    with pytest.raises(ValueError, match="'uncertainty' needs non-negative losses"):
        combine_losses(losses, method="uncertainty", log_variances=[0.0, 0.0])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(method="mean"), "method must be one of 'sum', 'initial', .*but is 'mean'"),
        (dict(method="initial"), "method='initial' needs initial=, the losses of an untrained model"),
        (dict(method="prior"), "needs prior=.*prior_loss"),
        (dict(method="power"), "needs gamma="),
        (dict(method="power", gamma=math.nan), "gamma must be a number, but is nan; inf"),
        (dict(gamma=1), "gamma=1 belongs to method='power' and does nothing with method='sum'"),
        (dict(method="uncertainty"), "log_variances= belongs to method='uncertainty' and is needed"),
        (dict(method="uncertainty", log_variances=[0.0]), r"log_variances needs shape \(2,\), not \(1,\)"),
        (dict(method="initial", initial=[1.0]), "initial= needs one value for each of the 2 losses"),
        (dict(method="prior", prior=[1.0, 0.0]), "values of prior= must be positive"),
        (dict(names=["a"]), "1 names for 2 losses"),
        (dict(losses=[]), "non-empty list"),
        (dict(losses=tf.constant), "non-empty list"),
        (dict(losses=["vector"]), r"losses\[0\] must be a scalar, but its shape is \(2,\); take its mean"),
    ],
)
def test_errors(arguments, message):
    losses = arguments.pop("losses", [tf.constant(1.0), tf.constant(2.0)])
    if losses == ["vector"]:
        losses = [tf.zeros([2])]
    with pytest.raises(ValueError, match=message):
        combine_losses(losses, **arguments)


def test_prior_loss(rng):
    labels = [0] * 5 + [1] * 3 + [7] * 2
    assert prior_loss(labels) == pytest.approx(-(0.5 * np.log(0.5) + 0.3 * np.log(0.3) + 0.2 * np.log(0.2)))
    y = rng.randn(50, 3)
    assert prior_loss(y, "squared_error") == pytest.approx(y.var(axis=0).sum())
    assert prior_loss(y, "mean_squared_error") == pytest.approx(y.var(axis=0).mean())
    assert prior_loss([1.0, 2.0, 9.0], "mean_absolute_error") == pytest.approx(8 / 3)
    hot = np.array([[1, 0], [1, 1], [0, 0], [0, 0]])
    expected = (np.log(2) - 0.25 * np.log(0.25) - 0.75 * np.log(0.75)) / 2
    assert prior_loss(hot, "binary_crossentropy") == pytest.approx(expected)
    for bad, loss, message in [
        ([1, 1], "crossentropy", "all labels are equal"),
        ([1.5, 1], "crossentropy", "takes class ids, not 1.5"),
        ([np.nan], "squared_error", "finite"),
        ([], "crossentropy", "not empty"),
        ([2, 1], "binary_crossentropy", "from 0 to 1"),
        ([2, 1], "hinge", "loss must be one of 'crossentropy', .*but is 'hinge'"),
    ]:
        with pytest.raises(ValueError, match=message):
            prior_loss(bad, loss)


@given(st.lists(st.integers(0, 4), min_size=2, max_size=30).filter(lambda x: len(set(x)) > 1))
def test_prior_loss_is_the_least_cross_entropy_of_a_constant_prediction(labels):
    best, rng = prior_loss(labels), np.random.RandomState(len(labels))
    for p in rng.dirichlet(np.ones(5), 20):
        assert -np.mean(np.log(p[labels])) >= best - 1e-12


def multitask_model(optimizer="sgd", weighted=False, **arguments):
    x, y1, y2 = keras.layers.Input((4,)), keras.layers.Input((1,)), keras.layers.Input((1,))
    weights = [keras.layers.Input((1,)), keras.layers.Input((1,))] if weighted else []
    h = keras.layers.Dense(8, activation="tanh")(x)
    a, b = keras.layers.Dense(3, activation="softmax")(h), keras.layers.Dense(1)(h)
    layer = MultiTaskLoss(arguments.pop("losses", TASKS), **arguments)
    train = keras.models.Model([x, y1, y2] + weights, layer([y1, y2, a, b] + weights))
    train.compile(optimizer)
    return train, keras.models.Model(x, [a, b]), layer


def data(rng, n=6):
    return [rng.randn(n, 4), rng.randint(0, 3, (n, 1)), 2 + rng.randn(n, 1)]


def task_losses(model, batch, weights=(1.0, 1.0)):
    a, b = model.predict(batch[0])
    first = -np.log(a[np.arange(len(a)), batch[1][:, 0]])
    second = (b - batch[2])[:, 0] ** 2
    return np.array([np.mean(first * weights[0]), np.mean(second * weights[1])], "float64")


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (dict(method="sum"), lambda v: v.sum()),
        (dict(method="prior", prior=[1.1, 0.5]), lambda v: (v / [1.1, 0.5]).sum()),
        (dict(method="running"), lambda v: 2.0),
        (dict(method="geometric"), lambda v: np.sqrt(v.prod())),
        (dict(method="power", gamma=2), lambda v: twin_power(v, 2)),
        (dict(method="uncertainty"), lambda v: v.sum() / 2),
    ],
    ids=lambda x: x.get("method") if isinstance(x, dict) else "",
)
def test_layer_on_a_model_with_two_outputs(arguments, expected, rng):
    train, predict, _ = multitask_model(**arguments)
    batch = data(rng)
    values = task_losses(predict, batch)
    np.testing.assert_allclose(train.test_on_batch(batch, None), expected(values), rtol=1e-4)
    for _ in range(20):
        train.train_on_batch(batch, None)
    assert np.log(task_losses(predict, batch)).sum() < np.log(values).sum()
    for mine, plain in zip(train.predict(batch), predict.predict(batch[0])):
        np.testing.assert_allclose(mine, plain)


def test_initial_losses_are_those_of_the_first_batch(rng):
    train, predict, layer = multitask_model(method="initial")
    first, second = data(rng), data(rng)
    values = task_losses(predict, first)
    np.testing.assert_allclose(train.test_on_batch(second, None), 2, rtol=1e-5)
    np.testing.assert_allclose(K.get_value(layer.first_losses), 0)  # evaluation keeps nothing
    np.testing.assert_allclose(train.train_on_batch(first, None), 2, rtol=1e-5)
    np.testing.assert_allclose(K.get_value(layer.first_losses), values, rtol=1e-4)
    expected = (task_losses(predict, second) / values).sum()
    np.testing.assert_allclose(train.train_on_batch(second, None), expected, rtol=1e-4)
    np.testing.assert_allclose(K.get_value(layer.first_losses), values, rtol=1e-4)


def test_layer_with_sample_weights_and_loss_objects(rng):
    losses = [keras.losses.SparseCategoricalCrossentropy(), "mean_squared_error"]
    train, predict, _ = multitask_model(weighted=True, losses=losses)
    batch, weights = data(rng), rng.randint(0, 3, (2, 6)).astype("float32")
    expected = task_losses(predict, batch, weights).sum()
    got = train.test_on_batch(batch + [w[:, None] for w in weights], None)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_layer_errors(rng):
    with pytest.raises(ValueError, match="MultiTaskLoss: method='power' needs gamma="):
        MultiTaskLoss(TASKS, method="power")
    with pytest.raises(ValueError, match="2 losses take a list of 4 tensors"):
        MultiTaskLoss(TASKS)([keras.layers.Input((1,))] * 3)
    train, _, _ = multitask_model(method="geometric", losses=[negative, "mse"])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="combine_losses: method=`geometric` needs positive.*task 0"
    ):
        train.train_on_batch(data(rng), None)


def test_layer_configs_are_json():
    for arguments in [dict(method="power", gamma=math.inf), dict(method="prior", prior=np.ones(2)), {}]:
        layer = MultiTaskLoss([keras.losses.MeanSquaredError(), "mse"], **arguments)
        config = json.loads(json.dumps(layer.get_config()))
        again = MultiTaskLoss.from_config(config)
        assert isinstance(again.task_losses[0], keras.losses.MeanSquaredError)
        # Keras of TensorFlow 2.16 says one word more of a loss that came out of a configuration.
        described = again.get_config()
        described["losses"][0]["config"].pop("fn", None)
        assert described == config


def negative(y_true, y_pred):
    return -K.sum(y_pred, axis=-1)


def test_uncertainty_weights(rng):
    x, y = keras.layers.Input((1,)), keras.layers.Input((1,))
    layer = UncertaintyWeights()
    out = layer([x, y])
    model = keras.models.Model([x, y], out)
    model.add_loss(K.mean(out))
    model.compile(keras.optimizers.SGD(0.3))
    batch = [np.full((4, 1), 0.5), np.array([[1.0], [2.0], [3.0], [10.0]])]
    np.testing.assert_allclose(model.predict(batch), (batch[0] + batch[1]) / 2)
    for _ in range(150):
        model.train_on_batch(batch, None)
    np.testing.assert_allclose(K.get_value(layer.log_variances), np.log([0.5, 4]), atol=1e-3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="UncertaintyWeights needs non-negative losses"):
        model.predict([-batch[0], batch[1]])
    with pytest.raises(ValueError, match="UncertaintyWeights takes a list of losses"):
        UncertaintyWeights()(x)


class Geometric(Loss):
    def compute_loss(self, inputs, mask=None):
        y1, y2, a, b = inputs
        ce = K.mean(K.sparse_categorical_crossentropy(y1, a))
        return combine_losses([ce, K.mean(K.square(y2 - b))], method="geometric")


def test_as_a_bert4keras_loss_layer(rng):
    x, y1, y2 = keras.layers.Input((4,)), keras.layers.Input((1,)), keras.layers.Input((1,))
    a, b = keras.layers.Dense(3, activation="softmax")(x), keras.layers.Dense(1)(x)
    model = keras.models.Model([x, y1, y2], Geometric([2, 3])([y1, y2, a, b]))
    model.compile("sgd")
    batch = data(rng)
    values = task_losses(keras.models.Model(x, [a, b]), batch)
    np.testing.assert_allclose(model.train_on_batch(batch, None), np.sqrt(values.prod()), rtol=1e-4)
