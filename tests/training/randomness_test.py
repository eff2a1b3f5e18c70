"""Dropout that repeats by step, and dropout that repeats within a step."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import K, get_session, keras
from kexue_keras.training._randomness import (
    fold_in,
    repeatable_dropout,
    replayed_dropout,
    stateful_random_ops,
    step_key,
    uniform,
)


def test_dropout_depends_on_seed_place_and_step_alone():
    with repeatable_dropout(3) as step:
        x = keras.layers.Input((400,))
        first = keras.layers.Dropout(0.25)(x)
        second = keras.layers.Dropout(0.25, noise_shape=(None, 1))(x)
        model = keras.models.Model(x, [first, second])
    assert keras.layers.Dropout.call is not None and "repeatable" not in keras.layers.Dropout.call.__qualname__
    assert stateful_random_ops(model.outputs[0]) == []
    ones = np.ones((50, 400), "float32")

    def draw(at):
        step.set(at)
        feed = {model.inputs[0]: ones}
        phase = K.learning_phase()
        if not isinstance(phase, int):
            feed[phase] = 1
        return get_session().run(model.outputs, feed)

    (a, rows), (b, _), (again, _) = draw(1), draw(2), draw(1)
    assert np.array_equal(a, again)
    assert (a != b).mean() > 0.2
    assert abs((a == 0).mean() - 0.25) < 0.02
    assert np.allclose(a[a != 0], 1 / 0.75)
    assert all(len(set(row)) == 1 for row in rows)
    assert np.array_equal(model.predict(ones)[0], ones)


def test_stateful_dropout_is_found():
    x = keras.layers.Input((4,))
    assert stateful_random_ops(keras.layers.Dropout(0.5)(x))


def test_the_class_is_restored_after_an_error():
    before = keras.layers.Dropout.call
    with pytest.raises(RuntimeError):
        with repeatable_dropout(1):
            raise RuntimeError
    assert keras.layers.Dropout.call is before


def test_replayed_masks_are_equal_within_a_run_and_differ_between_runs():
    key = step_key()
    ones = tf.ones([40, 50])

    def drop(key):
        with replayed_dropout(key):
            return [keras.layers.Dropout(0.5)(ones, training=True) for _ in range(2)]

    again = get_session().run([drop(key), drop(key), drop(fold_in(key, 1))])
    (a, b), (c, d), (other, _) = again
    assert np.array_equal(a, c) and np.array_equal(b, d)
    for x, y in ((a, b), (a, other)):
        assert 0.4 < (x != y).mean() < 0.6
    assert (get_session().run(drop(key))[0] != a).any()


def test_the_key_is_drawn_once_a_run_also_from_inside_a_loop():
    def body(i, keys):
        return i + 1, keys.write(i, step_key() * 0 + key)

    key = step_key()
    array = tf.TensorArray("int64", 3, element_shape=[2])
    loop = tf.while_loop(lambda i, _: i < 3, body, (0, array))[1].stack()
    outside, inside = get_session().run([key, loop])
    assert (inside == outside).all()


def test_the_key_of_a_step_is_that_of_the_open_context():
    with repeatable_dropout(5) as step:
        key = step_key()
        with replayed_dropout(fold_in(key, 3)):
            first = keras.layers.Dropout(0.5)(tf.ones([30]), training=True)
    runs = []
    for at in (1, 2, 1):
        step.set(at)
        runs.append(get_session().run(first))
    assert np.array_equal(runs[0], runs[2]) and (runs[0] != runs[1]).any()


def test_keys_and_places_give_unrelated_numbers():
    key = tf.constant([3, 4], "int64")
    draws = [uniform([4000], key, place) for place in range(3)]
    draws += [uniform([4000], fold_in(key, n)) for n in range(3)]
    values = np.array(get_session().run(draws))
    assert ((0 <= values) & (values < 1)).all()
    assert (abs(np.corrcoef(values) - np.eye(6)) < 0.08).all()
    assert (abs(values.mean(axis=1) - 0.5) < 0.03).all()
