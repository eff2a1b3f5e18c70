"""Sampling on the unit sphere: the von Mises-Fisher distribution, reparameterised, with its KL divergence.

Reference: "变分自编码器（七）：球面上的VAE（vMF-VAE）", kexue.fm/archives/8404; used by "UniVAE", kexue.fm/archives/8475.
"""

from typing import Any, Optional

import numpy as np
import tensorflow as tf
from bert4keras.layers import Layer
from scipy import special

from kexue_keras import checks
from kexue_keras.backend import K, register, widen
from kexue_keras.types import Array, Config, Phase, Shape, Tensor


def _log_0f1(v, kappa):
    """log 0F1(; v; kappa^2 / 4), that is log [Gamma(v) (2 / kappa)^(v - 1) I_{v-1}(kappa)], 0 at kappa = 0.

    The Bessel function runs out of float64 for small kappa, scipy's 0F1 of digits for large.
    """
    bessel = special.ive(v - 1, kappa)
    if kappa * kappa > 4 * v and bessel > 1e-290:
        return special.gammaln(v) + (v - 1) * np.log(2 / kappa) + np.log(bessel) + kappa
    return np.log(special.hyp0f1(v, kappa * kappa / 4))


def vmf_mean_resultant(d: int, kappa: float) -> float:
    """E[z . mu] of the von Mises-Fisher distribution: A = I_{d/2}(kappa) / I_{d/2 - 1}(kappa).

    Args:
        d: int >= 2, the dimension.
        kappa: number >= 0, the concentration.

    Returns:
        float.

    Raises:
        ValueError: d < 2 or kappa < 0.

    >>> round(kexue_keras.layers.vmf_mean_resultant(16, 32.0), 6)
    0.789895
    """
    d, kappa = checks.whole_number(d, "d", "vmf_mean_resultant", least=2), checks.number(
        kappa, "kappa", "vmf_mean_resultant", least=0
    )
    bessel = special.ive([d / 2, d / 2 - 1], kappa)
    if bessel.min() > 1e-290:
        return float(bessel[0] / bessel[1])
    return float(kappa / d * np.exp(_log_0f1(d / 2 + 1, kappa) - _log_0f1(d / 2, kappa)))


def vmf_kl(d: int, kappa: float) -> float:
    """KL divergence of the von Mises-Fisher distribution from the uniform one on the sphere; no mean needed.

    KL = kappa A + (d/2 - 1) log(kappa / 2) - log Gamma(d/2) - log I_{d/2 - 1}(kappa).

    Args:
        d: int >= 2, the dimension.
        kappa: number >= 0, the concentration.

    Returns:
        float, nats.

    Raises:
        ValueError: d < 2 or kappa < 0.

    Reference: kexue.fm/archives/8404.

    >>> round(kexue_keras.layers.vmf_kl(16, 32.0), 6)
    7.582144
    """
    d, kappa = checks.whole_number(d, "d", "vmf_kl", least=2), checks.number(kappa, "kappa", "vmf_kl", least=0)
    # Rounding may leave -1e-17 for kappa near 0.
    return max(0.0, float(kappa * vmf_mean_resultant(d, kappa) - _log_0f1(d / 2, kappa)))


def vmf_cosines(d: int, kappa: float, num_caches: int) -> Array:
    """Quantiles of the cosine between a sample and the mean, at (k + 1/2) / num_caches.

    Its density is exp(kappa w) (1 - w^2)^((d - 3) / 2). In the angle it is exp(kappa cos) sin^(d - 2), which stays
    finite for d = 2 too.

    Args:
        d: int >= 2.
        kappa: number >= 0.
        num_caches: int, how many.

    Returns:
        float64 array [num_caches], ascending.

    >>> bool(abs(kexue_keras.layers.vmf_cosines(16, 32.0, 10**5).mean() - 0.789895) < 1e-5)
    True
    """
    theta = np.linspace(0, np.pi, max(num_caches, 1000) + 1)
    with np.errstate(divide="ignore"):
        # 0 log 0 = 0 for d = 2.
        log_sine = np.log(np.sin(theta).clip(0)) * (d - 2) if d > 2 else 0.0
    log_density = kappa * np.cos(theta) + log_sine
    density = np.exp(log_density - log_density.max())
    cumulative = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    levels = (np.arange(num_caches) + 0.5) / num_caches
    return np.cos(np.interp(levels, cumulative / cumulative[-1], theta))[::-1].copy()


