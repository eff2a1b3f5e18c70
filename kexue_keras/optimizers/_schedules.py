"""Learning rates that follow a schedule of real updates, around any optimizer with a rate.

The schedule multiplies the rate: `lr` of the wrapper is the rate that callbacks and users set, the inner optimizer's
variable is written with rate * factor before each of its steps. Inside `GradientAccumulation` such a step is a
whole window, so the schedule counts real updates. Form of the schedule: bert4keras' {1000: 1, 2000: 0.1}.
"""

import math
from typing import Dict, Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, register
from kexue_keras.optimizers._base import Wrapper
from kexue_keras.types import Config, Gradients, KerasOptimizer, Op, Tensor, UpdateFactors, Variable, Variables


def as_points(schedule):
    """[(update, factor), ...] in rising order from a dict or pairs, or ValueError.

    Args:
        schedule: {update: factor} with whole numbers >= 0 (strings of them too, as JSON makes them) and factors >= 0.
    """
    pairs = schedule.items() if isinstance(schedule, dict) else schedule
    try:
        points = sorted((int(t), float(factor)) for t, factor in pairs)
    except (TypeError, ValueError):
        points = []
    if not points:
        raise checks.invalid("PiecewiseLinear", "schedule", "a dict such as {1000: 1, 2000: 0.1}", schedule)
    for t, factor in points:
        if t < 0 or not (0 <= factor < math.inf):
            raise ValueError("schedule holds %r: %r; updates and factors have to be >= 0" % (t, factor))
    if len({t for t, _ in points}) < len(points):
        raise ValueError("schedule %r names an update twice" % (schedule,))
    return points


def stretch_schedule(schedule: UpdateFactors, steps: float) -> Dict[int, float]:
    """The same schedule with its updates multiplied by `steps`.

    bert4keras' accumulation counts micro batches, ours counts real updates: `stretch_schedule(s, k)` turns a schedule
    of ours into one of theirs, `stretch_schedule(s, 1 / k)` one of theirs into ours.

    Args:
        schedule: {update: factor}.
        steps: number > 0.

    Returns:
        dict {update: factor}, updates rounded to whole numbers.

    Raises:
        ValueError: `steps` <= 0, or two points fall on the same update.

    >>> kexue_keras.optimizers.stretch_schedule({1000: 1, 2000: 0.1}, 4)
    {4000: 1.0, 8000: 0.1}
    """
    checks.number(steps, "steps", "stretch_schedule", above=0)
    points = [(int(round(t * steps)), factor) for t, factor in as_points(schedule)]
    return dict(as_points(points))


def linear_warmup(warmup: int, total: Optional[int] = None, *, end: float = 0.0) -> Dict[int, float]:
    """The schedule of BERT: up to 1 in `warmup` updates, then down to `end` at update `total`.

    Args:
        warmup: updates of the rise, >= 0.
        total: update at which `end` is reached; None keeps 1.
        end: last factor.

    Returns:
        dict for `PiecewiseLinear`.

    Raises:
        ValueError: `total` is not beyond `warmup`.

    >>> kexue_keras.optimizers.linear_warmup(100, 1000)
    {100: 1.0, 1000: 0.0}
    """
    if total is not None:
        checks.number(total, "total", "linear_warmup", above=warmup, remedy="it ends after the warmup")
    return dict(as_points({warmup: 1.0} if total is None else {warmup: 1.0, total: end}))


class Schedule(Wrapper):
    """Base of schedules: a subclass defines `factor(step)`.

    Args:
        optimizer: instance with a `learning_rate` variable.
        learning_rate: rate that the factor multiplies, default the optimizer's.
        name: default the class.

    Raises:
        ValueError: the optimizer has no rate that can be set, or follows a schedule of its own.
    """

    def __init__(
        self, optimizer: KerasOptimizer, *, learning_rate: Optional[float] = None, name: Optional[str] = None
    ) -> None:
        super().__init__(optimizer, name=name)
        inner = getattr(self.optimizer, "learning_rate", None)
        if not isinstance(inner, tf.Variable):
            raise ValueError(
                "%s has to write the learning rate of %s, which is %r and not a variable; give that optimizer a number"
                % (type(self).__name__, type(optimizer).__name__, inner)
            )
        rate = float(K.get_value(inner)) if learning_rate is None else float(learning_rate)
        with tf.init_scope():
            self._rate = K.variable(rate, name="%s/learning_rate" % type(self).__name__)

    @property
    def learning_rate(self) -> Variable:
        """Variable: the rate before the factor."""
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        K.set_value(self._rate, value)

    def factor(self, step: Tensor) -> Tensor:
        """Float32 scalar by which the rate of the update after `step` updates is multiplied (to be overridden)."""
        raise NotImplementedError

    def update(self, gradients: Gradients, params: Variables) -> Op:
        factor = self.factor(tf.cast(tf.identity(self.iterations), tf.float32))
        rate = self.optimizer.learning_rate.assign(self._rate * factor, read_value=False)
        with tf.control_dependencies([rate]):
            return self.inner_update(gradients, params)

    def get_config(self) -> Config:
        return dict(super().get_config(), learning_rate=float(K.get_value(self._rate)))


