"""MultiTask: how tasks are given and found, what the combined gradient is, saving, composing, errors."""

import os
import re

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from numpy_optimizers import difference
from scripts import script_names

from kexue_keras import regularizers
from kexue_keras.backend import K, get_session, is_tf_keras, keras, tf1
from kexue_keras.optimizers import (
    AdamW,
    ExponentialMovingAverage,
    GradientAccumulation,
    LayerwiseLearningRate,
    Lookahead,
    MultiTask,
    Optimizer,
    PiecewiseLinear,
)

L = keras.layers


METHODS = ("normalize", "mgda", "pcgrad", "main_auxiliary")


def sgd(rate=1.0):
    return keras.optimizers.SGD(rate)


def numpy_direction(method, g):
    """u for n = 2 in closed form."""
    a, b = g
    if method == "normalize":
        return a / np.linalg.norm(a) + b / np.linalg.norm(b)
    if method == "mgda":
        alpha = np.clip((b - a) @ b / ((a - b) @ (a - b)), 0, 1)
        return alpha * a + (1 - alpha) * b
    if method == "pcgrad":
        return a + b + max(-(a @ b), 0) * (b / (b @ b) + a / (a @ a))
    return a + max(-(a @ b), 0) / (b @ b) * b


def two_heads(regularizer=None):
    x = L.Input((3,), name="x")
    h = L.Dense(4, activation="tanh", name="shared", kernel_regularizer=regularizer)(x)
    return keras.models.Model(x, [L.Dense(2, activation="softmax", name="topic")(h), L.Dense(1, name="score")(h)])


LOSSES = ["sparse_categorical_crossentropy", "mse"]


def numpy_gradients(model, x, labels, scores):
    """Per task: float64 gradients of (shared kernel, shared bias, head kernel, head bias)."""
    w, b, wt, bt, ws, bs = [v.astype("float64") for v in model.get_weights()]
    h = np.tanh(x @ w + b)
    p = np.exp(h @ wt + bt)
    p /= p.sum(1, keepdims=True)
    result = []
    for head, error in ((wt, (p - np.eye(2)[labels.ravel()]) / len(x)), (ws, 2 * (h @ ws + bs - scores) / len(x))):
        back = error @ head.T * (1 - h**2)
        result.append([x.T @ back, back.sum(0), h.T @ error, error.sum(0)])
    return result


def data(rng, n=8):
    return rng.randn(n, 3), rng.randint(0, 2, (n, 1)), 3 * rng.randn(n, 1)


def flat(tensors):
    return np.concatenate([t.ravel() for t in tensors])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("conflict", [False, True])
def test_compiled_multi_output_model(rng, method, conflict):
    model = two_heads()
    x, labels, scores = data(rng)
    first, second = numpy_gradients(model, x, labels, scores)
    # Loss weights belong to the tasks' losses; a negative one makes the two disagree.
    agree = flat(first[:2]) @ flat(second[:2]) > 0
    weight = 0.7 if agree != conflict else -0.7
    second = [weight * g for g in second]
    model.compile(MultiTask(sgd(), method=method), LOSSES, loss_weights=[1.0, weight])
    before = model.get_weights()
    model.train_on_batch(x, [labels, scores])
    step = [old - new for old, new in zip(before, model.get_weights())]
    u = numpy_direction(method, [flat(first[:2]), flat(second[:2])])
    np.testing.assert_allclose(flat(step[:2]), u, atol=3e-6)
    # Each head keeps its own gradient.
    assert difference(step[2:], first[2:] + second[2:]) < 2e-6
    if method in ("mgda", "main_auxiliary"):
        inner = [flat(g[:2]) @ flat(step[:2]) for g in (first, second)]
        assert min(inner) >= -1e-5