@register
class VonMisesFisherSampling(Layer):
    """A point on the unit sphere near `mu`: z = w mu + sqrt(1 - w^2) nu, with the gradient flowing into mu.

    w, the cosine between z and mu, follows exp(kappa w) (1 - w^2)^((d - 3) / 2), which does not depend on mu: it is
    drawn from stored quantiles. nu is a uniform direction orthogonal to mu. The KL divergence from the uniform
    distribution is a constant for fixed kappa, `vmf_kl`, so that a VAE needs no KL term in its loss.

    Args:
        kappa: number >= 0, the concentration; 0 is uniform.
        num_caches: int, how many quantiles of w are stored, as a constant of the graph and not as a weight.
        training_only: sample in training and return mu otherwise. The article samples always.
        seed: int or None.

    Call arguments:
        float tensor [..., d], d >= 2 known; it is normalised to length 1 here. Half precision is computed in float32.

    Returns:
        tensor [..., d] of unit vectors; the mask is passed on.

    Raises:
        ValueError: kappa negative, num_caches not a whole number > 0, the last axis unknown or less than 2.

    Reference: kexue.fm/archives/8404, 8475.

    >>> z = K.eval(kexue_keras.layers.VonMisesFisherSampling(32.0)(K.constant([[3.0, 0.0, 4.0]])))
    >>> round(float(np.sum(z**2)), 4)
    1.0
    """

    def __init__(
        self,
        kappa: float,
        *,
        num_caches: int = 10**5,
        training_only: bool = False,
        seed: Optional[int] = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.kappa = checks.number(kappa, "kappa", "VonMisesFisherSampling", least=0)
        self.num_caches = checks.whole_number(num_caches, "num_caches", "VonMisesFisherSampling", least=1)
        self.training_only, self.seed = bool(training_only), seed

    def build(self, input_shape: Shape) -> None:
        size = tf.compat.dimension_value(tf.TensorShape(input_shape)[-1])
        if size is None or size < 2:
            raise ValueError(
                "VonMisesFisherSampling: the last axis must be known and at least 2, but the shape is %s"
                % (input_shape,)
            )
        self.cosines = vmf_cosines(size, self.kappa, self.num_caches).astype("float32")
        super().build(input_shape)

    def call(self, inputs: Tensor, training: Phase = None) -> Tensor:
        wide = widen(inputs)
        mu = tf.math.l2_normalize(wide, axis=-1, epsilon=1e-12)
        shape = tf.shape(mu)
        lots = tf.random.uniform(shape[:-1], 0, self.num_caches, dtype=tf.int32, seed=self.seed)
        w = tf.expand_dims(tf.gather(tf.constant(self.cosines, wide.dtype), lots), -1)
        noise = tf.random.normal(shape, dtype=wide.dtype, seed=None if self.seed is None else self.seed + 1)
        noise -= tf.reduce_sum(noise * mu, axis=-1, keepdims=True) * mu
        nu = tf.math.l2_normalize(noise, axis=-1, epsilon=1e-12)
        z = tf.cast(w * mu + tf.sqrt(tf.maximum(1 - tf.square(w), 0)) * nu, inputs.dtype)
        return K.in_train_phase(z, tf.cast(mu, inputs.dtype), training) if self.training_only else z

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        names = ("kappa", "num_caches", "training_only", "seed")
        return dict(super().get_config(), **{name: getattr(self, name) for name in names})
