"""GradientAccumulation: equal to the big batch, idle in between, resumable in mid window."""

import re

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.optimizers import AdaFactor
from helpers import plain_session
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_optimizers import Toy, adafactor, adagrad, adam, clip_by_stack_norm, difference, rmsprop, sgd

from kexue_keras.backend import K, get_session, is_tf_keras, keras, tf1
from kexue_keras.optimizers import (
    AdamW,
    FlushAccumulation,
    GradientAccumulation,
    MomentumAccumulationAdamW,
    PiecewiseLinear,
)

pytestmark = pytest.mark.all_stacks

optimizers = keras.optimizers
INNER = {
    "SGD": (lambda: optimizers.SGD(0.05), lambda: sgd(0.05)),
    "momentum": (lambda: optimizers.SGD(0.05, momentum=0.9), lambda: sgd(0.05, 0.9)),
    "nesterov": (lambda: optimizers.SGD(0.05, momentum=0.9, nesterov=True), lambda: sgd(0.05, 0.9, True)),
    "RMSprop": (lambda: optimizers.RMSprop(0.05), lambda: rmsprop(0.05)),
    "Adagrad": (lambda: optimizers.Adagrad(0.05), lambda: adagrad(0.05)),
    "Adam": (lambda: optimizers.Adam(0.05), lambda: adam(0.05, epsilon=1e-7, hat=True)),
    "AdamW": (lambda: AdamW(0.05, weight_decay=0.1), lambda: adam(0.05, weight_decay=[0.1, 0, 0.1])),
    "LAMB": (
        lambda: AdamW(0.05, weight_decay=0.0, layer_adaptation=True, exclude_from_layer_adaptation=()),
        lambda: adam(0.05, lamb=True),
    ),
    "AdaFactor": (lambda: AdaFactor(0.05), lambda: adafactor(0.05)),
}


def mean_of(toy, window):
    return [sum(g) / len(window) for g in zip(*(toy.gradients(b) for b in window))]


@pytest.mark.dear
@pytest.mark.parametrize("name", sorted(INNER))
def test_equals_the_big_batch_and_is_idle_in_between(rng, name):
    make, reference = INNER[name]
    for k in (1, 3):
        optimizer = GradientAccumulation(make(), k)
        toy, step = Toy(optimizer, rng), reference()
        params = toy.start()
        for _ in range(3):
            window = [toy.batch(rng) for _ in range(k)]
            frozen = toy.params + optimizer.optimizer.weights
            before = toy.session.run(frozen) if k > 1 else None
            for batch in window[:-1]:
                toy.train(batch)
            assert k == 1 or difference(before, toy.session.run(frozen)) == 0.0
            toy.train(window[-1])
            step(params, mean_of(toy, window))
            # 1e-6 of the weights, which are of size 1
            assert difference(toy.values(), params) < 1e-6, (name, k)
        assert K.get_value(optimizer.iterations) == 3 and K.get_value(optimizer.micro_step) == 0


def test_oracle_of_the_spec():
    weight, g = K.variable(0.0, name="w"), tf1.placeholder("float32", ())
    optimizer = GradientAccumulation(optimizers.SGD(1.0), 4)
    op = tf.group(*optimizer.get_updates(loss=weight * g, params=[weight]))
    K.get_value(weight)
    seen = []
    for i in range(1, 14):
        get_session().run(op, {g: i})
        seen.append(float(K.get_value(weight)))
    assert seen == [0, 0, 0, -2.5, -2.5, -2.5, -2.5, -9, -9, -9, -9, -19.5, -19.5]


def test_sum_and_regularizer(rng):
    # A regulariser in the loss is right under the mean, and counted k times under the sum.
    for mode, factor in (("mean", 1.0), ("sum", 4.0)):
        optimizer = GradientAccumulation(optimizers.SGD(0.1), 4, mode=mode)
        weight, g = K.variable([2.0], name="w"), tf1.placeholder("float32", (1,))
        loss = tf.reduce_sum(weight * g) + 0.5 * tf.reduce_sum(tf.square(weight))
        op = tf.group(*optimizer.get_updates(loss=loss, params=[weight]))
        K.get_value(weight)
        for value in (1, 2, 3, 6):
            get_session().run(op, {g: [value]})
        assert K.get_value(weight) == pytest.approx(2.0 - 0.1 * factor * (3.0 + 2.0), rel=1e-6)


