"""Elementary functions that keep their digits in float32, values and gradients, also far out and under masks."""

import math
from typing import Tuple

import numpy as np
import tensorflow as tf

from kexue_keras.types import Tensor


def softplus(x: Tensor) -> Tensor:
    """log(1 + exp(x)) with a gradient that is right everywhere.

    The gradient of TensorFlow's own is its sigmoid, which is exactly 0 below -18 in float32, so that what has become
    small is never trained again. This one is `sigmoid`, from the exponential that the value has needed.

    Args:
        x: float32 or float64 tensor; -inf gives 0 with gradient 0.

    Returns:
        the same shape and dtype.

    >>> x = tf.constant([-25.0, 0.0, 25.0])
    >>> [float(g) > 0 for g in K.eval(tf.gradients(kexue_keras.numerics.softplus(x), x)[0])]
    [True, True, True]
    """
    return _softplus(tf.convert_to_tensor(x))


@tf.custom_gradient
def _softplus(x):
    small = tf.exp(-tf.abs(x))
    return tf.nn.relu(x) + tf.math.log1p(small), lambda upstream: upstream * _sigmoid(x, small)


def _sigmoid(x, small):
    """The sigmoid s of x, and s' = s(x) s(-x), from small = exp(-|x|); s'' = -s' tanh(x / 2), smooth at 0 too."""

    @tf.custom_gradient
    def density(x):
        value = small / tf.square(1.0 + small)
        return value, lambda upstream: -upstream * density(x) * tf.tanh(0.5 * x)

    @tf.custom_gradient
    def value(x):
        value = tf.where(x >= 0, tf.ones_like(small), small) / (1.0 + small)
        return value, lambda upstream: upstream * density(x)

    return value(x)


def softplus_inverse(value: float) -> float:
    """The r with log(1 + exp(r)) = value: where a positive parameter that is trained as softplus(r) starts.

    >>> round(kexue_keras.numerics.softplus_inverse(1.0), 6)
    0.541325
    """
    return value + math.log(-math.expm1(-value))


