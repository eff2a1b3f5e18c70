"""Dropout that can be repeated: its mask depends on (seed, number of the layer, step) and nothing else.

TensorFlow's random ops keep their own counters, which cannot be saved; a run that was stopped and resumed would
draw different masks from one that was not. The stateless ops take their counter as input.
"""

import contextlib
import functools
import itertools

import numpy as np
import tensorflow as tf

from kexue_keras.backend import K, keras
from kexue_keras.backend.graph import STATEFUL_RANDOM, reached


class Step(object):
    """The counter that random numbers depend on, a variable outside the model.

    Args:
        seed: int.
    """

    def __init__(self, seed):
        self.seed = seed % 2**31
        self.variable = K.variable(0, dtype="int64", name="random_step")
        self._places = itertools.count()

    def set(self, step):
        """Say which step the next one is."""
        K.set_value(self.variable, step)

    @property
    def key(self):
        """The key of this step: int64 tensor [2]."""
        return tf.stack([tf.constant(self.seed * 2**20, "int64"), tf.cast(self.variable, "int64")])

    def take_place(self):
        """The next free number of a place in the graph."""
        return next(self._places)

    def uniform(self, shape, place):
        """float32 in [0, 1); each place in the graph has its own sequence.

        Args:
            shape: tuple or int tensor.
            place: int, from `take_place`.
        """
        return uniform(shape, self.key, place)


def uniform(shape, key, place=0):
    """float32 in [0, 1) that depends on the arguments alone.

    Args:
        shape: tuple or int tensor.
        key: int64 tensor [2].
        place: int, one number for each use of a key.
    """
    return tf.random.stateless_uniform(shape, seed=key + tf.constant([place, 0], "int64"))


def fold_in(key, number):
    """Another key, made of `key` and a number (a layer's, a chunk's).

    Args:
        key: int64 tensor [2].
        number: int, or int tensor without axes.

    Returns:
        int64 tensor [2].
    """
    number = tf.cast(number, "int64")
    return tf.random.stateless_uniform(
        [2], seed=key + tf.stack([number, number + 1]), minval=0, maxval=2**62, dtype="int64"
    )


class _Replay(object):
    """What an open `replayed_dropout` counts and draws with."""

    def __init__(self, key):
        self.key = key
        self._places = itertools.count()

    def take_place(self):
        return next(self._places)

    def uniform(self, shape, place):
        return uniform(shape, self.key, place)


# The `Step` or `_Replay` of each open context, the innermost last.
_steps = []


def step_key():
    """The key of the running step, the same wherever it is used in one `session.run`.

    While a `repeatable_dropout` is open, it is the key of its `Step`; in a `replayed_dropout` it is the key of that, so
    that what replays within something replayed (a recomputed layer in a gradient cache) is replayed with it. Otherwise
    it is drawn anew in each run, outside of any tf.cond or tf.while_loop, from TensorFlow's generator (which
    `set_seed` seeds).

    Returns:
        int64 tensor [2].
    """
    with tf.control_dependencies(None):
        if _steps:
            return _steps[-1].key
        return tf.random.uniform([2], minval=0, maxval=2**62, dtype="int64")


def own_key():
    """A key that no other call of this function gets in a step, made of `step_key`; it repeats where dropout does.

    Returns:
        int64 tensor [2].
    """
    return fold_in(step_key(), _steps[-1].take_place()) if _steps else step_key()


@contextlib.contextmanager
def replayed_dropout(key):
    """While this context is open, Keras' Dropout layers that are called draw masks that depend on `key` alone.

    Their places are counted from 0, so that the same layers called in the same order in a second such context get the
    same masks: in the second run of a recomputed layer, in both passes of a gradient cache, in an attack and the step
    after it.

    Args:
        key: int64 tensor [2], `fold_in(step_key(), number)` for instance.

    >>> key = step_key()
    >>> x = keras.layers.Input((50,))
    >>> def dropped():
    ...     with replayed_dropout(key):
    ...         return keras.layers.Dropout(.5)(x)
    >>> first, second = K.function([x, K.learning_phase()], [dropped(), dropped()])([np.ones((1, 50)), 1])
    >>> bool((first == second).all()), bool((first == 1).all())
    (True, False)
    """
    replay = _Replay(key)
    _steps.append(replay)
    try:
        with _dropout_drawn_by(replay.take_place, replay.uniform):
            yield
    finally:
        _steps.remove(replay)


