"""Dropout that can be repeated: its mask depends on (seed, number of the layer, step) and nothing else.

TensorFlow's random ops count in memory of their own, which cannot be saved; a run that was stopped and resumed would
draw other masks than the run that was not. The stateless ops take their counter as input.
"""

import contextlib
import itertools

import tensorflow as tf

from kexue_keras.backend import K, keras

STATEFUL = {
    "RandomUniform",
    "RandomUniformInt",
    "RandomStandardNormal",
    "TruncatedNormal",
    "ParameterizedTruncatedNormal",
    "Multinomial",
    "RandomGamma",
    "RandomPoissonV2",
    "RandomShuffle",
}


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

    def take_place(self):
        """The next free number of a place in the graph."""
        return next(self._places)

    def uniform(self, shape, place):
        """float32 in [0, 1); each place in the graph has a sequence of its own.

        Args:
            shape: tuple or int tensor.
            place: int, from `take_place`.
        """
        key = tf.constant(self.seed * 2**20 + place, "int64")
        return tf.random.stateless_uniform(shape, seed=tf.stack([key, tf.cast(self.variable, "int64")]))


@contextlib.contextmanager
def repeatable_dropout(seed):
    """While this context is open, Keras' Dropout layers that are called draw their masks from a `Step`.

    The layers remain Keras' own, so the model is saved and loaded as ever; only the graph built here differs.

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
    layer = keras.layers.Dropout
    original = layer.__dict__["call"]
    step = Step(seed)

    def call(self, inputs, training=None):
        if not 0.0 < self.rate < 1.0:
            return inputs

        # Taken here and not inside: Keras may trace a branch more than once.
        place = step.take_place()

        def dropped():
            keep = step.uniform(_noise_shape(inputs, self.noise_shape), place) >= self.rate
            return inputs * tf.cast(keep, inputs.dtype) * tf.cast(1.0 / (1.0 - self.rate), inputs.dtype)

        return K.in_train_phase(dropped, inputs, training=training)

    layer.call = call
    try:
        yield step
    finally:
        layer.call = original


def _noise_shape(inputs, noise_shape):
    shape = tf.shape(inputs)
    if noise_shape is None:
        return shape
    return tf.stack([shape[i] if n is None else n for i, n in enumerate(noise_shape)])


def stateful_random_ops(tensor):
    """Names of the ops that `tensor` depends on whose random numbers cannot be repeated.

    Args:
        tensor: graph tensor, for instance a model's loss.

    Returns:
        sorted list of str.
    """
    seen, waiting, found = set(), [tensor.op], []
    while waiting:
        op = waiting.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.type in STATEFUL:
            found.append(op.name)
        waiting.extend(x.op for x in op.inputs)
        waiting.extend(op.control_inputs)
    return sorted(found)