def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x)) with its digits in both tails, in the gradient too; TensorFlow's own is 0 below -18 in float32.

    Args:
        x: float32 or float64 tensor.

    Returns:
        the same shape and dtype.

    >>> print(K.eval(kexue_keras.numerics.sigmoid(tf.constant([-25.0, 0.0]))))
    [1.3887944e-11 5.0000000e-01]
    """
    x = tf.convert_to_tensor(x)
    return _sigmoid(x, tf.exp(-tf.abs(x)))


def sigmoid_difference(x: Tensor, y: Tensor) -> Tensor:
    """sigmoid(x) - sigmoid(y), also where both have rounded to 0 or to 1, with its gradients.

    sigmoid(x) - sigmoid(y) = sigmoid(x) sigmoid(-y) (1 - exp(y - x)), used with the larger one first.

    Args:
        x: float32 or float64 tensor.
        y: tensor of the same shape and dtype.

    Returns:
        the same shape and dtype.

    >>> print(K.eval(kexue_keras.numerics.sigmoid_difference(tf.constant([25.0]), tf.constant([20.0]))).round(12))
    [2.047e-09]
    """
    up, over, under = _halves(x - y)
    ahead = -sigmoid(x) * sigmoid(-y) * tf.math.expm1(-over)
    behind = sigmoid(y) * sigmoid(-x) * tf.math.expm1(under)
    return tf.where(up, ahead, behind)


def normal_cdf(x: Tensor) -> Tensor:
    """Distribution function of the standard normal; erfc keeps the digits of the left tail, which 1 + erf loses.

    >>> ["%.3g" % p for p in K.eval(kexue_keras.numerics.normal_cdf(tf.constant([-10.0, 0.0])))]
    ['7.62e-24', '0.5']
    """
    return 0.5 * tf.math.erfc(-math.sqrt(0.5) * x)


def log_normal_cdf(x: Tensor) -> Tensor:
    """Logarithm of the standard normal distribution function, accurate in both tails, and its gradient too.

    Args:
        x: float32 or float64 tensor. Below about -1e19 the square overflows float32: clip before.

    Returns:
        the same shape and dtype.

    >>> print(K.eval(kexue_keras.numerics.log_normal_cdf(tf.constant([-20.0, 0.0]))).round(4))
    [-203.9172   -0.6931]
    """
    lower, upper = (-10.0, 1.0) if x.dtype == tf.float32 else (-20.0, 1.0)
    # Each branch gets arguments it can handle, since the gradient of tf.where visits all branches.
    low = tf.minimum(x, lower)
    middle = tf.clip_by_value(x, lower, upper)
    high = tf.maximum(x, upper)
    inverse_square = 1.0 / tf.square(low)
    series = tf.ones_like(x)
    for k in range(10, 0, -1):  # 1 - 1/x^2 + 3/x^4 - 15/x^6 + ..., ten terms: 1e-11 at -10
        series = 1.0 - (2 * k - 1) * inverse_square * series
    tail = -0.5 * tf.square(low) - tf.math.log(-low) - 0.5 * math.log(2 * math.pi) + tf.math.log(series)
    head = tf.math.log1p(-normal_cdf(-high))
    return tf.where(x < lower, tail, tf.where(x < upper, tf.math.log(normal_cdf(middle)), head))


def log_probability(p: Tensor) -> Tensor:
    """log(p), finite also where a probability has rounded to 0: that counts as the smallest normal number.

    Args:
        p: float32 or float64 tensor, >= 0.

    Returns:
        the same shape and dtype.

    >>> print(K.eval(kexue_keras.numerics.log_probability(tf.constant([0.0, 1.0]))))
    [-87.33655   0.     ]
    """
    return tf.math.log(tf.maximum(p, np.finfo(p.dtype.as_numpy_dtype).tiny))


def masked_logsumexp(x: Tensor, keep: Tensor, axis: int, *, keepdims: bool = False) -> Tuple[Tensor, Tensor]:
    """Log of the sum of exp(x) over the entries where `keep`; where there is none the value is 0, its gradient 0.

    Args:
        x: float tensor; entries that are not kept may hold anything.
        keep: boolean tensor of the same shape.
        axis: int, the axis that is summed.
        keepdims: bool; the axis stays, with length 1.

    Returns:
        tuple (sums, boolean tensor that says where there was an entry), both without `axis` unless `keepdims`.

    >>> sums, some = kexue_keras.numerics.masked_logsumexp(
    ...     tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([[True, False], [False, False]]), 1)
    >>> K.eval(sums).tolist(), K.eval(some).tolist()
    ([1.0, 0.0], [True, False])
    """
    some = tf.reduce_any(keep, axis=axis, keepdims=True)
    inner = tf.where(keep, x, tf.fill(tf.shape(x), tf.constant(-np.inf, x.dtype)))
    # An empty sum is -inf with a gradient of 0/0, also under a later `where`: it must not enter at all.
    filled = tf.broadcast_to(some, tf.shape(x))
    sums = tf.reduce_logsumexp(tf.where(filled, inner, tf.zeros_like(x)), axis=axis, keepdims=keepdims)
    some = some if keepdims else tf.squeeze(some, axis)
    return tf.where(some, sums, tf.zeros_like(sums)), some


def log_one_plus_sum_exp(x: Tensor, axis: int = -1) -> Tensor:
    """log(1 + sum exp(x)), exact also where all of x is -inf or so low that 1 + exp(x) is 1.

    Args:
        x: float32 or float64 tensor.
        axis: int, the axis that is summed.

    Returns:
        tensor without `axis`.

    >>> print(K.eval(kexue_keras.numerics.log_one_plus_sum_exp(tf.constant([[0.0, 0.0], [-25.0, -np.inf]]))))
    [1.0986123e+00 1.3887944e-11]
    """
    # The shift cancels, so it needs no gradient; it is never -inf thanks to the 1.
    shift = tf.stop_gradient(tf.maximum(tf.reduce_max(x, axis, keepdims=True), 0.0))
    more = tf.math.expm1(-shift) + tf.reduce_sum(tf.exp(x - shift), axis, keepdims=True)
    return tf.squeeze(shift + tf.math.log1p(more), axis)


def _halves(x):
    """(where x >= 0, x there and 0 elsewhere, x elsewhere and 0 there).

    Each half of a function gets arguments that it can handle, since the gradient of tf.where visits both.
    """
    above = x >= 0
    zeros = tf.zeros_like(x)
    return above, tf.where(above, x, zeros), tf.where(above, zeros, x)
