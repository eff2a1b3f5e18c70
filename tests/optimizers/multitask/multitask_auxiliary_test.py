"""MultiTask with regularizers, weights and other tensors as tasks; its decoupled form; weights of the shared layer."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from numpy_optimizers import adam, difference
from scipy.optimize import nnls

from kexue_keras.backend import K, get_session, is_tf_keras, keras, tf1
from kexue_keras.backend.graph import reached
from kexue_keras.optimizers import AdamW, GradientAccumulation, MultiTask
from kexue_keras.optimizers.multitask._loss_terms import same_value

L = keras.layers
X, Y = np.array([[1.0, 2], [0.5, -1], [2, 0.3]]), np.array([[9.0], [2], [8]])


def sgd(rate=1.0):
    return keras.optimizers.SGD(rate)


def linear(regularizer=None):
    x = L.Input((2,), name="x")
    layer = L.Dense(1, use_bias=False, name="score", kernel_regularizer=regularizer)
    model = keras.models.Model(x, layer(x))
    model.set_weights([np.array([[1.0], [2.0]])])
    return model


def half_squares(model):
    return tf.add_n([tf.nn.l2_loss(w) for w in model.trainable_weights])


def by_tensor(model):
    auxiliary = 0.5 * half_squares(model)
    model.add_loss(auxiliary)
    return [0, auxiliary]


def by_sum_of_tensors(model):
    """Two tensors of the loss, together one task."""
    one, other = 0.25 * half_squares(model), K.sum(K.square(model.trainable_weights[0]))
    model.add_loss([one, other])
    return ["score", [one, other]]


def by_function(model):
    function = lambda: 3.0 * half_squares(model)  # noqa: E731
    if is_tf_keras:
        model.add_loss(function)  # Keras 2.3.1 takes tensors only
    return [0, function]


def by_regularizer(model):
    return ["score", model.losses[0]]


def by_metric(model):
    tensor = half_squares(model) / 7.0
    arguments = {"aggregation": "mean"} if is_tf_keras else {}
    model.add_metric(tf.identity(tensor), name="size", **arguments)
    return ["score", tensor]


WAYS = {
    "tensor": (None, by_tensor),
    "sum of tensors": (None, by_sum_of_tensors),
    "function": (None, by_function),
    "regularizer": (keras.regularizers.l2(0.3), by_regularizer),
    "two regularizers": (keras.regularizers.l1_l2(0.0, 0.3), by_regularizer),
    "regularization": (keras.regularizers.l2(0.3), lambda model: [0, "regularization"]),
    "l2": (None, lambda model: ["score", "l2"]),
    "metric": (None, by_metric),
}


def direction(kernel):
    """The article's rule for L2, g + relu(-<g, theta>) / |theta|^2 theta; here <g, theta> < 0."""
    g = (2 * X.T @ (X @ kernel - Y) / len(X)).ravel()
    theta = kernel.ravel()
    assert g @ theta < 0
    return g, g + max(-(g @ theta), 0) / (theta @ theta) * theta


@pytest.mark.parametrize("way", sorted(WAYS))
def test_anything_that_depends_on_the_weights_is_an_auxiliary_task(way):
    regularizer, losses = WAYS[way]
    model = linear(regularizer)
    model.compile(MultiTask(sgd(0.01), losses(model), method="main_auxiliary"), "mse")
    before = model.get_weights()[0].astype("float64")
    model.train_on_batch(X, Y)
    step = (before - model.get_weights()[0]).ravel() / 0.01
    plain, wanted = direction(before)
    np.testing.assert_allclose(step, wanted, rtol=1e-4)
    assert abs(wanted - plain).max() > 0.5 and abs(step @ before.ravel()) < 1e-2


def test_the_gradient_of_a_single_weight_is_that_of_the_loss(rng):
    """TensorBoard's write_grads asks so; what the step needs is left alone."""
    model = linear()
    model.compile(MultiTask(sgd(0.01), ["score", "l2"], method="main_auxiliary", decoupled=True), "mse")
    model.train_on_batch(X, Y)
    kept = dict(model.optimizer._auxiliary)
    (gradient,) = model.optimizer.get_gradients(model.total_loss, model.trainable_weights[0])
    assert gradient.shape.as_list() == [2, 1] and model.optimizer._auxiliary == kept != {}


