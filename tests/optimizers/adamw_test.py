"""AdamW against float64 numpy on both stacks, in many fresh sessions."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import plain_session
from numpy_optimizers import Toy, adam, clip_by_stack_norm, difference

from kexue_keras.backend import K, is_tf_keras, keras, tf1
from kexue_keras.optimizers import AdamW

pytestmark = pytest.mark.all_stacks

DECAY = [0.1, 0.0, 0.1]  # the bias is excluded by default


@pytest.mark.parametrize(
    "arguments, reference",
    [
        (dict(weight_decay=0.0), dict()),
        (dict(weight_decay=0.1), dict(weight_decay=DECAY)),
        (dict(weight_decay=0.1, exclude_from_weight_decay="kern"), dict(weight_decay=[0.0, 0.1, 0.1])),
        (
            dict(weight_decay=0.1, beta_1=0.5, beta_2=0.9, epsilon=0.1),
            dict(weight_decay=DECAY, beta_1=0.5, beta_2=0.9, epsilon=0.1),
        ),
        (
            dict(weight_decay=0.1, layer_adaptation=True, exclude_from_layer_adaptation=()),
            dict(weight_decay=DECAY, lamb=True),
        ),
    ],
    ids=["adam", "adamw", "exclude", "hyper-parameters", "lamb"],
)
def test_equals_numpy_also_for_the_embedding(rng, arguments, reference):
    toy, step = Toy(AdamW(0.02, **arguments), rng), adam(0.02, **reference)
    params = toy.start()
    for _ in range(12):
        batch = toy.batch(rng)
        toy.train(batch)
        step(params, toy.gradients(batch))
    assert difference(toy.values(), params) < 1e-6
    assert K.get_value(toy.optimizer.iterations) == 12


def test_without_bias_correction(rng):
    toy = Toy(AdamW(0.02, weight_decay=0.0, bias_correction=False), rng)
    p, batch = toy.start(), toy.batch(rng)
    toy.train(batch)
    expected = [w - 0.02 * 0.1 * g / (np.sqrt(0.001 * g * g) + 1e-6) for w, g in zip(p, toy.gradients(batch))]
    assert difference(toy.values(), expected) < 1e-6


@pytest.mark.parametrize("rate, size", [(1.0, 1.0), (0.01, 0.01)])
def test_the_first_step_is_the_rate(rng, rate, size):
    toy = Toy(AdamW(rate, weight_decay=0.0, epsilon=1e-12), rng)
    toy.train((np.ones((3, 2)), -np.ones(2), np.ones((1, 2)), [3]))
    kernel, bias, table = [new - old for new, old in zip(toy.values(), toy.start())]
    np.testing.assert_allclose(kernel, -size, rtol=2e-5)
    np.testing.assert_allclose(bias, size, rtol=2e-5)
    np.testing.assert_allclose(table, np.outer(np.arange(6) == 3, [-size, -size]), rtol=2e-5)


def test_lamb_step_has_the_rate_as_relative_size(rng):
    toy = Toy(AdamW(0.01, weight_decay=0.0, layer_adaptation=True), rng)
    toy.train(toy.batch(rng))
    kernel, bias = toy.values()[0], toy.values()[1]
    start = toy.start()
    assert np.linalg.norm(kernel - start[0]) / np.linalg.norm(start[0]) == pytest.approx(0.01, rel=1e-4)
    assert np.abs(bias - start[1]) == pytest.approx(0.01, rel=1e-4)  # excluded: plain Adam


def test_decay_alone_multiplies_by_one_minus_rate_times_decay(rng):
    toy = Toy(AdamW(1.0, weight_decay=0.05), rng)
    for power in range(1, 4):
        toy.train((np.zeros((3, 2)), np.zeros(2), np.zeros((0, 2)), np.zeros(0)))
        np.testing.assert_allclose(toy.values()[0], toy.start()[0] * 0.95**power, rtol=1e-6)
        np.testing.assert_array_equal(toy.values()[1], np.float32(toy.start()[1]))


def common_norm(gradients, limit):
    norm = np.sqrt(sum(np.sum(g * g) for g in gradients))
    return [g * limit / max(norm, limit) for g in gradients]


@pytest.mark.parametrize(
    "argument, clip",
    [
        ("clipnorm", clip_by_stack_norm),
        ("global_clipnorm", common_norm),
        ("clipvalue", lambda gradients, limit: [np.clip(g, -limit, limit) for g in gradients]),
    ],
)
def test_clipping(rng, argument, clip):
    toy, step = Toy(AdamW(0.02, weight_decay=0.0, **{argument: 0.7}), rng), adam(0.02)
    params = toy.start()
    for scale in (3.0, 0.05, 1.0):
        batch = toy.batch(rng, scale)
        toy.train(batch)
        step(params, clip(toy.gradients(batch), 0.7))
    assert difference(toy.values(), params) < 1e-6


def test_constraints_hold_after_the_step(rng):
    toy = Toy(AdamW(1.0), rng, constraint=lambda w: tf.maximum(w, 0.0))
    for _ in range(3):
        toy.train(toy.batch(rng))
    assert (toy.values()[0] >= 0).all() and (toy.values()[0] > 0).any()


@pytest.mark.parametrize("depth", [1, 7])
def test_one_trajectory_in_twenty_fresh_sessions(rng, depth):
    widths = [4] * (depth + 1)
    start = [rng.randn(a, b) / 2 for a, b in zip(widths, widths[1:])]
    params = [K.variable(w, name="kernel_%d" % i) for i, w in enumerate(start)]
    x = K.constant(rng.randn(16, 4))
    for p in params:
        x = tf.tanh(K.dot(x, p))
    loss = tf.reduce_mean(tf.square(x - 0.3))
    gradients = K.gradients(loss, params)
    optimizer = AdamW(0.05, weight_decay=0.1)
    op = tf.group(*optimizer.get_updates(loss=loss, params=params))
    initializer = tf1.global_variables_initializer()
    graph, results = tf1.get_default_graph(), []
    for i in range(20):
        # Graph rewriting hides or shows different races.
        with tf1.Session(graph=graph, config=plain_session() if i % 4 else None) as session:
            session.run(initializer)
            for _ in range(4):
                session.run(op)
            results.append(session.run(params))
    with tf1.Session(graph=graph) as session:
        session.run(initializer)
        exact, step = [np.float32(w).astype("float64") for w in start], adam(0.05, weight_decay=[0.1] * depth)
        for _ in range(4):
            for p, w in zip(params, exact):
                p.load(w, session)
            step(exact, session.run(gradients))
    for values in results:
        assert difference(values, results[0]) == 0.0
        assert difference(values, exact) < 2e-6


def test_config_and_weights_round_trip(rng):
    optimizer = AdamW(
        0.02, weight_decay=0.3, layer_adaptation=True, exclude_from_weight_decay="x", clipvalue=2.0, name="a"
    )
    toy = Toy(optimizer, rng)
    batches = [toy.batch(rng) for _ in range(4)]
    for batch in batches[:2]:
        toy.train(batch)
    config, state, weights = optimizer.get_config(), optimizer.get_weights(), toy.values()
    for batch in batches[2:]:
        toy.train(batch)
    other = AdamW.from_config(config)
    assert other.get_config() == config
    assert other.get_weights() == []
    copy = Toy(other, rng)
    K.batch_set_value(list(zip(copy.params, weights)))
    other.set_weights(state)
    for batch in batches[2:]:
        copy.train(batch)
    assert difference(copy.values(), toy.values()) == 0.0


def test_half_precision_parameters(rng):
    kernel = K.variable(np.ones((2, 2)), dtype="float16", name="kernel")
    optimizer = AdamW(0.125, weight_decay=0.0, epsilon=1e-4)
    op = tf.group(*optimizer.get_updates(loss=tf.reduce_sum(kernel), params=[kernel]))
    K.get_value(kernel)
    session = tf1.keras.backend.get_session() if is_tf_keras else K.get_session()
    session.run(op)
    np.testing.assert_allclose(K.get_value(kernel), 0.875, atol=1e-2)


def test_learning_rate_callbacks_reach_it(rng):
    model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    model.compile(AdamW(0.5), "mse")
    x, y = rng.randn(8, 3), np.zeros((8, 1))
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.25 / (1 + epoch))
    model.fit(x, y, epochs=2, verbose=0, callbacks=[schedule])
    assert K.get_value(model.optimizer.lr) == 0.125
    K.set_value(model.optimizer.learning_rate, 0.0)
    before = model.get_weights()
    model.train_on_batch(x, y)
    assert difference(before, model.get_weights()) == 0.0
    model.optimizer.lr = 0.5
    assert K.get_value(model.optimizer.lr) == 0.5 and model.optimizer.get_config()["learning_rate"] == 0.5


@pytest.mark.skipif(not is_tf_keras, reason="Keras 2.3.1 has no schedule objects")
def test_takes_schedule_objects(rng):
    rate = keras.optimizers.schedules.PolynomialDecay(0.5, 4, 0.1)
    toy = Toy(AdamW(rate, weight_decay=0.0), rng)
    params, batch = toy.start(), toy.batch(rng)
    toy.train(batch)
    adam(0.5)(params, toy.gradients(batch))
    assert difference(toy.values(), params) < 1e-6
    assert AdamW.from_config(toy.optimizer.get_config()).get_config() == toy.optimizer.get_config()


@pytest.mark.parametrize(
    "arguments, text",
    [
        (dict(beta_1=1.0), r"AdamW: beta_1 must be a number in \[0, 1\), but is 1.0"),
        (dict(epsilon=0.0), "epsilon must be a number > 0, but is 0.0; 1e-6"),
        (dict(weight_decay=-0.1), "weight_decay must be a number >= 0, but is -0.1"),
        (dict(learning_rate=-1), "learning_rate must be a number >= 0, but is -1"),
        (dict(clipnorm=0), "clipnorm must be a number > 0, but is 0; None is no clipping"),
        (dict(exclude_from_weight_decay=["("]), "exclude_from_weight_decay holds '\\('"),
    ],
)
def test_bad_values_are_named(arguments, text):
    with pytest.raises(ValueError, match=text):
        AdamW(**arguments)


def test_unknown_arguments_raise():
    with pytest.raises(TypeError, match="decay_rate"):
        AdamW(1e-3, decay_rate=1)


def test_a_weight_without_gradient_is_named(rng):
    used, lost = K.variable(1.0, name="used"), K.variable(1.0, name="lost")
    with pytest.raises(ValueError, match="lost"):
        AdamW().get_updates(loss=used * 2.0, params=[used, lost])