@pytest.mark.parametrize("which", ["index", "name", "tensor", "main by name"])
def test_ways_to_name_the_tasks(rng, which):
    model = two_heads()
    x, labels, scores = data(rng)
    weights = model.get_weights()
    model.compile(MultiTask(sgd(), method="main_auxiliary", main=1), LOSSES)
    model.train_on_batch(x, [labels, scores])
    expected = model.get_weights()
    model.set_weights(weights)
    losses, main = {"index": ([1, 0], 0), "name": (["score", "topic"], 0), "main by name": (None, "score")}.get(
        which, (None, 1)
    )
    if which == "tensor":
        y = L.Input((1,)), L.Input((1,))
        tensors = [
            K.mean(keras.losses.sparse_categorical_crossentropy(y[0], model.outputs[0])),
            K.mean(K.square(y[1] - model.outputs[1])),
        ]
        both = keras.models.Model(model.inputs + list(y), model.outputs)
        both.add_loss(tensors[0] + tensors[1])
        both.compile(MultiTask(sgd(), tensors[::-1], method="main_auxiliary", main=0))
        both.train_on_batch([x, labels, scores], None)
        assert both.optimizer.get_config()["losses"] == [1, 0]
    else:
        model.compile(MultiTask(sgd(), losses, method="main_auxiliary", main=main), LOSSES)
        model.train_on_batch(x, [labels, scores])
    assert difference(model.get_weights(), expected) < 1e-6


def test_snippets_of_the_page():
    with open(os.path.join(ROOT, "docs", "optimizers", "multitask.md"), encoding="utf-8") as page:
        snippets = re.findall(r"```python\n(.*?)```", page.read(), re.DOTALL)
    ones = np.ones((8, 3)), np.ones((8, 1)), np.ones((8, 1))
    data = (ones[0], list(ones[1:])), (list(ones), None), ones[:2]
    assert len(snippets) == len(data)
    for snippet, (x, y) in zip(snippets, data):
        with script_names() as names:
            exec(snippet, names)
            names["model"].fit(x, y, verbose=0)
            assert K.get_value(names["model"].optimizer.iterations) == 1


class Toy(object):
    """n linear losses <g_i, w> + <c_i, head_i>, and a table that the first two look up."""

    def __init__(self, wrap=None, method="mgda", n=3, rest=None, **arguments):
        self.w, self.heads = K.variable(np.ones(4), name="w"), [K.variable([1.0], name="head%d" % i) for i in range(n)]
        self.table = K.variable(np.ones((6, 2)), name="table")
        self.g = tf1.placeholder("float32", (n, 4))
        self.ids, self.rows = tf1.placeholder("int32", (2, None)), tf1.placeholder("float32", (2, None, 2))
        self.losses = []
        for i in range(n):
            loss = tf.reduce_sum(self.g[i] * self.w) + tf.reduce_sum(self.heads[i] * (i + 1.0) * self.g[i, 0])
            if i < 2:
                loss += tf.reduce_sum(self.rows[i] * K.gather(self.table, self.ids[i]))
            self.losses.append(tf.identity(loss * 1.0))
        self.optimizer = MultiTask(sgd(), self.losses, method=method, **arguments)
        self.params = [self.w, self.table] + self.heads
        whole = tf.add_n(self.losses) if rest is None else tf.add_n(self.losses) + rest(self)
        self.gradients = self.optimizer.get_gradients(whole, self.params)
        outer = self.optimizer if wrap is None else wrap(self.optimizer)
        self.op = tf.group(*outer.get_updates(loss=whole, params=self.params))
        K.batch_get_value(self.params)

    def feed(self, rng):
        g, rows, ids = rng.randn(3, 4), rng.randn(2, 3, 2), np.array([[0, 1, 1], [1, 4, 4]])
        tables = np.zeros((3, 6, 2))
        for i in range(2):
            np.add.at(tables[i], ids[i], rows[i])
        return {self.g: g, self.ids: ids, self.rows: rows}, g, tables