def test_unequal_token_counts_equal_the_big_batch(rng):
    tokens = tf1.placeholder("float32", (1, 1))
    optimizer = GradientAccumulation(AdamW(0.05), 3, mode="weighted", micro_weight=lambda: tokens)
    toy, step = Toy(optimizer, rng), adam(0.05, weight_decay=[0.01, 0, 0.01])
    params = toy.start()
    for counts in ((7, 1, 30), (2, 0, 5), (4, 4, 4)):
        window = [toy.batch(rng) for _ in counts]
        for batch, n in zip(window, counts):
            # An empty micro batch has the loss 0 / 0; its NaN must not count.
            fed = batch if n else (batch[0] * np.nan, batch[1] * np.nan, batch[2] * np.nan, batch[3])
            toy.train(fed, {tokens: [[n]]})
        weighted = [[n * g for g in toy.gradients(b)] for b, n in zip(window, counts)]
        step(params, [sum(g) / sum(counts) for g in zip(*weighted)])
        assert difference(toy.values(), params) < 1e-6
    toy.train(window[0], {tokens: [[9]]})
    assert optimizer.flush() == 1
    step(params, toy.gradients(window[0]))
    assert difference(toy.values(), params) < 1e-6


@pytest.mark.parametrize("kind, limit", [("clipnorm", 0.5), ("clipvalue", 0.1)])
def test_clipping_acts_on_the_mean(rng, kind, limit):
    optimizer = GradientAccumulation(optimizers.SGD(0.5, **{kind: limit}), 2)
    toy = Toy(optimizer, rng)
    params = toy.start()
    clip = clip_by_stack_norm if kind == "clipnorm" else lambda gs, c: [np.clip(g, -c, c) for g in gs]
    big, small = toy.batch(rng, 50.0), toy.batch(rng, 0.01)
    # Opposite big gradients: clipped one by one their mean would not be the small one.
    opposite = tuple(-x for x in big[:3]) + (big[3],)
    for window in ([big, opposite], [big, small]):
        for batch in window:
            toy.train(batch)
        sgd(0.5)(params, clip(mean_of(toy, window), limit))
    assert difference(toy.values(), params) < 2e-6


def test_flush_uses_the_true_count_and_reset_forgets(rng):
    optimizer = GradientAccumulation(optimizers.Adam(0.05), 4)
    assert optimizer.flush() == 0
    toy, step = Toy(optimizer, rng), adam(0.05, epsilon=1e-7, hat=True)
    params = toy.start()
    for size in (4, 3, 4, 1):
        window = [toy.batch(rng) for _ in range(size)]
        for batch in window:
            toy.train(batch)
        assert optimizer.flush() == size % 4
        step(params, mean_of(toy, window))
        assert difference(toy.values(), params) < 1e-6
    assert optimizer.flush() == 0
    toy.train(toy.batch(rng))
    optimizer.reset()
    assert K.get_value(optimizer.micro_step) == 0 and optimizer.flush() == 0
    assert difference(toy.values(), params) < 1e-6
    assert K.get_value(optimizer.iterations) == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_window_with_nan_is_skipped_and_counted(rng, bad):
    optimizer = GradientAccumulation(AdamW(0.05), 2, skip_nonfinite=True)
    toy, step = Toy(optimizer, rng), adam(0.05, weight_decay=[0.01, 0, 0.01])
    params = toy.start()
    poisoned = toy.batch(rng)
    poisoned[2][0, 0] = bad
    for window in ([poisoned, toy.batch(rng)], [toy.batch(rng), poisoned], [toy.batch(rng), toy.batch(rng)]):
        for batch in window:
            toy.train(batch)
    step(params, mean_of(toy, window))
    assert difference(toy.values(), params) < 1e-6
    assert K.get_value(optimizer.skipped) == 2 and K.get_value(optimizer.iterations) == 1