@contextlib.contextmanager
def repeatable_dropout(seed):
    """While this context is open, Keras' Dropout layers that are called draw their masks from a `Step`.

    The layers remain Keras' own, so the model is saved and loaded as usual; only the graph built here differs.

    Args:
        seed: int.

    Yields:
        `Step`; call its `set` before every training step.

    >>> with repeatable_dropout(1) as step:
    ...     x = keras.layers.Input((50,))
    ...     model = keras.models.Model(x, keras.layers.Dropout(.5)(x))
    >>> draw = K.function([x, K.learning_phase()], [model.output])
    >>> step.set(3)
    >>> first, second = (draw([np.ones((1, 50)), 1])[0] for _ in range(2))
    >>> step.set(4)
    >>> bool((first == second).all()), bool((first == draw([np.ones((1, 50)), 1])[0]).all())
    (True, False)
    """
    step = Step(seed)
    with drawn_from(step):
        yield step


@contextlib.contextmanager
def drawn_from(step):
    """`repeatable_dropout` once more, for what is added to a model that was built in one.

    Args:
        step: the `Step` of that one; places go on from its last.
    """
    _steps.append(step)
    try:
        with _dropout_drawn_by(step.take_place, step.uniform):
            yield
    finally:
        _steps.remove(step)


@contextlib.contextmanager
def _dropout_drawn_by(take_place, draw):
    layer = keras.layers.Dropout
    original = layer.__dict__["call"]

    def call(self, inputs, training=None):
        if not 0.0 < self.rate < 1.0:
            return inputs

        # Taken here and not inside: Keras may trace a branch more than once.
        place = take_place()

        def dropped():
            shape = _noise_shape(inputs, self._get_noise_shape(inputs))
            return inputs * _mask(draw(shape, place), self.rate, inputs.dtype)

        return K.in_train_phase(dropped, inputs, training=training)

    layer.call = call
    try:
        yield
    finally:
        layer.call = original


def _mask(uniform, rate, dtype):
    # A floor, since a comparison and the cast of its result take half as long as all the rest.
    return tf.cast(tf.floor(uniform + (1.0 - rate)) * (1.0 / (1.0 - rate)), dtype)


def _noise_shape(inputs, noise_shape):
    if noise_shape is None:
        return tf.shape(inputs)
    return tf.stack(noise_shape) if isinstance(noise_shape, (list, tuple)) else noise_shape


def dropout_mask(x, rate, training=None):
    """What a Dropout layer multiplies its input by: 0 or 1 / (1 - rate) in training, 1 otherwise.

    Drawn as the open `replayed_dropout` or `repeatable_dropout` says, anew in each run where there is none.

    Args:
        x: floating tensor, the input.
        rate: float in (0, 1).
        training: bool, scalar tensor, or None for Keras' learning phase.

    Returns:
        tensor of the shape and dtype of `x`; one number of as many axes where nothing is dropped.
    """
    if _steps:
        draw = functools.partial(_steps[-1].uniform, place=_steps[-1].take_place())
    else:
        # As Keras does it: numpy's seed decides as well.
        draw = functools.partial(tf.random.uniform, seed=np.random.randint(10**7))

    def drawn():
        # The shape in here: behind the condition it would not follow from the shapes of a model's inputs.
        return _mask(draw(tf.shape(x)), rate, x.dtype)

    # As many axes, so that the shape of the product follows from the shapes.
    return K.in_train_phase(drawn, lambda: tf.ones([1] * (x.shape.ndims or 0), x.dtype), training=training)


def stateful_random_ops(tensor, *, stop=()):
    """Names of the ops that `tensor` depends on whose random numbers cannot be repeated.

    Args:
        tensor: graph tensor, for instance a model's loss.
        stop: tensors behind which the search stops.

    Returns:
        sorted list of str.
    """
    known = {x.op for x in stop}
    ops = reached([tensor], enter=lambda op: op not in known)
    return sorted(op.name for op in ops if op.type in STATEFUL_RANDOM)


def dropout_is_repeatable():
    """Whether a `repeatable_dropout` or `replayed_dropout` is open."""
    return bool(_steps)
