"""GELU, layer normalisation and attention with gradients in closed form, which need few tensors.

节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367.

Differentiated op by op, a GELU needs six tensors of the size of its input, layer normalisation five. In closed
form it is two and two. The values are those of bert4keras' functions; gradients agree to rounding.
"""

from typing import Callable, Optional

import numpy as np
import tensorflow as tf

from kexue_keras.backend import K, erf_is_slow
from kexue_keras.backend.graph import identity_with_gradient
from kexue_keras.types import Tensor


def gelu(x: Tensor) -> Tensor:
    """Gaussian error linear unit, x * cdf(x), cdf(x) = (1 + erf(x / sqrt(2))) / 2.

    The derivative is cdf(x) + x exp(-x^2 / 2) / sqrt(2 pi).

    Args:
        x: floating tensor.

    Returns:
        tensor like `x`.

    >>> K.eval(gelu(K.constant([-1., 0., 1.]))).round(4)
    array([-0.1587,  0.    ,  0.8413], dtype=float32)
    """
    cdf = cumulative(x)
    return identity_with_gradient([x * cdf, x, cdf], "KexueGelu")[0]


def cumulative(x: Tensor) -> Tensor:
    """The distribution function of the normal distribution, (1 + erf(x / sqrt(2))) / 2, to the digits of float32.

    Where TensorFlow's error function is slow (`backend.erf_is_slow`), sigmoid(x p(x^2)) with a polynomial p takes a
    fifth of the time. x times it differs from the exact GELU by 6e-7 at most, which is what rounding does anyway.
    """
    if x.dtype == tf.float32 and erf_is_slow():
        return _by_polynomial(x)
    return 0.5 * (1.0 + tf.math.erf(x / np.sqrt(2.0)))


# The logarithm of cdf(x) / cdf(-x), divided by x, is a smooth function of x^2: its minimax polynomial on [0, 5.5^2],
# errors weighted as they count in x cdf(x). Further out cdf(x) x is x or 0 within 1e-7.
_FURTHEST = 5.5**2
_COEFFICIENTS = (
    3.611443588624752e-09,
    -2.6690210574997764e-07,
    7.938368980831001e-06,
    -0.00011048143642256036,
    -6.6256063291803e-05,
    0.07266855984926224,
    1.5957684516906738,
)


def _by_polynomial(x):
    square = tf.minimum(tf.square(x), _FURTHEST)
    total = square * _COEFFICIENTS[0]
    for coefficient in _COEFFICIENTS[1:-1]:
        total = (total + coefficient) * square
    return identity_with_gradient([tf.sigmoid(x * (total + _COEFFICIENTS[-1])), x], "KexueCumulative")[0]


@tf.RegisterGradient("KexueCumulative")
def _cumulative_gradient(op, gradient, *_):
    return None, gradient * tf.exp(tf.square(op.inputs[1]) * -0.5) * (1.0 / np.sqrt(2.0 * np.pi))


@tf.RegisterGradient("KexueGelu")
def _gelu_gradient(op, gradient, *_):
    _, x, cdf = op.inputs
    slope = tf.exp(tf.square(x) * -0.5) * (x * (1.0 / np.sqrt(2.0 * np.pi)))
    return None, gradient * (cdf + slope), None


def normalize(x: Tensor, epsilon: float, zero_mean: bool = True) -> Tensor:
    """(x - mean) / sqrt(variance + epsilon) over the last axis, as bert4keras computes it.

    With r = sqrt(variance + epsilon) and y the result, the gradient is (g - mean(g) - y mean(g y)) / r.

    Args:
        x: floating tensor.
        epsilon: float.
        zero_mean: whether the mean is taken off; without it the gradient lacks its second term.

    Returns:
        tensor like `x`.

    >>> K.eval(normalize(K.constant([[1., 2., 3.]]), 1e-12)).round(4)
    array([[-1.2247,  0.    ,  1.2247]], dtype=float32)
    """
    centred = x - K.mean(x, axis=-1, keepdims=True) if zero_mean else x
    root = K.sqrt(K.mean(K.square(centred), axis=-1, keepdims=True) + epsilon)
    # One quotient a row; 0 where epsilon and the variance are, as in bert4keras, and so is the gradient.
    inverse = tf.math.divide_no_nan(tf.ones_like(root), root)
    return identity_with_gradient([centred * inverse, x, inverse], "KexueNormalize" + ("" if zero_mean else "Scale"))[0]


@tf.RegisterGradient("KexueNormalize")
def _normalize_gradient(op, gradient, *_):
    return _through_normalize(op, gradient - K.mean(gradient, axis=-1, keepdims=True), gradient)