@pytest.mark.parametrize("depth", [1, 7])
def test_one_trajectory_in_twenty_fresh_sessions(rng, depth):
    # Keras 2.3.1's own Adam races on its counter; inside the wrapper it must not.
    start = [rng.randn(4, 4) / 2 for _ in range(depth)]
    params = [K.variable(w, name="kernel_%d" % i) for i, w in enumerate(start)]
    data = tf1.placeholder("float32", (4, 4))
    x = data
    for p in params:
        x = tf.tanh(K.dot(x, p))
    loss = tf.reduce_mean(tf.square(x - 0.3))
    gradients = K.gradients(loss, params)
    optimizer = GradientAccumulation(optimizers.Adam(0.05), 3)
    op = tf.group(*optimizer.get_updates(loss=loss, params=params))
    initializer, graph, results = tf1.global_variables_initializer(), tf1.get_default_graph(), []
    batches = [rng.randn(4, 4) for _ in range(9)]
    for i in range(20):
        # Graph rewriting hides or shows different races.
        with tf1.Session(graph=graph, config=plain_session() if i % 4 else None) as session:
            session.run(initializer)
            for batch in batches:
                session.run(op, {data: batch})
            results.append(session.run(params))
    with tf1.Session(graph=graph) as session:
        session.run(initializer)
        exact, step = [np.float32(w).astype("float64") for w in start], adam(0.05, epsilon=1e-7, hat=True)
        for i in range(0, 9, 3):
            for p, w in zip(params, exact):
                p.load(w, session)
            window = [session.run(gradients, {data: b}) for b in batches[i : i + 3]]
            step(exact, [np.mean(np.float64(g), axis=0) for g in zip(*window)])
    for values in results:
        assert difference(values, results[0]) == 0.0
        assert difference(values, exact) < 5e-6


def test_order_of_micro_batches_does_not_matter(rng):
    optimizer = GradientAccumulation(optimizers.Adam(0.05), 4)
    toy = Toy(optimizer, rng)
    window = [toy.batch(rng) for _ in range(4)]
    state = [0 * w for w in optimizer.get_weights()]

    @settings(max_examples=10)
    @given(st.permutations(range(4)))
    def check(order):
        K.batch_set_value(list(zip(toy.params, toy.initial)))
        optimizer.set_weights(state)
        for i in order:
            toy.train(window[i])
        params = toy.start()
        adam(0.05, epsilon=1e-7, hat=True)(params, mean_of(toy, window))
        assert difference(toy.values(), params) < 1e-6

    check()


def test_the_inner_update_is_not_computed_between_boundaries(rng):
    toy = Toy(GradientAccumulation(optimizers.RMSprop(0.05), 3), rng)
    options, executed = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE), []
    for _ in range(3):
        batch, metadata = toy.batch(rng), tf1.RunMetadata()
        feed = dict(zip(toy.feeds + [toy.ids], batch))
        toy.session.run(toy.op, feed, options=options, run_metadata=metadata)
        names = [n.node_name for d in metadata.step_stats.dev_stats for n in d.node_stats]
        executed.append(
            # TensorFlow 2 leaves out the type behind the colon.
            sum("cond/" in n and bool(re.search(r"[:/](Sqrt|AssignVariableOp)(_\d+)?$", n)) for n in names)
        )
    assert executed[0] == executed[1] == 0 < executed[2]


def test_embedding_gradients_stay_sparse(rng):
    table = K.variable(rng.randn(1000, 4), name="table")
    optimizer = GradientAccumulation(optimizers.SGD(0.1), 4)
    before = len(tf1.get_default_graph().get_operations())
    loss = tf.reduce_sum(K.gather(table, K.constant([1, 2, 2], dtype="int32")))
    op = tf.group(*optimizer.get_updates(loss=loss, params=[table]))
    ops = tf1.get_default_graph().get_operations()[before:]
    assert any(o.type == "ResourceScatterAdd" for o in ops)
    assert not any(o.type == "UnsortedSegmentSum" for o in ops)
    K.get_value(table)
    get_session().run(op)
    buffer = K.get_value(optimizer.state("buffer", table))
    assert buffer[2].tolist() == [2.0] * 4 and buffer[1].tolist() == [1.0] * 4 and buffer.sum() == 12


RESUME = """
import sys
import numpy as np
import kexue_keras
from kexue_keras.backend import K, keras
data = np.load(sys.argv[1] + '/data.npz')
for name in sys.argv[2:]:
    model = keras.models.load_model(sys.argv[1] + '/' + name + '.h5')
    assert int(K.get_value(model.optimizer.micro_step)) == 1, K.get_value(model.optimizer.micro_step)
    for x, y in zip(data['x'], data['y']):
        model.train_on_batch(x, y)
    np.savez(sys.argv[1] + '/' + name + '.npz', *(model.get_weights() + model.optimizer.get_weights()))
"""


def embedding_model():
    return keras.models.Sequential(
        [
            keras.layers.Embedding(12, 4, input_length=3),
            keras.layers.Flatten(),
            keras.layers.Dense(5, activation="tanh"),
            keras.layers.Dense(1),
        ]
    )


