"""Multiplicative steps for weights that have to stay positive.

Article: 指数梯度下降 + 元学习 = 自适应学习率 (kexue.fm/archives/8968). Paper: arXiv 2202.00145.
"""

from typing import Optional, Sequence

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import register, tf1
from kexue_keras.optimizers._adamw import as_patterns, constrained, matches
from kexue_keras.optimizers._base import Optimizer
from kexue_keras.types import Config, Gradients, LearningRate, Op, Variable, Variables


@register
class ExponentiatedGradient(Optimizer):
    r"""Gradient descent that multiplies: theta <- theta exp(-learning_rate g), so that theta stays positive.

    It is gradient descent on phi = log theta without the factor theta of the chain rule. 0 is absorbing, so the
    weights have to start positive: use an initializer such as `RandomUniform(0.1, 1)` or 'ones', no zeros and
    nothing symmetric about 0.

    Args:
        learning_rate: float >= 0; on tf.keras also a `LearningRateSchedule`.
        variables: None for all; or regular expressions for names: the others take plain steps -learning_rate g.
        max_exponent: float > 0, limit of |learning_rate g|, so that one outlier cannot send a weight to infinity.
        name: default "ExponentiatedGradient".

    Raises:
        ValueError: a value outside its range; patterns that fit no trainable variable.
        InvalidArgumentError: in training, if a weight is not positive; the message names it.

    Reference:
        指数梯度下降 + 元学习 = 自适应学习率, kexue.fm/archives/8968; arXiv 2202.00145

    >>> layer = keras.layers.Dense(1, use_bias=False, kernel_initializer='ones', input_shape=(2,))
    >>> model = keras.models.Sequential([layer])
    >>> model.compile(kexue_keras.optimizers.ExponentiatedGradient(0.1), lambda y_true, y_pred: y_pred)
    >>> _ = model.train_on_batch(np.array([[0.5, -1.0]]), np.zeros((1, 1)))
    >>> model.get_weights()[0].ravel().round(4)
    array([0.9512, 1.1052], dtype=float32)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        *,
        variables: Optional[Sequence[str]] = None,
        max_exponent: float = 10.0,
        name: Optional[str] = None,
    ) -> None:
        self.max_exponent = checks.number(max_exponent, "max_exponent", type(self).__name__, above=0)
        super().__init__(learning_rate, name=name)
        self.multiplied = None if variables is None else as_patterns(variables, "variables")

    def multiplies(self, param: Variable) -> bool:
        """Whether this variable takes multiplicative steps."""
        return self.multiplied is None or matches(param, self.multiplied)

    def update(self, gradients: Gradients, params: Variables) -> Op:
        if not any(self.multiplies(p) for p in params):
            raise ValueError(
                "variables=%r fits no trainable variable; there are %s"
                % (list(self.multiplied), ", ".join(p.name for p in params[:8]))
            )
        lr = self.read_learning_rate()
        ops = []
        for g, p in zip(self.densify(gradients, params), params):
            dtype = p.dtype.base_dtype
            step = tf.cast(lr, dtype) * tf.cast(g, dtype)
            if not self.multiplies(p):
                ops.append(constrained(p, p.assign_sub(step, read_value=False)))
                continue
            old = p.read_value()
            positive = tf1.assert_positive(
                old,
                message="ExponentiatedGradient: %s holds a weight <= 0, which can never become positive; start it "
                "with positive values (kernel_initializer='ones'), or leave it out by variables=..." % p.name,
            )
            # A weight that underflows to 0 would never come back.
            least = np.finfo(dtype.as_numpy_dtype).tiny
            with tf.control_dependencies([positive]):
                factor = tf.exp(-tf.clip_by_value(step, -self.max_exponent, self.max_exponent))
                ops.append(constrained(p, p.assign(tf.maximum(old * factor, least), read_value=False)))
        return self.count(ops)

    def get_config(self) -> Config:
        return dict(
            super().get_config(),
            learning_rate=self.learning_rate_config(),
            variables=None if self.multiplied is None else list(self.multiplied),
            max_exponent=self.max_exponent,
        )