def test_the_example_of_the_specification():
    theta, x = K.variable([1.0, -2.0]), tf1.placeholder("float32", (2,))
    loss = tf.reduce_sum(x * theta)
    gradients = MultiTask(sgd(), [loss, tf.nn.l2_loss(theta)], method="main_auxiliary").get_gradients(loss, [theta])
    K.batch_get_value([theta])
    np.testing.assert_allclose(get_session().run(gradients[0], {x: [-1, 0.5]}), [-0.6, -0.3], rtol=1e-5)


@pytest.mark.parametrize("way", ["regularizer", "regularization", "l2"])
def test_a_saved_model_goes_on_with_its_auxiliary_task(way, tmp_path):
    regularizer, losses = WAYS[way]
    model = linear(regularizer)
    model.compile(MultiTask(sgd(0.01), losses(model), method="main_auxiliary"), "mse")
    model.train_on_batch(X, Y)
    model.save(str(tmp_path / "model.h5"))
    again = keras.models.load_model(str(tmp_path / "model.h5"))
    for one in (model, again):
        one.train_on_batch(X, Y)
    assert difference(model.get_weights(), again.get_weights()) < 1e-6
    kernel = model.get_weights()[0].astype("float64")
    again.train_on_batch(X, Y)
    np.testing.assert_allclose((kernel - again.get_weights()[0]).ravel() / 0.01, direction(kernel)[1], rtol=1e-3)


def test_a_tensor_that_is_not_saved_with_the_model_is_asked_for(tmp_path):
    model = linear()
    model.compile(MultiTask(sgd(0.01), [0, 0.5 * half_squares(model)], method="main_auxiliary"), "mse")
    model.train_on_batch(X, Y)
    model.save(str(tmp_path / "model.h5"))
    with pytest.raises(ValueError, match="saved with the task .*compile the model again"):
        # tf.keras builds the training graph while it loads.
        keras.models.load_model(str(tmp_path / "model.h5")).train_on_batch(X, Y)


def test_the_same_computation_built_twice_is_known():
    w, v = K.variable(np.ones(2), name="w"), K.variable(np.ones(2), name="v")
    x = tf1.placeholder("float32", (2,))

    def build(variable, factor=0.5, noise=None):
        return factor * tf.reduce_sum(tf.square(variable * x)) + (0.0 if noise is None else tf.reduce_sum(noise))

    one = build(w)
    assert same_value(one, build(w)) and same_value(one, one)
    for other in (build(v), build(w, 0.25), build(w) * 1.0, tf.reduce_sum(w), build(w, noise=x)):
        assert not same_value(one, other)
    # Random numbers are the same only if they are drawn once.
    noise = tf.random.uniform([2])
    assert same_value(build(w, noise=noise), build(w, noise=noise))
    assert not same_value(build(w, noise=tf.random.uniform([2])), build(w, noise=tf.random.uniform([2])))


# The decoupled form


def nearest(d, others):
    """The vector closest to d with <., g> >= 0 for all others."""
    multipliers, _ = nnls(np.array(others).T, -d)
    return d + multipliers @ np.array(others)


vectors = st.lists(st.floats(-2, 2, width=16), min_size=3, max_size=3).map(np.array)


def test_the_decoupled_step_is_the_nearest_one_without_conflict():
    w = K.variable(np.zeros(3))
    g = [tf1.placeholder("float32", (3,)) for _ in range(3)]
    losses = [tf.reduce_sum(x * w) for x in g]
    optimizer = MultiTask(sgd(0.5), losses, method="main_auxiliary", main=0, decoupled=True)
    step = tf.group(*optimizer.get_updates(loss=tf.add_n(losses), params=[w]))
    K.batch_get_value([w])

    @given(vectors, vectors, vectors)
    def agrees(main, first, second):
        K.set_value(w, np.zeros(3))
        get_session().run(step, dict(zip(g, (main, first, second))))
        found = -K.get_value(w)
        np.testing.assert_allclose(found, nearest(0.5 * main, [first, second]), atol=2e-4)

    agrees()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_moments_of_the_decoupled_form_see_the_main_task_alone(accumulate):
    plain, decoupled = linear(), linear()
    inner = MultiTask(AdamW(0.3, weight_decay=0.0), ["score", "l2"], method="main_auxiliary", decoupled=True)
    decoupled.compile(inner if accumulate == 1 else GradientAccumulation(inner, accumulate), "mse")
    plain.compile(MultiTask(AdamW(0.3, weight_decay=0.0), ["score", "l2"], method="main_auxiliary"), "mse")
    kernel, twin = np.array([1.0, 2.0]), adam(0.3)
    for _ in range(4):
        g = (2 * X.T @ (X @ kernel[:, None] - Y) / len(X)).ravel()
        moved = kernel.copy()
        twin([moved], [g])
        kernel = kernel - nearest(kernel - moved, [kernel])
        for _ in range(accumulate):
            decoupled.train_on_batch(X, Y)
        plain.train_on_batch(X, Y)
        np.testing.assert_allclose(decoupled.get_weights()[0].ravel(), kernel, rtol=1e-4)
    assert abs(plain.get_weights()[0].ravel() - kernel).max() > 1e-3
    again = keras.optimizers.deserialize(keras.optimizers.serialize(inner))
    assert again.decoupled and again.get_config()["losses"] == ["score", "l2"]


