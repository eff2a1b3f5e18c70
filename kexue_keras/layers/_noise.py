"""Noise distributions: log of the cumulative distribution function, quantiles, and samples.

What `PerturbMax` needs of a distribution. The logarithms are written so that neither they nor their gradients become
NaN in float32, wherever the argument lies.
"""

import math
from collections import namedtuple

import numpy as np
import tensorflow as tf
from scipy import special

from kexue_keras.numerics import log_normal_cdf, softplus

# log_cdf: tensor -> tensor; cdf: float64 array -> array; quantile: array in (0, 1) -> array, also for tensors of
# uniform samples through `sample`.
Noise = namedtuple("Noise", "log_cdf cdf quantile")
# Small enough that its exponential is 0, and finite, so that 0 times it is 0.
NEVER = -1e30


def _log_gumbel_cdf(x):
    return -tf.exp(-tf.maximum(x, -80.0))


def _log_of(cdf, inside):
    """log(cdf) where `inside`, else NEVER; the gradient is 0 there."""
    return tf.where(inside, tf.math.log(tf.where(inside, cdf, tf.ones_like(cdf))), NEVER * tf.ones_like(cdf))


def _log_uniform_cdf(x):
    return _log_of(tf.clip_by_value(x, 0.0, 1.0), x > 0)


def _log_exponential_cdf(x):
    positive = x > 0
    return _log_of(-tf.math.expm1(-tf.where(positive, x, tf.ones_like(x))), positive)


def _log_laplace_cdf(x):
    return tf.where(x < 0, tf.minimum(x, 0) - math.log(2), tf.math.log1p(-0.5 * tf.exp(-tf.maximum(x, 0))))


def _with_numpy(function):
    def quiet(x):
        with np.errstate(over="ignore", divide="ignore"):
            return function(np.asarray(x, "float64"))

    return quiet


NOISES = {
    "normal": Noise(log_normal_cdf, special.ndtr, special.ndtri),
    "gumbel": Noise(
        _log_gumbel_cdf, _with_numpy(lambda x: np.exp(-np.exp(-x))), _with_numpy(lambda t: -np.log(-np.log(t)))
    ),
    "uniform": Noise(_log_uniform_cdf, lambda x: np.clip(x, 0, 1), lambda t: np.asarray(t, "float64")),
    "exponential": Noise(
        _log_exponential_cdf, lambda x: -np.expm1(-np.maximum(x, 0)), _with_numpy(lambda t: -np.log1p(-t))
    ),
    "logistic": Noise(lambda x: -softplus(-x), special.expit, special.logit),
    "laplace": Noise(
        _log_laplace_cdf,
        lambda x: np.where(np.asarray(x) < 0, 0.5 * np.exp(np.minimum(x, 0)), 1 - 0.5 * np.exp(-np.maximum(x, 0))),
        _with_numpy(lambda t: np.where(t < 0.5, np.log(2 * t), -np.log(2 * (1 - t)))),
    ),
}


def draw(noise, shape, dtype, seed=None):
    """Independent samples of a noise, as a tensor.

    Args:
        noise: str, a key of `NOISES`.
        shape: int tensor or list.
        dtype: float32 or float64.
        seed: int or None.

    Returns:
        tensor of that shape.
    """
    if noise == "normal":
        return tf.random.normal(shape, dtype=dtype, seed=seed)
    # The ends of the unit interval have infinite quantiles.
    t = tf.random.uniform(shape, np.finfo(dtype.as_numpy_dtype).tiny, 1.0, dtype=dtype, seed=seed)
    t = tf.minimum(t, 1 - np.finfo(dtype.as_numpy_dtype).epsneg)
    return {
        "gumbel": lambda: -tf.math.log(-tf.math.log(t)),
        "uniform": lambda: t,
        "exponential": lambda: -tf.math.log(t),
        "logistic": lambda: tf.math.log(t) - tf.math.log1p(-t),
        "laplace": lambda: tf.where(t < 0.5, tf.math.log(2 * t), -tf.math.log(2 * (1 - t))),
    }[noise]()
