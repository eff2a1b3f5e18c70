"""How an optimizer looks to Keras 2.3.1 (`get_updates`), and how one of Keras' own is made to take given gradients.

The counterpart for tf.keras is `tf_keras_adapter.py`; both offer the same names, and `base.py` takes one of them.
"""

from typing import List, Optional, Union

import tensorflow as tf

from kexue_keras.backend import K, keras
from kexue_keras.optimizers import _gradients as grads
from kexue_keras.optimizers._patching import replaced
from kexue_keras.types import Config, Gradients, LearningRate, Op, Tensor, Variable, Variables

KerasOptimizer = keras.optimizers.Optimizer
# What `clipnorm` means on this stack: one norm over all gradients.
clip_by_norm = grads.clip_by_global_norm


class StackOptimizer(KerasOptimizer):
    """The Keras 2.3.1 side: `get_updates` computes raw gradients and hands them to `train`."""

    def __init__(self, name: Optional[str] = None) -> None:
        super().__init__()
        self.name = name or type(self).__name__
        self._iterations = None

    def make_learning_rate(self, value: LearningRate) -> None:
        with K.name_scope(type(self).__name__):
            self._learning_rate = K.variable(value, name="learning_rate")

    def read_learning_rate(self) -> Tensor:
        """The rate of this step, a float32 scalar."""
        return tf.identity(self._learning_rate)

    def learning_rate_config(self) -> Union[float, Config]:
        """The rate as `get_config` stores it."""
        return float(K.get_value(self._learning_rate))

    @property
    def learning_rate(self) -> Union[Variable, LearningRate]:
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        K.set_value(self._learning_rate, value)

    @property
    def lr(self) -> Union[Variable, LearningRate]:
        return self.learning_rate

    @lr.setter
    def lr(self, value: LearningRate) -> None:
        self.learning_rate = value

    @property
    def iterations(self) -> Variable:
        if self._iterations is None:
            with tf.init_scope(), K.name_scope(type(self).__name__):
                self._iterations = K.variable(0, dtype="int64", name="iterations")
        return self._iterations

    def get_gradients(self, loss: Tensor, params: Variables) -> Gradients:
        params = grads.listed(params)
        gradients = K.gradients(loss, params)
        lost = [p.name for p, g in zip(params, gradients) if g is None]
        if lost:
            raise ValueError(
                "the loss does not depend on %s (their gradient is None); freeze them (layer.trainable = False), "
                "or look for an operation without a gradient (argmax, round) between them and the loss"
                % ", ".join(lost)
            )
        return gradients

    @K.symbolic
    def get_updates(self, loss: Tensor, params: Variables) -> List[Op]:
        self.updates = [self.train(self.get_gradients(loss, params), list(params))]
        return self.updates

    def get_config(self) -> Config:
        return {"name": self.name}


def prepare(optimizer, params):
    """Nothing to do: Keras 2.3.1 makes slots inside `get_updates`, lifted out of any tf.cond by `init_scope`."""


def apply(optimizer, gradients, params):
    """Op that runs one step of a foreign optimizer with these gradients.

    Its `get_updates` runs with `K.gradients` answering `gradients`, so that its own clipping acts on them.
    The step counter, which Keras increments in a race with its readers, is incremented last; pairs
    (variable, value), which Keras assigns whenever it likes, after all that reads the variable. Called again
    for the same parameters (flush), it gets the variables of the first call instead of new ones.
    """
    if getattr(optimizer, "clipvalue", None):
        # Keras would clip a row that is named twice as two entries of the gradient.
        gradients = [grads.unique(g) if grads.is_sparse(g) else g for g in gradients]
    bumps, made = [], []
    recorded = optimizer.__dict__.setdefault("_variables_by_params", {})
    key = tuple(id(p) for p in params)
    again = iter(recorded[key]) if key in recorded else None

    def bump_later(function):
        def patched(x, increment):
            if x is not optimizer.iterations:
                return before[function](x, increment)
            bumps.append((before[function], x, increment))
            return tf.identity(x)

        return patched

    def make_once(function):
        def patched(value, dtype=None, name=None, **kwargs):
            if again is not None:
                made.append(next(again, None))
                if made[-1] is None:
                    raise RuntimeError(
                        "%s makes more variables when its update is built a second time for the same weights, so its "
                        "state would be split; flush() and compiling it twice do not work with it"
                        % type(optimizer).__name__
                    )
                return made[-1]
            if isinstance(value, tf.Tensor) and function == "zeros":
                value = tuple(tf.get_static_value(value))
            with tf.init_scope():
                made.append(before[function](value, dtype=dtype, name=name, **kwargs))
            return made[-1]

        return patched

    def read_outside(variables):
        # bert4keras' moving average reads weights while it builds, which must not add ops to a tf.cond.
        with tf.init_scope():
            return before["batch_get_value"](variables)

    with replaced() as before:
        names = dict(
            batch_get_value=read_outside,
            gradients=lambda loss, variables: list(gradients),
            update=bump_later("update"),
            update_add=bump_later("update_add"),
            update_sub=bump_later("update_sub"),
            zeros=make_once("zeros"),
            variable=make_once("variable"),
        )
        with replaced(**names):
            updates = optimizer.get_updates(loss=None, params=params)
    # Held with the parameters: an id alone may come back for another object.
    recorded[key] = made
    optimizer.__dict__.setdefault("_params_seen", []).append(params)
    ops = [u for u in updates if not isinstance(u, tuple)]
    with tf.control_dependencies(ops):
        ops = ops + [K.update(x, value) for x, value in (u for u in updates if isinstance(u, tuple))]
    with tf.control_dependencies([tf.group(*ops)]):
        return tf.group(*[function(x, by) for function, x, by in bumps])
