"""AdamW with a step counter that is not a race, decoupled decay with exclusions, and LAMB's layer adaptation.

Papers: Adam (arXiv 1412.6980), AdamW (arXiv 1711.05101), LAMB (arXiv 1904.00962). No article of its own: these are
bert4keras' optimizers, fixed.
"""

import collections
import re
from typing import Optional, Sequence

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import register
from kexue_keras.optimizers import _gradients as grads
from kexue_keras.optimizers._base import Optimizer
from kexue_keras.optimizers._inner import adapter
from kexue_keras.types import Config, Gradients, LearningRate, Op, Variable, Variables


def as_patterns(patterns, argument):
    """A tuple of regular expressions from a string, a list or None; ValueError where one does not compile."""
    patterns = (patterns,) if isinstance(patterns, str) else tuple(patterns or ())
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(
                "%s holds %r, which is no regular expression (%s); give parts of variable names such as 'bias'"
                % (argument, pattern, error)
            )
    return patterns


def matches(variable, patterns):
    """True if one of the patterns is found in the name of the variable."""
    return any(re.search(pattern, variable.name) for pattern in patterns)


def complement(beta):
    """1 - beta with beta as float32 sees it: the share of a new value in a float32 average."""
    return 1.0 - float(np.float32(beta))


def bias_corrections(step, *betas):
    """1 - beta^step for each beta, float64, with beta as float32 sees it.

    The moments decay by a float32 beta; with the power of the float64 beta the first step of beta = 0.999 would be
    off by 2e-5, and with a float32 power later ones by 1e-5.
    """
    step = tf.cast(step, tf.float64)
    return [1.0 - tf.pow(tf.constant(1.0 - complement(b), tf.float64), step) for b in betas]


def layer_ratio(param, direction):
    """LAMB's trust ratio |p| / |direction|, 1 where one of them is 0."""
    of = tf.norm(tf.cast(tf.convert_to_tensor(param), tf.float32))
    by = tf.norm(tf.cast(direction, tf.float32))
    return tf.where(tf.logical_and(of > 0, by > 0), of / tf.maximum(by, 1e-30), tf.ones_like(of))


def constrained(param, op):
    """`op`, followed by the constraint of the parameter if it has one."""
    if getattr(param, "constraint", None) is None:
        return op
    with tf.control_dependencies([op]):
        return param.assign(param.constraint(param.read_value()), read_value=False)


# What one update needs in one dtype. `own`: for each parameter both corrections, the rate, epsilon.
_Numbers = collections.namedtuple("_Numbers", "lr decay betas zero one own")


