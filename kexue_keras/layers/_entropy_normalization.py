"""Entropy normalisation: sharpen or flatten a distribution until it has the entropy that was asked for.

Article: 概率分布的熵归一化（Entropy Normalization） (kexue.fm/archives/8829). The bracket below is derived here: plain
Newton fails on about one random peaked distribution in six.
"""

from typing import Any, Optional, Tuple, Union

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, keras, register, widen
from kexue_keras.types import Array, ArrayLike, Config, Mask, Shapes, Tensors

# exp of this is 0 in float32 and float64, and it times 0 is 0.
_LOW = -1e4
# A distance below the largest logit smaller than this counts as none.
_TIE = 1e-30


def check_target(target, ratio, owner):
    """Raise a ValueError unless at most one of them is given, and in its range."""
    if target is not None and ratio is not None:
        raise ValueError(
            "%s: target=%r and ratio=%r are two ways to say the same; give one of them" % (owner, target, ratio)
        )
    if target is not None:
        checks.number(target, "target", owner, least=0, remedy="it is an entropy in nats")
    if ratio is not None:
        checks.number(ratio, "ratio", owner, least=0, most=1, remedy="it is a part of the largest possible entropy")


def _bracket(np_like, support, ties, gap, spread, target):
    """Two gammas around the solution, from bounds of the entropy H(gamma) that need no search.

    From below H >= log s - gamma^2 R^2 / 8 (the variance of the log-probabilities is at most R^2 / 4 for a spread R).
    From above, with m ties at the top, the next value `gap` below and y = gamma gap >= 1:
    H <= log m + (s - m) / m (1 + y) e^-y, and (1 + y) e^-y <= 1.2131 e^(-y / 2).
    """
    low = np_like.sqrt(8 * np_like.maximum(np_like.log(support) - target, 0)) / spread
    excess = np_like.maximum(target - np_like.log(ties), 1e-30)
    high = np_like.maximum(2 * np_like.log(1.2131 * (support - ties) / (ties * excess)), 1.0) / gap
    return low, np_like.maximum(high, low)


