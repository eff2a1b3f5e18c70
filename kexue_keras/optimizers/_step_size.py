"""Step sizes for every coordinate, learned by exponentiated gradient descent while training.

Article: 指数梯度下降 + 元学习 = 自适应学习率 (kexue.fm/archives/8968). Paper: arXiv 2202.00145.
"""

import math
from typing import Optional, Tuple

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import register
from kexue_keras.optimizers._adamw import constrained
from kexue_keras.optimizers._base import Optimizer, Wrapper
from kexue_keras.types import Config, Gradients, KerasOptimizer, LearningRate, Op, Tensor, Variable, Variables


def checked_bounds(bounds, owner):
    """(low, high) as floats with 0 < low <= 1 <= high, or ValueError."""
    try:
        low, high = bounds
    except (TypeError, ValueError):
        raise checks.invalid(owner, "bounds", "a pair such as (0.1, 10.0)", bounds)
    begins = "every gain starts at 1"
    return (
        checks.number(low, "the lower of bounds", owner, above=0, most=1, remedy=begins),
        checks.number(high, "the upper of bounds", owner, least=1, remedy=begins),
    )


def _mean_square(x):
    return tf.reduce_mean(tf.square(x))


def aligned_products(previous, gradient, alignment):
    """How well two successive gradients agree, coordinate by coordinate; 0 where one of them is 0."""
    product = previous * gradient
    if alignment == "sign":
        return tf.sign(previous) * tf.sign(gradient)
    if alignment == "cosine":
        # The mean over the variable is the cosine of the two gradients.
        scale = tf.sqrt(_mean_square(previous)) * tf.sqrt(_mean_square(gradient))
        return tf.math.divide_no_nan(product, scale)
    return product


class _Gains(object):
    """Shared by both forms: logarithms of gains, kept between bounds."""

    def _moved(self, log_gain, rate, products):
        """New logarithm of a gain: a bounded exponent added, the sum kept within the bounds."""
        exponent = tf.clip_by_value(rate * products, -self.max_exponent, self.max_exponent)
        low, high = (math.log(b) for b in self.bounds)
        return tf.clip_by_value(log_gain + exponent, low, high)


@register
class ExponentiatedStepSize(_Gains, Wrapper):
    r"""A learned gain for every coordinate of the step of any optimizer.

    nu_0 = 1;  nu_{t+1} = nu_t exp(gamma g_{t-1} g_t);  theta_{t+1} = theta_t + nu_{t+1} * (step of the optimizer).
    Around plain SGD this is the article's rule: a coordinate whose gradients keep their sign speeds up, one
    whose gradients alternate slows down. The exponent and the gains are bounded, since the plain rule is not
    scale-invariant and overflows after four steps on a parabola of curvature 10. The gain acts on the step, not on the
    gradient, which adaptive optimizers would normalise away. Two more slots: gain and last gradient.

    The derivation fits plain SGD only, and the author has not tested it. Around Adam in pre-training, where
    successive gradients tend to oppose each other, a reader of the article saw the rate collapse: gains then go to
    the lower bound, which is why there is one.

    Args:
        optimizer: instance, of this package, of Keras or of bert4keras; no hidden accumulation.
        gamma: float >= 0, rate at which the logarithms of the gains move; 0 leaves the optimizer as it is.
        bounds: (low, high), limits of the gains, around 1.
        max_exponent: float > 0, most that the logarithm of a gain moves in one step.
        alignment: what gamma multiplies: 'raw', the product of the gradients as in the article (depends on the
            scale of the loss); 'sign', its sign; 'cosine', the product divided by the root mean squares of both
            gradients of the variable.
        name: default "ExponentiatedStepSize".

    Raises:
        ValueError: a value outside its range, or an optimizer that does not update at every step.

    Reference:
        指数梯度下降 + 元学习 = 自适应学习率, kexue.fm/archives/8968; arXiv 2202.00145

    >>> optimizer = kexue_keras.optimizers.ExponentiatedStepSize(keras.optimizers.SGD(0.01), gamma=0.01)
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(optimizer, 'mse')
    >>> loss = model.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    """

    def __init__(
        self,
        optimizer: KerasOptimizer,
        *,
        gamma: float = 1e-3,
        bounds: Tuple[float, float] = (0.1, 10.0),
        max_exponent: float = 1.0,
        alignment: str = "raw",
        name: Optional[str] = None,
    ) -> None:
        owner = type(self).__name__
        self.gamma = checks.number(gamma, "gamma", owner, least=0, remedy="with 0 gains stay 1")
        self.bounds = checked_bounds(bounds, owner)
        self.max_exponent = checks.number(max_exponent, "max_exponent", owner, above=0)
        self.alignment = checks.choice(alignment, ("raw", "sign", "cosine"), "alignment", owner)
        super().__init__(optimizer, name=name)
        if not self.always_updates:
            raise ValueError(
                "%s around %s, which does not update at every step, would compare gradients of micro batches; use "
                "GradientAccumulation(ExponentiatedStepSize(...), k)" % (type(self).__name__, type(optimizer).__name__)
            )

    def gain(self, param: Variable) -> Tensor:
        """Float tensor: the current gain of every coordinate of `param`."""
        return tf.exp(self.state("log_gain", param).read_value())

    def create_state(self, params: Variables) -> None:
        for p in params:
            dtype = "float32" if p.dtype.base_dtype == tf.float16 else None
            self.add_state("log_gain", p, dtype=dtype)
            self.add_state("previous", p, dtype=dtype)

    def update(self, gradients: Gradients, params: Variables) -> Op:
        log_gains, kept = {}, []
        for g, p in zip(self.densify(gradients, params), params):
            log_gain, previous = self.state("log_gain", p), self.state("previous", p)
            g = tf.cast(g, previous.dtype.base_dtype)
            new = self._moved(
                log_gain.read_value(), self.gamma, aligned_products(previous.read_value(), g, self.alignment)
            )
            log_gains[id(p)] = new
            with tf.control_dependencies([new]):
                kept += [log_gain.assign(new, read_value=False), previous.assign(g, read_value=False)]
        step = self.transform_step(gradients, params, lambda p, s: s * tf.cast(tf.exp(log_gains[id(p)]), s.dtype))
        return tf.group(step, *kept)

    def get_config(self) -> Config:
        return dict(
            super().get_config(),
            gamma=self.gamma,
            bounds=list(self.bounds),
            max_exponent=self.max_exponent,
            alignment=self.alignment,
        )