@pytest.mark.parametrize("inner_product", ["global", "variable"])
def test_sparse_gradients_stay_sparse(rng, inner_product):
    toy = Toy(inner_product=inner_product, variables=["w", "table"])
    assert isinstance(toy.gradients[1], tf.IndexedSlices)
    feed, g, tables = toy.feed(rng)
    w, sparse, alpha = get_session().run(toy.gradients[:2] + [toy.optimizer.combination], feed)
    dense = np.zeros((6, 2))
    np.add.at(dense, sparse.indices, sparse.values)
    assert len(np.unique(sparse.indices)) == len(sparse.indices) == 3
    rows = [alpha, alpha] if inner_product == "global" else alpha
    np.testing.assert_allclose(w, rows[0] @ g, atol=1e-6)
    np.testing.assert_allclose(dense, np.tensordot(rows[1], tables, 1), atol=1e-6)
    for r, vectors in zip(
        rows,
        ([np.concatenate([a, b.ravel()]) for a, b in zip(g, tables)],) * 2
        if inner_product == "global"
        else (g, tables.reshape(3, -1)[:2]),
    ):
        vectors = np.array(vectors)
        r = r[: len(vectors)]
        u = r @ vectors
        assert abs(r.sum() - 1) < 1e-6 and (vectors @ u >= u @ u - 1e-6).all()


def test_variables_all_weighs_the_heads_too(rng):
    toy = Toy(variables="all")
    feed, g, _ = toy.feed(rng)
    seen = get_session().run([toy.optimizer.combination] + toy.gradients[2:], feed)
    for i in range(3):
        np.testing.assert_allclose(seen[1 + i], [seen[0][i] * (i + 1) * g[i, 0]], rtol=1e-5)


def test_terms_without_data_are_added(rng):
    """A regulariser is no task; neither is what `losses` leaves out."""
    toy = Toy(rest=lambda t: 0.5 * tf.reduce_sum(t.w * t.w) + tf.reduce_sum(t.g[0] * t.w) * 2.0)
    feed, g, _ = toy.feed(rng)
    w, alpha = get_session().run([toy.gradients[0], toy.optimizer.combination], feed)
    np.testing.assert_allclose(w, alpha @ g + 1 + 2 * g[0], atol=1e-5)
    model = two_heads(regularizers.WEISSI(0.5))
    x, labels, scores = data(rng)
    first, second = numpy_gradients(model, x, labels, scores)
    kernel = model.get_weights()[0].astype("float64")
    model.compile(MultiTask(sgd()), LOSSES)
    before = model.get_weights()
    model.train_on_batch(x, [labels, scores])
    step = [old - new for old, new in zip(before, model.get_weights())]
    u = numpy_direction("normalize", [flat(first[:2]), flat(second[:2])])
    u[: kernel.size] += 0.5 * kernel.ravel() / (kernel**2).sum()
    np.testing.assert_allclose(flat(step[:2]), u, atol=3e-6)


def test_pcgrad_order_is_new_at_each_update_and_reproducible(rng):
    toy = Toy(method="pcgrad")
    order = toy.optimizer._order(6)
    counts = []
    for t in range(4):
        K.set_value(toy.optimizer.iterations, t)
        now, again = get_session().run(order), get_session().run(order)
        np.testing.assert_array_equal(now, again)
        assert (np.sort(now, axis=1) == np.arange(6)).all()
        counts.append(now)
    assert all((a != b).any() for a, b in zip(counts, counts[1:]))
    assert (get_session().run(Toy(method="pcgrad", seed=None).optimizer._order(2)) == [[0, 1], [0, 1]]).all()


def test_a_batch_without_labels_of_a_task(rng):
    """Sample weight 0 for a whole task: its gradient is 0, and the others go on."""
    for method in ("normalize", "mgda"):
        model = two_heads()
        x, labels, scores = data(rng)
        first, _ = numpy_gradients(model, x, labels, scores)
        model.compile(MultiTask(sgd(), method=method), LOSSES)
        before = model.get_weights()
        model.train_on_batch(x, [labels, scores], sample_weight=[np.ones(8), np.zeros(8)])
        step = flat([old - new for old, new in zip(before, model.get_weights())][:2])
        g = flat(first[:2])
        np.testing.assert_allclose(step, g / np.linalg.norm(g) if method == "normalize" else g, atol=2e-6)
        K.clear_session()