@register
def entropy_normalize_np(
    p: ArrayLike,
    target: ArrayLike,
    *,
    axis: int = -1,
    tol: float = 1e-10,
    max_iterations: int = 50,
    return_gamma: bool = False,
) -> Union[Array, Tuple[Array, Array]]:
    r"""numpy, float64: $\tilde p_i = p_i^\gamma / \sum_j p_j^\gamma$ with gamma >= 0 such that the entropy is `target`.

    Args:
        p: array of probabilities or of non-negative weights; they need not sum to 1.
        target: entropy in nats, a number or an array of the shape of `p` without `axis`.
        axis: of the distribution.
        tol: largest error of the entropy.
        max_iterations: steps at most (safeguarded Newton: a bisection wherever Newton does not halve the error).
        return_gamma: whether gamma is returned, too.

    Returns:
        array like `p`, float64, or `(array, gamma)`. Only entropies between log(number of ties at the maximum) and
        log(number of p_i > 0) can be reached. Beyond these the nearest is returned: even over the support, with
        gamma=0, or even over the ties, with gamma=inf, which is also how to recognise it.

    Raises:
        ValueError: p < 0, not finite or all 0; a target that is negative, not finite or of the wrong shape.

    Reference:
        概率分布的熵归一化, kexue.fm/archives/8829

    >>> p, gamma = kexue_keras.layers.entropy_normalize_np([1/2, 1/4, 1/8, 1/16, 1/16], 1.0, return_gamma=True)
    >>> p.round(4), round(float(gamma), 6)
    (array([0.6498, 0.2222, 0.076 , 0.026 , 0.026 ]), 1.547878)
    """
    p = np.moveaxis(np.asarray(p, dtype=np.float64), axis, -1)
    if not (np.isfinite(p).all() and (p >= 0).all() and (p.max(axis=-1) > 0).all()):
        raise ValueError(
            "p must be finite, >= 0 and not all 0 along the axis; got values from %r to %r" % (p.min(), p.max())
        )
    target = np.asarray(target, dtype=np.float64)
    if not (np.isfinite(target).all() and (target >= 0).all()):
        raise checks.invalid("entropy_normalize_np", "target", "numbers >= 0", target, "it is an entropy in nats")
    if target.ndim and target.shape != p.shape[:-1]:
        raise ValueError(
            "target has the shape %s, p without its axis %s; they must be equal" % (target.shape, p.shape[:-1])
        )
    target = np.broadcast_to(target, p.shape[:-1])[..., None]
    seen = p > 0
    x = np.log(np.where(seen, p, 1.0)) + 0.0
    x = np.where(seen, x - np.where(seen, x, -np.inf).max(axis=-1, keepdims=True), 0.0)
    tied = seen & (x > -_TIE)
    support, ties = (a.sum(axis=-1, keepdims=True).astype(np.float64) for a in (seen, tied))
    gap = np.where(seen & ~tied, -x, np.inf).min(axis=-1, keepdims=True)
    too_high, too_low = target >= np.log(support), target <= np.log(ties)
    solvable = ~(too_high | too_low)
    goal = np.where(solvable, target, 0.5 * (np.log(support) + np.log(ties)))
    gap, spread = np.where(np.isfinite(gap), gap, 1.0), np.maximum(-x.min(axis=-1, keepdims=True), _TIE)
    low, high = _bracket(np, support, ties, gap, spread, goal)

    def evaluate(gamma):
        y = np.where(seen, np.maximum(gamma * x, _LOW), _LOW)
        weights = np.exp(y)
        total = weights.sum(axis=-1, keepdims=True)
        q = weights / total
        mean = (q * y).sum(axis=-1, keepdims=True)
        return q, np.log(total) - mean, (q * (y - mean) ** 2).sum(axis=-1, keepdims=True)

    low, high = np.log(np.maximum(low, 1e-300)), np.log(high)
    u = np.clip(np.zeros_like(low), low, high)
    previous = np.full_like(u, np.inf)
    for _ in range(max_iterations):
        q, entropy, variance = evaluate(np.exp(u))
        error = entropy - goal
        if (np.abs(error) <= tol)[solvable].all():
            break
        low, high = np.where(error > 0, u, low), np.where(error > 0, high, u)
        newton = u + error / np.maximum(variance, 1e-300)
        good = (newton > low) & (newton < high) & (np.abs(error) <= 0.5 * previous)
        u = np.where(np.abs(error) <= tol, u, np.where(good, newton, 0.5 * (low + high)))
        previous = np.abs(error)
    q, _, _ = evaluate(np.exp(u))
    q = np.where(solvable, q, np.where(too_high, seen / support, tied / ties))
    gamma = np.where(solvable, np.exp(u), np.where(too_high, 0.0, np.inf))[..., 0]
    q = np.moveaxis(q, -1, axis)
    return (q, gamma) if return_gamma else q


class _TensorMath(object):
    sqrt, log, maximum = staticmethod(tf.sqrt), staticmethod(tf.math.log), staticmethod(tf.maximum)