@tf.RegisterGradient("KexueNormalizeScale")
def _normalize_scale_gradient(op, gradient, *_):
    return _through_normalize(op, gradient, gradient)


def _through_normalize(op, centred, gradient):
    y, _, inverse = op.inputs
    along = K.mean(gradient * y, axis=-1, keepdims=True)
    return None, (centred - y * along) * inverse, None


def scale_and_shift(y: Tensor, gamma: Optional[Tensor], beta: Optional[Tensor]) -> Tensor:
    """y gamma + beta over the last axis.

    The gradients of gamma and beta are sums over all other axes, of g y and of g; that of y is g gamma.

    Args:
        y: floating tensor `[..., d]`.
        gamma: `[d]`, or None for 1.
        beta: `[d]`, or None for 0.

    Returns:
        tensor like `y`.

    >>> K.eval(scale_and_shift(K.constant([[1., 2.]]), K.constant([3., 4.]), K.constant([0., 1.])))
    array([[3., 9.]], dtype=float32)
    """
    if gamma is not None:
        y = identity_with_gradient([y * gamma, y, tf.convert_to_tensor(gamma)], "KexueScale")[0]
    if beta is not None:
        beta = tf.convert_to_tensor(beta)
        y = identity_with_gradient([y + beta, y, beta], "KexueShift")[0]
    return y


@tf.RegisterGradient("KexueScale")
def _scale_gradient(op, gradient, *_):
    _, y, gamma = op.inputs
    return None, gradient * gamma, _sum_of_rows(gradient * y, gamma)


@tf.RegisterGradient("KexueShift")
def _shift_gradient(op, gradient, *_):
    return None, gradient, _sum_of_rows(gradient, op.inputs[2])


def _sum_of_rows(x, like):
    # The number of axes is unknown in a recomputed segment.
    return tf.reduce_sum(tf.reshape(x, [-1, tf.size(like)]), axis=0)


def multiply(x: Tensor, factor: Tensor) -> Tensor:
    """x factor, of which only x has a gradient: a mask of dropout, or a number in its place.

    Args:
        x: floating tensor.
        factor: tensor of the shape of `x`, or one number with as many axes as `x` or none.

    Returns:
        tensor like `x`.

    >>> x = K.constant([1., 2.])
    >>> K.eval(tf.gradients(multiply(x, K.constant([0., 2.])), x)[0])
    array([0., 2.], dtype=float32)
    """
    product = x * factor
    product.set_shape(x.shape)
    return identity_with_gradient([product, x, factor], "KexueMultiply")[0]


@tf.RegisterGradient("KexueMultiply")
def _multiply_gradient(op, gradient, *_):
    return None, multiply(gradient, op.inputs[2]), None


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Optional[Tensor], dropout: Callable[[Tensor], Tensor]
) -> Tensor:
    """Scaled softmax attention, dropout(softmax(query key^T + bias)) value.

    With P the softmax, D what dropout leaves of it and O the result, the gradient of the scores is
    D * (g value^T) - P * sum(g * O): the sum over the keys has become one over the numbers of a head.

    Args:
        query: floating tensor `[B, heads, n, k]`, divided by sqrt(k) already if that is wanted.
        key: `[B, heads, m, k]`.
        value: `[B, heads, m, v]`.
        bias: 0 and -inf, broadcast to `[B, heads, n, m]`, no gradient; or None.
        dropout: function of P that only multiplies it by numbers.

    Returns:
        tensor `[B, heads, n, v]`.

    >>> x = K.constant([[[[1., 0.], [0., 1.]]]])
    >>> K.eval(attend(x, x, x, None, lambda p: p)).round(3)[0, 0]
    array([[0.731, 0.269],
           [0.269, 0.731]], dtype=float32)
    """
    scores = tf.matmul(query, key, transpose_b=True)
    weights = tf.nn.softmax(scores if bias is None else scores + bias)
    dropped = dropout(weights)
    result = tf.matmul(dropped, value)
    return identity_with_gradient([result, query, key, value, weights, dropped], "KexueAttend")[0]


@tf.RegisterGradient("KexueAttend")
def _attend_gradient(op, gradient, *_):
    result, query, key, value, weights, dropped = op.inputs
    along = tf.reduce_sum(gradient * result, axis=-1, keepdims=True)
    scores = dropped * tf.matmul(gradient, value, transpose_b=True) - weights * along
    return (
        None,
        tf.matmul(scores, key),
        tf.matmul(scores, query, transpose_a=True),
        tf.matmul(dropped, gradient, transpose_a=True),
        None,
        None,
    )