@register
class ExponentiatedStepSizeMomentum(_Gains, Optimizer):
    r"""Experimental: gradient descent with momentum, a learned gain for every coordinate and one for the whole model.

    p_t = p_{t-1} exp(gamma_p m_{t-1} g_t);  s_t = s_{t-1} exp(gamma_s <h_{t-1}, g_t>), over all variables;
    m_t = beta_1 m_{t-1} + (1 - beta_1) g_t;  h_t = momentum h_{t-1} + learning_rate p_t g_t;  theta -= s_t h_t.
    Written from a secondary description of arXiv 2202.00145, which the article simplifies; not compared with the
    authors' code.

    Args:
        learning_rate: float >= 0; on tf.keras also a `LearningRateSchedule`.
        momentum: in [0, 1), of the step h.
        beta_1: in [0, 1), of the average m that the gradient is compared with.
        gamma_p, gamma_s: floats >= 0, rates of the logarithms of p and s; both 0: momentum as in Polyak's heavy ball.
        bounds: (low, high), limits of p and of s.
        max_exponent: float > 0, most that a logarithm moves in one step.
        name: default "ExponentiatedStepSizeMomentum".

    Raises:
        ValueError: a value outside its range.

    Reference:
        指数梯度下降 + 元学习 = 自适应学习率, kexue.fm/archives/8968; arXiv 2202.00145 (unverified)

    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(kexue_keras.optimizers.ExponentiatedStepSizeMomentum(0.01), 'mse')
    >>> loss = model.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.01,
        *,
        momentum: float = 0.9,
        beta_1: float = 0.9,
        gamma_p: float = 1e-3,
        gamma_s: float = 1e-3,
        bounds: Tuple[float, float] = (0.1, 10.0),
        max_exponent: float = 1.0,
        name: Optional[str] = None,
    ) -> None:
        owner = type(self).__name__
        self.momentum = checks.number(momentum, "momentum", owner, least=0, below=1)
        self.beta_1 = checks.number(beta_1, "beta_1", owner, least=0, below=1)
        self.gamma_p = checks.number(gamma_p, "gamma_p", owner, least=0, remedy="with 0 gains stay 1")
        self.gamma_s = checks.number(gamma_s, "gamma_s", owner, least=0, remedy="with 0 gains stay 1")
        self.bounds = checked_bounds(bounds, owner)
        self.max_exponent = checks.number(max_exponent, "max_exponent", owner, above=0)
        super().__init__(learning_rate, name=name)

    def create_state(self, params: Variables) -> None:
        self.add_state("log_scale")
        for p in params:
            for label in ("log_gain", "m", "h"):
                self.add_state(label, p)

    def update(self, gradients: Gradients, params: Variables) -> Op:
        lr = self.read_learning_rate()
        gradients = [tf.cast(g, p.dtype.base_dtype) for g, p in zip(self.densify(gradients, params), params)]
        old = {label: [self.state(label, p).read_value() for p in params] for label in ("log_gain", "m", "h")}
        inner = tf.add_n([tf.reduce_sum(tf.cast(h * g, tf.float32)) for h, g in zip(old["h"], gradients)])
        log_scale = self._moved(self.state("log_scale").read_value(), self.gamma_s, inner)
        values = []
        for g, log_gain, m, h in zip(gradients, old["log_gain"], old["m"], old["h"]):
            log_gain = self._moved(log_gain, self.gamma_p, m * g)
            h = self.momentum * h + tf.cast(lr, g.dtype) * tf.exp(log_gain) * g
            values.append((log_gain, self.beta_1 * m + (1 - self.beta_1) * g, h))
        # Every new value before any assignment: all of them read slots that are about to change.
        with tf.control_dependencies([log_scale] + [x for new in values for x in new]):
            ops = [self.state("log_scale").assign(log_scale, read_value=False)]
            for p, (log_gain, m, h) in zip(params, values):
                for label, new in (("log_gain", log_gain), ("m", m), ("h", h)):
                    ops.append(self.state(label, p).assign(new, read_value=False))
                step = tf.cast(tf.exp(log_scale), h.dtype) * h
                ops.append(constrained(p, p.assign_sub(step, read_value=False)))
        return self.count(ops)

    def get_config(self) -> Config:
        return dict(
            super().get_config(),
            learning_rate=self.learning_rate_config(),
            momentum=self.momentum,
            beta_1=self.beta_1,
            gamma_p=self.gamma_p,
            gamma_s=self.gamma_s,
            bounds=list(self.bounds),
            max_exponent=self.max_exponent,
        )