@register
class EntropyNormalization(keras.layers.Layer):
    r"""Distributions with a given entropy: $\mathrm{softmax}(\gamma x)$, gamma >= 0 for each row such that H = target.

    The order of the entries is kept. gamma is found by Newton steps inside a bracket, and its gradient is that of the
    solution itself (implicit function theorem).

    Args:
        target: entropy in nats. With neither `target` nor `ratio` the layer takes two inputs, `[x, targets]`.
        ratio: target as a part of the largest entropy of each row, log(number of visible entries); 0 to 1.
        max_iterations: most steps of the solver.
        from_logits: whether the inputs are logits; if not, probabilities or non-negative weights.
        implicit_grad: False takes gamma as a constant in the gradient.
        return_gamma: whether to return `[p, gamma]`.

    Inputs: `[..., n]` (with `targets` `[...]`), -inf or probability 0 hides an entry (-1e12 is small, but counts
        for `ratio`), and so does a mask of the same shape; a mask with one axis less (padding) is passed on.

    Returns:
        `[..., n]` probabilities; gamma `[...]`. A target that cannot be reached is clipped: even over the visible
        entries, gamma=0, or even over the ties at the top, gamma=inf; neither has a gradient. A row without visible
        entries gives zeros.

    Raises:
        ValueError: target and ratio together, or outside their range; max_iterations < 1.

    Reference:
        概率分布的熵归一化, kexue.fm/archives/8829

    >>> p = kexue_keras.layers.EntropyNormalization(1.0)(K.constant([[8., 4., 2., 1., 1.]]))
    >>> round(float(-(K.eval(p) * np.log(K.eval(p))).sum()), 5)
    1.0
    """

    def __init__(
        self,
        target: Optional[float] = None,
        *,
        ratio: Optional[float] = None,
        max_iterations: int = 30,
        from_logits: bool = True,
        implicit_grad: bool = True,
        return_gamma: bool = False,
        **kwargs: Any,
    ) -> None:
        super(EntropyNormalization, self).__init__(**kwargs)
        check_target(target, ratio, type(self).__name__)
        self.target, self.ratio, self.max_iterations = (
            target,
            ratio,
            checks.whole_number(max_iterations, "max_iterations", self.name, least=1),
        )
        self.from_logits, self.implicit_grad, self.return_gamma = from_logits, implicit_grad, return_gamma
        self.supports_masking = True

    def build(self, input_shape: Shapes) -> None:
        given = self.target is not None or self.ratio is not None
        if isinstance(input_shape, list) == given:
            raise ValueError(
                "%s has target=%r and ratio=%r, so it takes %s"
                % (self.name, self.target, self.ratio, "one input" if given else "two inputs, [x, targets]")
            )
        super(EntropyNormalization, self).build(input_shape)

    def call(self, inputs: Tensors, mask: Mask = None) -> Tensors:
        targets = None
        if isinstance(inputs, (list, tuple)):
            inputs, targets = inputs
            mask = mask[0] if mask is not None else None
        x, seen = self._logits(inputs, mask)
        support = tf.reduce_sum(tf.cast(seen, x.dtype), axis=-1, keepdims=True)
        if targets is not None:
            goal = tf.cast(targets, x.dtype)[..., None]
        elif self.ratio is not None:
            goal = self.ratio * tf.math.log(tf.maximum(support, 1))
        else:
            goal = self.target * tf.ones_like(support)
        p, gamma = self._solve(x, seen, support, goal)
        p = tf.cast(p, inputs.dtype)
        return [p, tf.cast(gamma[..., 0], inputs.dtype)] if self.return_gamma else p

    def _logits(self, inputs, mask):
        """Finite logits with maximum 0, and which entries count."""
        x = widen(inputs)
        if self.from_logits:
            # Written so that NaN is no hidden entry, but shows in the result.
            seen = tf.logical_not(x <= x.dtype.min / 4)
            x = tf.where(seen, x, tf.zeros_like(x))
        else:
            seen = x > 0
            x = tf.math.log(tf.where(seen, x, tf.ones_like(x)))
        if mask is not None and K.ndim(mask) == K.ndim(x):
            seen = tf.logical_and(seen, tf.cast(mask, tf.bool))
        hidden = tf.zeros_like(x) + x.dtype.min / 4
        top = tf.reduce_max(tf.where(seen, x, hidden), axis=-1, keepdims=True)
        return tf.where(seen, x - tf.stop_gradient(top), tf.zeros_like(x)), seen

    def _entropy(self, x, seen, gamma):
        y = tf.where(seen, tf.maximum(gamma * x, _LOW), tf.zeros_like(x) + _LOW)
        total = tf.reduce_sum(tf.exp(y), axis=-1, keepdims=True)
        q = tf.exp(y) / total
        mean = tf.reduce_sum(q * y, axis=-1, keepdims=True)
        return tf.math.log(total) - mean, tf.reduce_sum(q * tf.square(y - mean), axis=-1, keepdims=True), q

    def _solve(self, x, seen, support, target):
        dtype = x.dtype
        number = seen_number = tf.cast(seen, dtype)
        tied = tf.cast(tf.logical_and(seen, x > -_TIE), dtype)
        ties = tf.maximum(tf.reduce_sum(tied, axis=-1, keepdims=True), 1)
        support = tf.maximum(support, 1)
        # Closer to the ends than this, the entropy cannot be told from the end in this precision.
        margin = 1e-6 if dtype == tf.float32 else 1e-12
        too_high = target >= tf.math.log(support) - margin
        too_low = tf.logical_and(target <= tf.math.log(ties) + margin, tf.logical_not(too_high))
        solvable = tf.logical_not(tf.logical_or(too_high, too_low))
        middle = 0.5 * (tf.math.log(support) + tf.math.log(ties))
        goal = tf.where(solvable, target, middle)
        fixed_x, fixed_goal = tf.stop_gradient(x), tf.stop_gradient(goal)
        largest = tf.zeros_like(x) + dtype.max / 4
        gap = tf.reduce_min(tf.where(number - tied > 0, -fixed_x, largest), axis=-1, keepdims=True)
        spread = tf.maximum(-tf.reduce_min(fixed_x, axis=-1, keepdims=True), _TIE)
        low, high = _bracket(_TensorMath, support, ties, tf.maximum(gap, _TIE), spread, fixed_goal)
        tiny = 1e-30
        low, high = tf.math.log(tf.maximum(low, tiny)), tf.math.log(tf.maximum(high, tiny))
        tolerance = 4e-7 if dtype == tf.float32 else 1e-13

        def unfinished(step, u, low, high, previous):
            return tf.reduce_any(tf.logical_and(solvable, previous > tolerance))

        def improve(step, u, low, high, previous):
            entropy, variance, _ = self._entropy(fixed_x, seen, tf.exp(u))
            error = entropy - fixed_goal
            low, high = tf.where(error > 0, u, low), tf.where(error > 0, high, u)
            newton = u + error / tf.maximum(variance, tiny)
            good = tf.logical_and(newton > low, newton < high)
            good = tf.logical_and(good, tf.abs(error) <= 0.5 * previous)
            better = tf.where(good, newton, 0.5 * (low + high))
            u = tf.where(tf.abs(error) <= tolerance, u, better)
            return step + 1, u, low, high, tf.abs(error)

        start = tf.maximum(low, tf.minimum(high, tf.zeros_like(low)))
        infinite = tf.zeros_like(start) + dtype.max
        state = (tf.constant(0), start, low, high, infinite)
        u = tf.while_loop(unfinished, improve, state, maximum_iterations=self.max_iterations)[1]
        gamma = tf.stop_gradient(tf.exp(u))
        if self.implicit_grad:
            # One Newton step from the solution: its value is gamma again, its gradient that of the implicit function.
            entropy, variance, _ = self._entropy(x, seen, gamma)
            slope = -tf.stop_gradient(tf.maximum(variance, tiny)) / gamma
            error = entropy - goal
            gamma -= (error - tf.stop_gradient(error)) / slope
        _, _, p = self._entropy(x, seen, gamma)
        clipped = tf.where(tf.logical_and(too_high, seen), seen_number / support, tied / ties)
        p = tf.where(tf.logical_and(solvable, seen), p, clipped * seen_number)
        end = tf.where(too_high, tf.zeros_like(gamma), infinite * 2)
        return p, tf.where(solvable, gamma, end)

    def compute_mask(self, inputs: Tensors, mask: Mask = None) -> Mask:
        if isinstance(inputs, (list, tuple)):
            inputs, mask = inputs[0], mask[0] if mask is not None else None
        passed = mask if mask is not None and K.ndim(mask) < K.ndim(inputs) else None
        return [passed, None] if self.return_gamma else passed

    def compute_output_shape(self, input_shape: Shapes) -> Shapes:
        shape = tuple(input_shape[0] if isinstance(input_shape, list) else input_shape)
        return [shape, shape[:-1]] if self.return_gamma else shape

    def get_config(self) -> Config:
        config = super(EntropyNormalization, self).get_config()
        return dict(
            config,
            target=self.target,
            ratio=self.ratio,
            max_iterations=self.max_iterations,
            from_logits=self.from_logits,
            implicit_grad=self.implicit_grad,
            return_gamma=self.return_gamma,
        )