@register
class AdamW(Optimizer):
    r"""Adam with decoupled weight decay; with `layer_adaptation=True`, LAMB.

    m = beta_1 m + (1 - beta_1) g;  v = beta_2 v + (1 - beta_2) g^2;
    r = (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon) + weight_decay p;  p -= lr ratio r,
    with ratio = |p| / |r| per variable under layer adaptation and 1 otherwise. The counter t is read once and
    incremented after everything else, so every run takes the same steps, on all stacks; Keras 2.3.1's own Adam reads
    it in a race. An embedding's sparse gradient is treated as the dense gradient that it stands for.

    Args:
        learning_rate: float >= 0; on tf.keras also a `LearningRateSchedule`.
        beta_1, beta_2: decay of both averages, in [0, 1).
        epsilon: float > 0, added outside the root.
        weight_decay: float >= 0; each update takes lr * weight_decay of the weight away. 0 gives Adam.
        exclude_from_weight_decay: regular expressions; variables in whose name one is found do not decay.
        bias_correction: False leaves out both 1 - beta^t.
        layer_adaptation: LAMB's trust ratio.
        exclude_from_layer_adaptation: regular expressions, as above.
        clipnorm: limit of the gradient norm in the sense of the stack: of all gradients together in Keras 2.3.1,
            of each separately in tf.keras.
        global_clipnorm: limit of the norm of all gradients together, on all stacks.
        clipvalue: limit of each entry.
        name: default "AdamW".

    Raises:
        ValueError: a value outside its range, or a pattern that does not compile.

    Reference:
        Decoupled Weight Decay Regularization (arXiv 1711.05101), Large Batch Optimization for Deep Learning
        (arXiv 1904.00962).

    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(kexue_keras.optimizers.AdamW(2e-5, weight_decay=0.01), 'mse')
    >>> loss = model.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    >>> int(K.get_value(model.optimizer.iterations))
    1
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        *,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-6,
        weight_decay: float = 0.01,
        exclude_from_weight_decay: Sequence[str] = ("bias", "[Nn]orm"),
        bias_correction: bool = True,
        layer_adaptation: bool = False,
        exclude_from_layer_adaptation: Sequence[str] = ("bias", "[Nn]orm"),
        clipnorm: Optional[float] = None,
        global_clipnorm: Optional[float] = None,
        clipvalue: Optional[float] = None,
        name: Optional[str] = None,
    ) -> None:
        owner = type(self).__name__
        self.beta_1 = checks.number(beta_1, "beta_1", owner, least=0, below=1)
        self.beta_2 = checks.number(beta_2, "beta_2", owner, least=0, below=1)
        self.epsilon = checks.number(epsilon, "epsilon", owner, above=0, remedy="1e-6 is usual")
        self.weight_decay = checks.number(weight_decay, "weight_decay", owner, least=0)
        for label, limit in (("clipnorm", clipnorm), ("global_clipnorm", global_clipnorm), ("clipvalue", clipvalue)):
            if limit is not None:
                checks.number(limit, label, owner, above=0, remedy="None is no clipping")
        super().__init__(learning_rate, name=name)
        self.exclude_from_weight_decay = as_patterns(exclude_from_weight_decay, "exclude_from_weight_decay")
        self.bias_correction = bool(bias_correction)
        self.layer_adaptation = bool(layer_adaptation)
        self.exclude_from_layer_adaptation = as_patterns(exclude_from_layer_adaptation, "exclude_from_layer_adaptation")
        self.clip_limits = {"clipnorm": clipnorm, "global_clipnorm": global_clipnorm, "clipvalue": clipvalue}

    def create_state(self, params: Variables) -> None:
        for p in params:
            self.add_state("m", p)
            self.add_state("v", p)
        self.admit(params, self.iterations, keep_age=True)

    def decays(self, param: Variable) -> bool:
        """Whether this variable decays."""
        return self.weight_decay > 0 and not matches(param, self.exclude_from_weight_decay)

    def adapts(self, param: Variable) -> bool:
        """Whether this variable takes LAMB's ratio."""
        return self.layer_adaptation and not matches(param, self.exclude_from_layer_adaptation)

    def clipped(self, gradients: Gradients) -> Gradients:
        """The gradients after all limits, in the order norm, common norm, value."""
        if self.clip_limits["clipnorm"]:
            gradients = adapter.clip_by_norm(gradients, self.clip_limits["clipnorm"])
        if self.clip_limits["global_clipnorm"]:
            gradients = grads.clip_by_global_norm(gradients, self.clip_limits["global_clipnorm"])
        if self.clip_limits["clipvalue"]:
            gradients = grads.clip_by_value(gradients, self.clip_limits["clipvalue"])
        return gradients

    def update(self, gradients: Gradients, params: Variables) -> Op:
        step = tf.identity(self.iterations) + 1
        lr = self.read_learning_rate()
        # One for each parameter: the moments of one that came later are younger than the optimizer.
        first, second = bias_corrections(self.arrivals.ages(params, step), self.beta_1, self.beta_2)
        if not self.bias_correction:
            first = second = tf.ones_like(first)
        # sqrt(v / c) + eps = (sqrt(v) + eps sqrt(c)) / sqrt(c): the correction moves into the rate and epsilon,
        # so that the fused kernel of Adam computes the textbook form.
        rate = tf.cast(lr, tf.float64) * tf.sqrt(second) / first
        epsilon = self.epsilon * tf.sqrt(second)
        ops, numbers = [], {}
        for i, (g, p) in enumerate(zip(self.clipped(gradients), params)):
            dtype = p.dtype.base_dtype
            if dtype not in numbers:
                numbers[dtype] = self._numbers(dtype, lr, (first, second, rate, epsilon))
            step = self._adapted_step if self.adapts(p) else self._fused_step
            ops.append(step(tf.cast(grads.dense(g, p), dtype), p, numbers[dtype], *numbers[dtype].own[i]))
        return self.count(ops)

    def _numbers(self, dtype, lr, columns):
        own = zip(*(tf.unstack(tf.cast(column, dtype)) for column in columns))
        betas = [tf.constant(beta, dtype) for beta in (self.beta_1, self.beta_2)]
        decay = tf.cast(lr * self.weight_decay, dtype)
        return _Numbers(tf.cast(lr, dtype), decay, betas, tf.zeros((), dtype), tf.ones((), dtype), list(own))

    def _moments(self, g, p, numbers, rate, epsilon):
        return tf.raw_ops.ResourceApplyAdam(
            var=p.handle,
            m=self.state("m", p).handle,
            v=self.state("v", p).handle,
            # Powers of 0: the kernel's own correction is off, ours is part of the rate.
            beta1_power=numbers.zero,
            beta2_power=numbers.zero,
            lr=rate,
            beta1=numbers.betas[0],
            beta2=numbers.betas[1],
            epsilon=epsilon,
            grad=g,
            use_locking=True,
        )

    def _fused_step(self, g, p, numbers, first, second, rate, epsilon):
        before = []
        if self.decays(p):
            # Before the step: the decay is of the old weight.
            before = [p.assign_sub(numbers.decay * p.read_value(), read_value=False)]
        with tf.control_dependencies(before):
            return constrained(p, self._moments(g, p, numbers, rate, epsilon))

    def _adapted_step(self, g, p, numbers, first, second, rate, epsilon):
        # With rate 0 the fused kernel updates both moments and leaves the weight as it is.
        with tf.control_dependencies([self._moments(g, p, numbers, numbers.zero, numbers.one)]):
            m = self.state("m", p).read_value() / first
            v = self.state("v", p).read_value() / second
            old = p.read_value()
        direction = m / (tf.sqrt(v) + self.epsilon)
        if self.decays(p):
            direction += self.weight_decay * old
        # The ratio is float32 also where the weight is half.
        step = tf.cast(tf.cast(numbers.lr, tf.float32) * layer_ratio(old, direction), old.dtype) * direction
        return constrained(p, p.assign_sub(step, read_value=False))

    def get_config(self) -> Config:
        return dict(
            super().get_config(),
            learning_rate=self.learning_rate_config(),
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            weight_decay=self.weight_decay,
            exclude_from_weight_decay=list(self.exclude_from_weight_decay),
            bias_correction=self.bias_correction,
            layer_adaptation=self.layer_adaptation,
            exclude_from_layer_adaptation=list(self.exclude_from_layer_adaptation),
            **self.clip_limits,
        )