WRAPPED = {
    "outside": lambda: MultiTask(Lookahead(ExponentialMovingAverage(AdamW(0.01))), method="mgda"),
    "inside": lambda: GradientAccumulation(
        Lookahead(
            LayerwiseLearningRate(
                PiecewiseLinear(
                    ExponentialMovingAverage(MultiTask(AdamW(0.01), method="main_auxiliary", main=[0])), {2: 1}
                ),
                multipliers={"shared": 0.5},
            ),
            steps=2,
        ),
        2,
    ),
}


RESUME = """
import sys
import numpy as np
import kexue_keras.optimizers, kexue_keras.regularizers
from kexue_keras.backend import K, is_tf_keras, keras, tf1
config = tf1.ConfigProto()
config.graph_options.rewrite_options.disable_meta_optimizer = True
(tf1.keras.backend if is_tf_keras else K).set_session(tf1.Session(config=config))
model = keras.models.load_model(sys.argv[1])
data = np.load(sys.argv[2])
for x, labels, scores in zip(data["x"], data["labels"], data["scores"]):
    model.train_on_batch(x, [labels, scores])
np.savez(sys.argv[3], *(model.get_weights() + model.optimizer.get_weights()))
"""


@pytest.mark.parametrize("order", sorted(WRAPPED))
def test_resume_in_a_fresh_process_in_any_order_of_wrappers(rng, tmp_path, run_python, order):
    model = two_heads(regularizers.WEISSI(1e-3, 1e-3))
    model.compile(WRAPPED[order](), LOSSES)
    batches = [data(rng) for _ in range(7)]
    for x, labels, scores in batches[:3]:
        model.train_on_batch(x, [labels, scores])
    model.save(str(tmp_path / "model.h5"))
    x, labels, scores = (np.array(a) for a in zip(*batches[3:]))
    np.savez(str(tmp_path / "data.npz"), x=x, labels=labels, scores=scores)
    for x, labels, scores in batches[3:]:
        model.train_on_batch(x, [labels, scores])
    run_python(RESUME, tmp_path / "model.h5", tmp_path / "data.npz", tmp_path / "out.npz")
    resumed = np.load(str(tmp_path / "out.npz"))
    here = model.get_weights() + model.optimizer.get_weights()
    assert difference(here, [resumed["arr_%d" % i] for i in range(len(here))]) == 0.0


def test_configuration_round_trip():
    optimizer = MultiTask(
        AdamW(0.1), ["a", "b"], method="pcgrad", main=[0, 1], variables=["x"], inner_product="variable", seed=5
    )
    text = keras.optimizers.serialize(optimizer)
    assert keras.optimizers.serialize(keras.optimizers.deserialize(text)) == text


def test_errors_in_the_constructor():
    for arguments, message in (
        ({"method": "cagrad"}, "method must be one of 'normalize', 'mgda', .*but is 'cagrad'"),
        ({"inner_product": "layer"}, "inner_product must be one of 'global', 'variable', but is 'layer'"),
        ({"losses": [0]}, "two or more positions, names or scalar tensors"),
        ({"losses": 3}, "two or more positions"),
        ({"variables": "("}, "no regular expression"),
    ):
        with pytest.raises(ValueError, match=message):
            MultiTask(AdamW(), **arguments)
    with pytest.raises(ValueError, match="MultiTask inside MultiTask"):
        MultiTask(Lookahead(MultiTask(AdamW())))