@register
class PiecewiseLinear(Schedule):
    """The rate times a piecewise linear function of the number of real updates.

    {1000: 1, 2000: 0.1} rises from 0 to 1 over the first 1000 updates, falls to 0.1 at update 2000 and stays. The
    first update is number 0, as in bert4keras, so under a rise from 0 it has the rate 0.

    Args:
        optimizer: instance with a `learning_rate` variable.
        schedule: {update: factor}.
        learning_rate: rate that the factor multiplies, default the optimizer's.
        name: default "PiecewiseLinear".

    Raises:
        ValueError: a schedule that is no such dict; an optimizer without a rate to set.

    >>> from kexue_keras.optimizers import AdamW, GradientAccumulation, PiecewiseLinear
    >>> optimizer = GradientAccumulation(PiecewiseLinear(AdamW(2e-5), {1000: 1, 2000: 0.1}), 4)
    >>> round(float(K.get_value(optimizer.lr)), 7)
    2e-05
    """

    def __init__(
        self,
        optimizer: KerasOptimizer,
        schedule: UpdateFactors,
        *,
        learning_rate: Optional[float] = None,
        name: Optional[str] = None,
    ) -> None:
        points = as_points(schedule)
        super().__init__(optimizer, learning_rate=learning_rate, name=name)
        self.schedule = points

    def factor(self, step: Tensor) -> Tensor:
        points = ([] if self.schedule[0][0] == 0 else [(0, 0.0)]) + self.schedule
        value = tf.constant(points[0][1], tf.float32)
        for (t, begin), (end_t, end) in zip(points, points[1:]):
            share = tf.clip_by_value((step - t) / (end_t - t), 0.0, 1.0)
            value += share * (end - begin)
        return value

    def get_config(self) -> Config:
        return dict(super().get_config(), schedule=[list(p) for p in self.schedule])


@register
class WarmupCosine(Schedule):
    """The rate times t / warmup, then times a half cosine down to `end` at update `total`.

    end + (1 - end) (1 + cos(pi (t - warmup) / (total - warmup))) / 2 after the rise; t counts real updates from 0.

    Args:
        optimizer: instance with a `learning_rate` variable.
        warmup: updates of the rise, >= 0.
        total: update at which `end` is reached, > warmup.
        end: last factor, in [0, 1].
        learning_rate: rate that the factor multiplies, default the optimizer's.
        name: default "WarmupCosine".

    Raises:
        ValueError: `total` <= `warmup`, negative `warmup`, `end` outside [0, 1].

    Reference: SGDR (arXiv 1608.03983).

    >>> optimizer = kexue_keras.optimizers.WarmupCosine(kexue_keras.optimizers.AdamW(2e-5), warmup=100, total=1000)
    """

    def __init__(
        self,
        optimizer: KerasOptimizer,
        *,
        warmup: float,
        total: float,
        end: float = 0.0,
        learning_rate: Optional[float] = None,
        name: Optional[str] = None,
    ) -> None:
        owner = type(self).__name__
        checks.number(
            total,
            "total",
            owner,
            above=checks.number(warmup, "warmup", owner, least=0),
            remedy="it ends after the warmup",
        )
        end = checks.number(end, "end", owner, least=0, most=1)
        super().__init__(optimizer, learning_rate=learning_rate, name=name)
        self.warmup, self.total, self.end = int(warmup), int(total), end

    def factor(self, step: Tensor) -> Tensor:
        share = tf.clip_by_value((step - self.warmup) / (self.total - self.warmup), 0.0, 1.0)
        cosine = self.end + (1 - self.end) * 0.5 * (1.0 + tf.cos(math.pi * share))
        return tf.where(step < self.warmup, step / max(self.warmup, 1), cosine)

    def get_config(self) -> Config:
        return dict(super().get_config(), warmup=self.warmup, total=self.total, end=self.end)


@register
class WarmupInverseSquareRoot(Schedule):
    """The rate times min(t / warmup, sqrt(warmup / t)), t counting real updates from 1.

    Args:
        optimizer: instance with a `learning_rate` variable; its rate is reached at update `warmup`.
        warmup: updates of the rise, >= 1.
        learning_rate: rate that the factor multiplies, default the optimizer's.
        name: default "WarmupInverseSquareRoot".

    Raises:
        ValueError: `warmup` < 1.

    Reference: Attention Is All You Need (arXiv 1706.03762), section 5.3.

    >>> optimizer = kexue_keras.optimizers.WarmupInverseSquareRoot(kexue_keras.optimizers.AdamW(1e-3), warmup=4000)
    """

    def __init__(
        self,
        optimizer: KerasOptimizer,
        *,
        warmup: float,
        learning_rate: Optional[float] = None,
        name: Optional[str] = None,
    ) -> None:
        checks.number(warmup, "warmup", type(self).__name__, least=1)
        super().__init__(optimizer, learning_rate=learning_rate, name=name)
        self.warmup = int(warmup)

    def factor(self, step: Tensor) -> Tensor:
        t = step + 1.0
        return tf.minimum(t / self.warmup, tf.sqrt(self.warmup / t))

    def get_config(self) -> Config:
        return dict(super().get_config(), warmup=self.warmup)