def test_resume_in_mid_window_in_a_fresh_process(rng, tmp_path, run_python):
    tf1.keras.backend.set_session(tf1.Session())
    cases = {
        "adam": GradientAccumulation(optimizers.Adam(0.05), 3),
        "schedule": GradientAccumulation(PiecewiseLinear(AdamW(0.05), {2: 1, 4: 0.1}), 3),
        "hidden": MomentumAccumulationAdamW(0.05, steps=3),
    }
    x, y, after = rng.randint(0, 12, (10, 4, 3)), rng.randn(10, 4, 1), {}
    np.savez(str(tmp_path / "data.npz"), x=x[4:], y=y[4:])
    for name, optimizer in cases.items():
        model = embedding_model()
        model.compile(optimizer, "mse")
        for i in range(4):
            model.train_on_batch(x[i], y[i])
        model.save(str(tmp_path / (name + ".h5")))
        for i in range(4, 10):
            model.train_on_batch(x[i], y[i])
        after[name] = model.get_weights() + model.optimizer.get_weights()
    run_python(RESUME, tmp_path, *cases)
    for name, here in after.items():
        resumed = np.load(str(tmp_path / (name + ".npz")))
        assert difference(here, [resumed["arr_%d" % i] for i in range(len(here))]) == 0.0, name


def test_callbacks_for_the_rate_and_for_the_last_window(rng):
    model = embedding_model()
    model.compile(GradientAccumulation(optimizers.Adam(0.5), 4), "mse")
    x, y = rng.randint(0, 12, (14, 3)), rng.randn(14, 1)
    flush = FlushAccumulation()
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.25)
    plateau = keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=1e9)
    model.fit(x, y, batch_size=2, epochs=2, verbose=0, callbacks=[flush, schedule])
    assert flush.flushed == 6 and K.get_value(model.optimizer.iterations) == 4
    assert K.get_value(model.optimizer.micro_step) == 0
    assert K.get_value(model.optimizer.optimizer.lr) == 0.25
    model.fit(x, y, batch_size=2, epochs=3, verbose=0, callbacks=[plateau])
    assert K.get_value(model.optimizer.optimizer.lr) < 0.25


def test_flush_callback_names_what_it_needs(rng):
    model = embedding_model()
    model.compile(AdamW(), "mse")
    with pytest.raises(TypeError, match="compiled with GradientAccumulation, not with AdamW"):
        model.fit(np.zeros((2, 3)), np.zeros((2, 1)), verbose=0, callbacks=[FlushAccumulation("train")])
    with pytest.raises(ValueError, match="when must be one of 'epoch', 'train', but is 'batch'"):
        FlushAccumulation("batch")


@pytest.mark.parametrize(
    "arguments, text",
    [
        (dict(steps=0), "GradientAccumulation: steps must be a whole number >= 1, but is 0; 1 means no accumulation"),
        (dict(steps=2.5), "steps must be a whole number >= 1, but is 2.5"),
        (dict(steps=2, mode="median"), "mode must be one of 'mean', 'sum', 'weighted', but is 'median'"),
        (dict(steps=2, micro_weight=1.0), "use mode='weighted'"),
    ],
)
def test_bad_arguments(arguments, text):
    with pytest.raises(ValueError, match=text):
        GradientAccumulation(optimizers.SGD(0.1), **arguments)


def test_weighted_without_weight_says_what_to_do(rng):
    with pytest.raises(ValueError, match="micro_weight is None"):
        Toy(GradientAccumulation(optimizers.SGD(0.1), 2, mode="weighted"), rng)


@pytest.mark.skipif(not is_tf_keras, reason="loss scaling is a part of tf.keras")
def test_inside_a_loss_scale_optimizer(rng):
    accumulation = GradientAccumulation(AdamW(0.05), 2)
    if hasattr(tf.keras.mixed_precision, "experimental"):
        scaled = tf.keras.mixed_precision.experimental.LossScaleOptimizer(accumulation, loss_scale=128.0)
    else:
        scaled = tf.keras.mixed_precision.LossScaleOptimizer(accumulation, dynamic=False, initial_scale=128.0)
    model, plain = embedding_model(), None
    weights = model.get_weights()
    x, y = rng.randint(0, 12, (8, 2, 3)), rng.randn(8, 2, 1)
    for optimizer in (scaled, GradientAccumulation(AdamW(0.05), 2)):
        model.set_weights(weights)
        model.compile(optimizer, "mse")
        for a, b in zip(x, y):
            model.train_on_batch(a, b)
        plain, first = model.get_weights(), plain
    assert difference(plain, first) < 1e-6