def train(optimizer, loss, params):
    patched = {name: getattr(K, name) for name in ("update", "update_add", "gradients", "zeros", "variable")}
    try:
        tf.group(*optimizer.get_updates(loss=loss, params=params))
    finally:
        assert all(getattr(K, name) is function for name, function in patched.items())


def test_errors_while_the_graph_is_built():
    w, v = K.variable(np.ones(3), name="w"), K.variable(np.ones(3), name="v")
    x = tf1.placeholder("float32", (3,), name="x")
    one, two = tf.reduce_sum(w * x, name="one"), tf.reduce_sum(w * x * x, name="two")
    lost = tf.reduce_sum(tf.round(w) * 0 + x + tf.cast(tf.argmax(w), "float32"), name="lost")
    lost = tf.stop_gradient(lost, name="lost")
    cases = [
        (None, {}, one + lost, [w], "the loss lost.* reaches no trainable variable"),
        (None, {}, one + tf.reduce_sum(v * x, name="other"), [w, v], "there is nothing to combine"),
        (None, {}, one, [w], "needs two or more different tasks, but found .* one"),
        (None, {}, one + tf.reduce_sum(w * w), [w], "needs two or more different tasks"),
        ([0, 5], {}, one + two, [w], "losses holds 5; the model's loss has 2 terms with data: 0: one"),
        ([0, 0], {}, one + two, [w], "two or more different tasks"),
        (["one", "three"], {}, one + two, [w], "no term of the loss belongs to 'three'; the terms are 0: one"),
        ([one, lost], {}, one + two, [w], "the loss lost.* reaches no trainable variable"),
        ([one, two], {}, one + 0.1 * two, [w], "two.* is no term of the model's loss, .*; call model.add_loss"),
        ([one, two + one], {}, one + two * one, [w], "is no term of the model's loss"),
        ([one, x * w], {}, one, [w], "has shape .*take its mean"),
        ([0, "regularization"], {}, one, [w], "but it has none; give layers a kernel_regularizer, or take 'l2'"),
        ([0, {"tensor": "AddN:0"}], {}, one, [w], "saved with the task AddN:0, .*compile the model again"),
        (
            None,
            {"main": 2, "method": "main_auxiliary"},
            one + two,
            [w],
            "main must be a task's name or in 0 .. 1, but is 2",
        ),
        (None, {"variables": "absent"}, one + two, [w], "nothing to combine: no variable has variables="),
        (None, {}, one + two, [w, v], "no loss depends on v:0"),
        (None, {}, x * tf.reduce_sum(w), [w], "the model's loss has shape"),
    ]
    for losses, arguments, loss, params, message in cases:
        with pytest.raises(ValueError, match=message):
            train(MultiTask(sgd(), losses, **arguments), loss, params)


def test_gradients_of_others_are_refused():
    w = K.variable(np.ones(3), name="w")
    optimizer = MultiTask(sgd())
    with pytest.raises(RuntimeError, match="gradients that somebody else has computed"):
        optimizer.train([tf.ones(3)], [w])


@pytest.mark.all_stacks
def test_rate_callbacks_reach_the_inner_variable(rng):
    model = two_heads()
    model.compile(MultiTask(AdamW(0.1)), LOSSES)
    x, labels, scores = data(rng)
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.25)
    model.fit(x, [labels, scores], verbose=0, callbacks=[schedule])
    assert K.get_value(model.optimizer.optimizer.lr) == 0.25
    assert isinstance(model.optimizer, Optimizer) and (
        is_tf_keras or model.optimizer.lr is model.optimizer.learning_rate
    )


def test_a_small_step_of_mgda_lowers_every_loss(rng):
    model = two_heads()
    x, labels, scores = data(rng, 32)
    model.compile(MultiTask(sgd(1e-2), method="mgda"), LOSSES)
    before = model.evaluate(x, [labels, scores], verbose=0)
    model.train_on_batch(x, [labels, scores])
    after = model.evaluate(x, [labels, scores], verbose=0)
    assert after[1] < before[1] and after[2] < before[2]
