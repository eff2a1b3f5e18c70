"""Lookahead: every few steps the weights move part of the way back to where they were.

Paper: arXiv 1907.08610. No article of its own: it is bert4keras' `extend_with_lookahead`, fixed (there the slow
weights start at zero, so that the first synchronisation pulls all weights towards zero).
"""

from typing import Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, register
from kexue_keras.optimizers._base import Wrapper
from kexue_keras.types import Config, Gradients, KerasOptimizer, Op, Variables


@register
class Lookahead(Wrapper):
    r"""Slow weights that follow the fast ones: after every `steps` updates slow += slow_step (p - slow), p = slow.

    The slow weights start as a copy of the weights before the first update, so set or load the weights before
    training; after loading others into a model that has already been trained, call `reset()`. They are saved with the
    optimizer. Counts real updates. A weight that is trained later than others (unfrozen, or of another model) starts
    from a copy of its value at that moment.

    Args:
        optimizer: instance, of this package, of Keras or of bert4keras.
        steps: updates between two synchronisations, >= 1.
        slow_step: how far the slow weights go, in (0, 1]; 1 changes nothing.
        name: default "Lookahead".

    Raises:
        ValueError: a value outside its range.

    Reference: Lookahead Optimizer: k steps forward, 1 step back (arXiv 1907.08610).

    >>> from kexue_keras.optimizers import AdamW, Lookahead
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(Lookahead(AdamW(1e-3), steps=5, slow_step=0.5), 'mse')
    >>> loss = model.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    """

    def __init__(
        self, optimizer: KerasOptimizer, *, steps: int = 5, slow_step: float = 0.5, name: Optional[str] = None
    ) -> None:
        self.steps = checks.whole_number(steps, "steps", type(self).__name__, least=1)
        slow_step = checks.number(slow_step, "slow_step", type(self).__name__, above=0, most=1)
        super().__init__(optimizer, name=name)
        self.slow_step = slow_step

    def create_state(self, params: Variables) -> None:
        self.add_state("count", dtype="int64")
        for p in params:
            self.add_state("slow", p)
        self.admit(params, self.state("count"))

    def update(self, gradients: Gradients, params: Variables) -> Op:
        counter = self.state("count")
        slow = [self.state("slow", p) for p in params]
        count = tf.identity(counter)
        new = tf.equal(self.arrivals.ages(params, count), 0)

        def copy():
            is_new = tf.unstack(new, num=len(params))
            values = [tf.where(n, p.read_value(), s.read_value()) for n, s, p in zip(is_new, slow, params)]
            return tf.group(*[s.assign(value, read_value=False) for s, value in zip(slow, values)])

        begin = tf.cond(tf.reduce_any(new), copy, tf.no_op)

        def exchange():
            ops = []
            for s, p in zip(slow, params):
                new = s.read_value() + self.slow_step * (p.read_value() - s.read_value())
                if getattr(p, "constraint", None) is not None:
                    new = p.constraint(new)
                with tf.control_dependencies([new]):
                    ops += [s.assign(new, read_value=False), p.assign(new, read_value=False)]
            return tf.group(*ops)

        def then():
            due = tf.equal(tf.math.floormod(count + 1, self.steps), 0)
            done = tf.cond(due, exchange, tf.no_op)
            with tf.control_dependencies([done]):
                return [counter.assign(count + 1, read_value=False)]

        with tf.control_dependencies([begin]):
            return self.after_update(gradients, params, then)

    def reset(self) -> None:
        """Let the slow weights start again as a copy of the current ones."""
        if self._built:
            K.set_value(self.state("count"), 0)
            self.arrivals.reset()

    def get_config(self) -> Config:
        return dict(super().get_config(), steps=self.steps, slow_step=self.slow_step)
