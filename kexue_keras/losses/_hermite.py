"""Gauss-Hermite sums for EXACT's probability, at fixed nodes or moved to where the integrand is.

如何训练你的准确率？, kexue.fm/archives/9098. Moving and scaling the nodes is adaptive quadrature (Liu and Pierce 1994).
"""

import math

import numpy as np
import tensorflow as tf

# The integrand's logarithm is concave; from 0 this many steps reach its top to well within its width.
_NEWTON_STEPS = 8


def fixed_nodes(num_nodes, dtype):
    """(nodes [n], logarithms of their weights [n]) for the expectation over a standard normal variable."""
    nodes, weights = np.polynomial.hermite.hermgauss(num_nodes)
    return (
        tf.constant(math.sqrt(2.0) * nodes, dtype),
        tf.constant(np.log(weights) - 0.5 * math.log(math.pi), dtype),
    )


def moved_nodes(num_nodes, difference, rivals):
    r"""The same for $E_z\prod_i\Phi(z+\Delta_i)$ alone: nodes around the peak of the integrand, as wide as it is.

    At fixed nodes, which end at 10 for 32 of them, the logarithm of a probability below about e^-50 is far too small:
    the integrand has its top at -Delta / 2.

    Args:
        num_nodes: int.
        difference: float tensor [..., classes], Delta.
        rivals: boolean [..., classes], the classes of the product.

    Returns:
        (nodes [..., n], logarithms of their weights [..., n]); no gradient flows through them.
    """
    nodes, log_weights = fixed_nodes(num_nodes, difference.dtype)
    difference = tf.stop_gradient(difference)
    zeros = tf.zeros_like(difference)
    z = tf.zeros_like(difference[..., 0])
    for last in [False] * _NEWTON_STEPS + [True]:
        ratio, bend = _mills(difference + z[..., None])
        curvature = 1.0 + tf.reduce_sum(tf.where(rivals, bend, zeros), -1)
        if not last:
            z += (tf.reduce_sum(tf.where(rivals, ratio, zeros), -1) - z) / curvature
    scale = tf.math.rsqrt(curvature)
    moved = z[..., None] + scale[..., None] * nodes
    weights = log_weights + tf.math.log(scale)[..., None] + 0.5 * (tf.square(nodes) - tf.square(moved))
    return tf.stop_gradient(moved), tf.stop_gradient(weights)


def _mills(x):
    """phi(x) / Phi(x), and minus its slope, which lies in (0, 1)."""
    body = tf.maximum(x, -6.0)
    ratio = math.sqrt(2.0 / math.pi) * tf.exp(-0.5 * tf.square(body)) / tf.math.erfc(-math.sqrt(0.5) * body)
    bend = ratio * (ratio + body)
    tail = tf.maximum(-x, 6.0)
    far = x < -6.0
    return tf.where(far, tail + 1.0 / tail, ratio), tf.where(far, 1.0 - 1.0 / tf.square(tail), bend)
