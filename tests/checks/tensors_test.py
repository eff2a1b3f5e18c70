"""The checks of tensors: at once where it is known, by an op where it is not, and always with names and values."""

import warnings

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import get_session, keras, tf1
from kexue_keras.checks import (
    require,
    require_length,
    require_rank,
    require_same_shape,
    static_length,
    warn_if_probabilities,
)


def run(tensor, feed=None):
    return get_session().run(tensor, feed)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_are_found_behind_reshapes_and_casts(activation):
    x = keras.layers.Input((6,))
    y = keras.layers.Reshape((2, 3))(keras.layers.Dense(6, activation=activation, name="classes")(x))
    for tensor in (y, tf.cast(y, tf.float16), tf.identity(y)[:, 0]):
        with pytest.warns(UserWarning, match="Some takes logits, .*%s op 'classes/.*activation='linear'" % activation):
            warn_if_probabilities(tensor, "Some")


def test_logits_are_not_warned_about():
    x = keras.layers.Input((6,))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for tensor in (x, keras.layers.Dense(2)(x), tf.nn.log_softmax(x)):
            warn_if_probabilities(tensor, "Some")
        warn_if_probabilities(np.ones(3), "Some")


def test_require():
    x, ok = tf1.placeholder(tf.float32, [None]), tf.constant(1.0)
    assert require(True, "no", then=ok) is ok
    assert require(np.array([True, True]), "no", then=ok) is ok
    with pytest.raises(ValueError, match="Some: too small 3"):
        require(False, "Some: too small", [3], then=ok)
    with pytest.raises(ValueError, match="Some"):
        require([True, False], "Some: too small", then=ok)
    guarded, pair = require(x > 0, "Some: too 'small'", [x], then=ok), require(x > 0, "Some", then=(ok, x))
    assert run(guarded, {x: [1, 2]}) == 1 and isinstance(pair, tuple)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Some: too `small`\] \[1 -2\]"):
        run(guarded, {x: [1, -2]})
    with pytest.raises(tf.errors.InvalidArgumentError, match="Some"):
        run(pair[1], {x: [-2]})


def test_require_rank():
    with pytest.raises(ValueError, match=r"Some: y_pred \[a, b\] must have 2 axes, but it has 1: shape \(3,\)"):
        require_rank(tf.zeros([3]), 2, "Some", "y_pred [a, b]")
    with pytest.raises(ValueError, match="must have 2 or 3 axes"):
        require_rank(tf.zeros([3]), (2, 3), "Some", "y_pred")
    x = tf1.placeholder(tf.float32)
    two, either = require_rank(x, 2, "Some", "y_pred"), require_rank(x, (2, 3), "Some", "y_pred")
    assert two.shape.rank == 2 and either.shape.rank is None
    assert run(two, {x: [[1]]}) == 1 and run(either, {x: [[[1]]]}) == 1
    for tensor in (two, either):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Some: y_pred must have .*its shape is\] \[1\]"):
            run(tensor, {x: [1]})


def test_require_same_shape():
    a, b, c = tf1.placeholder(tf.float32), tf1.placeholder(tf.float32, [None, 2]), tf.zeros([3, 2])
    with pytest.raises(
        ValueError, match=r"Some: y_true and y_pred must have the same shape.*\(\?, 2\) and \(2, 3\)|None"
    ):
        require_same_shape(b, tf.zeros([2, 3]), "Some")
    assert require_same_shape(c, c, "Some")[0] is c
    for first, second in [(a, c), (b, c), (a, b)]:
        for good, bad in [((3, 2), (1, 2)), ((3, 2), (3, 2, 1))]:
            if first is b and len(bad) == 3:
                continue
            guarded = require_same_shape(first, second, "Some", ("t", "p"))[0]
            feed = {} if second is c else {second: np.ones((3, 2))}
            assert run(guarded, {**feed, first: np.ones(good)}).shape == good
            with pytest.raises(tf.errors.InvalidArgumentError, match="Some: t and p must have the same shape"):
                run(guarded, {**feed, first: np.ones(bad)})


def test_static_length():
    x = tf1.placeholder(tf.float32, [None, 3])
    assert static_length(x, 0) is None and static_length(x, 1) == 3


def test_require_length():
    x, short = tf1.placeholder(tf.float32, [None, None]), tf.zeros([1, 3])
    assert require_length(short, 3, "Some") is short
    with pytest.raises(ValueError, match="Some: a sequence must have at most max_length=2 tokens; .* Its length: 3"):
        require_length(short, 2, "Some")
    assert require_length(short, 1, "Some", axis=0) is short
    guarded = require_length(x, 2, "Some")
    assert run(guarded, {x: [[1, 2]]}).shape == (1, 2) and guarded.shape.rank == 2
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Some: .*max_length=2 tokens.*Its length:\] \[3\]"):
        run(guarded, {x: [[1, 2, 3]]})