# Weights at the representation


def deep(representation=None, method="mgda"):
    x = L.Input((3,), name="x")
    h = L.Dense(5, activation="tanh", name="below")(x)
    h = L.Dense(4, activation="tanh", name="shared")(h)
    model = keras.models.Model(x, [L.Dense(1, name="first")(h), L.Dense(1, name="second")(h)])
    random = np.random.RandomState(3)
    model.set_weights([random.randn(*w.shape) for w in model.get_weights()])
    if representation == "tensor":
        representation = h
    model.compile(MultiTask(sgd(), method=method, representation=representation), "mse", loss_weights=[1.0, 3.0])
    return model


def numpy_tasks(model, x, targets):
    """Per task: (gradient at H, gradients of below and shared, of the head), float64."""
    w0, b0, w1, b1, *heads = [v.astype("float64") for v in model.get_weights()]
    a = np.tanh(x @ w0 + b0)
    h = np.tanh(a @ w1 + b1)
    for i, factor in ((0, 1.0), (1, 3.0)):
        w, b = heads[2 * i : 2 * i + 2]
        error = factor * 2 * (h @ w + b - targets[i]) / len(x)
        at = error @ w.T
        back = at * (1 - h**2)
        further = back @ w1.T * (1 - a**2)
        yield at, [x.T @ further, further.sum(0), a.T @ back, back.sum(0)], [h.T @ error, error.sum(0)]


def simplex(a, b):
    """MGDA of two vectors."""
    alpha = np.clip((b - a).ravel() @ b.ravel() / ((a - b) ** 2).sum(), 0, 1)
    return np.array([alpha, 1 - alpha])


@pytest.mark.parametrize("representation", ["shared", "tensor"])
@pytest.mark.parametrize("method", ["mgda", "normalize"])
def test_weights_of_the_bound(rng, representation, method):
    model = deep(representation, method)
    x, targets = rng.randn(6, 3), [rng.randn(6, 1), rng.randn(6, 1)]
    (at, shared, head), (at2, shared2, head2) = numpy_tasks(model, x, targets)
    w = simplex(at, at2) if method == "mgda" else [1 / np.linalg.norm(v) for v in (at, at2)]
    wanted = [w[0] * g + w[1] * g2 for g, g2 in zip(shared, shared2)] + head + head2
    before = model.get_weights()
    model.train_on_batch(x, targets)
    assert difference([b - a for b, a in zip(before, model.get_weights())], wanted) < 1e-4
    config = model.optimizer.get_config()
    assert config["representation"] == "shared"
    assert MultiTask.from_config(config).representation == "shared"


def test_below_the_representation_there_is_one_backward_pass(rng):
    """What the bound is for: of the activation below, one gradient op instead of one a task."""
    counts = {}
    for representation in (None, "shared"):
        model = deep(representation)
        loss, params = model.total_loss, model.trainable_weights
        gradient = model.optimizer.get_gradients(loss, params)[0]
        ops = [op for op in reached([gradient], controls=False) if op.type == "TanhGrad"]
        counts[representation] = sum("below" in op.inputs[0].op.name for op in ops)
    assert counts == {None: 2, "shared": 1}


def test_arguments_that_do_not_go_together():
    for arguments, message in (
        (dict(decoupled=True), "needs method='main_auxiliary' and one `main`, not method='normalize'"),
        (dict(decoupled=True, method="main_auxiliary", main=[0, 1]), "one `main`"),
        (dict(decoupled=True, method="main_auxiliary", representation="h"), "leave representation=... out"),
        (dict(representation="h", inner_product="variable"), "inner_product='variable'"),
    ):
        with pytest.raises(ValueError, match=message):
            MultiTask(AdamW(), **arguments)
    for name, message in (("absent", "representation holds 'absent'"), ("first", "fewer than two tasks")):
        model = deep(name)
        with pytest.raises(ValueError, match=message):
            model.train_on_batch(np.ones((2, 3)), [np.ones((2, 1))] * 2)
