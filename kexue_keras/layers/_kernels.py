"""Kernels that tend to a Dirac delta: the step and the ramp (its antiderivative) that each of them makes.

A kernel of width w is k(x / w) / w. Its step is P(x) = integral of k up to x, a smooth Heaviside function, and its
ramp is R with R' = P, the smooth ReLU, since R is the convolution of the ReLU with k.

Reference: "用狄拉克函数来构造非光滑函数的光滑近似", kexue.fm/archives/8718.
"""

import math
from collections import namedtuple

import tensorflow as tf

from kexue_keras.layers._square_plus import squareplus
from kexue_keras.numerics import normal_cdf, sigmoid, softplus

# `ramp_converges` is false where the ReLU grows too fast for the tails, so that R is only an antiderivative.
Kernel = namedtuple("Kernel", "step ramp ramp_converges density")


@tf.custom_gradient
def _gauss_ramp(u):
    # Below -40 it is 0 in float64 too; -inf times the 0 of the step would be NaN.
    bounded = tf.maximum(u, -40.0)
    step = normal_cdf(bounded)
    ramp = bounded * step + math.sqrt(0.5 / math.pi) * tf.exp(-0.5 * tf.square(bounded))
    # R' = P is known already: autodiff would compute the exponential twice again, and lose digits. Far to the left the
    # two terms cancel to the last digit and the sign of the rest is chance.
    return tf.nn.relu(ramp), lambda slope: slope * step


def _cauchy_step(u):
    return 0.5 + tf.atan(u) / math.pi


def _cauchy_ramp(u):
    return u * _cauchy_step(u) - tf.math.log1p(tf.square(u)) / (2 * math.pi)


def _square_step(u):
    # The ramp keeps its digits on the left, 1 + u / sqrt(u^2 + 1) does not; inf / inf would be NaN.
    u = tf.clip_by_value(u, -1e15, 1e15)
    return squareplus(u, 1.0) / tf.sqrt(tf.square(u) + 1)


KERNELS = {
    "gauss": Kernel(normal_cdf, _gauss_ramp, True, lambda u: math.sqrt(0.5 / math.pi) * tf.exp(-0.5 * tf.square(u))),
    "logistic": Kernel(sigmoid, softplus, True, lambda u: sigmoid(u) * sigmoid(-u)),
    "cauchy": Kernel(_cauchy_step, _cauchy_ramp, False, lambda u: 1 / (math.pi * (1 + tf.square(u)))),
    "square": Kernel(_square_step, lambda u: squareplus(u, 1.0), True, lambda u: 0.5 * (tf.square(u) + 1) ** -1.5),
}


def scaled(kernel, width):
    """The kernel of width `width`: k(x / w) / w, with the step P(x / w) and the ramp w R(x / w).

    Args:
        kernel: one of `KERNELS`.
        width: float or scalar tensor > 0.

    Returns:
        a `Kernel`.
    """
    return Kernel(
        lambda x: kernel.step(x / width),
        lambda x: width * kernel.ramp(x / width),
        kernel.ramp_converges,
        lambda x: kernel.density(x / width) / width,
    )
