"""Latent variables of an autoencoder besides the von Mises-Fisher one: Gaussian with its KL divergence, and VQ.

Reference: "变分自编码器（一）：原来是这么一回事", kexue.fm/archives/5253; VQ-VAE, kexue.fm/archives/6760, arXiv
1711.00937; both are compared with the sphere in "UniVAE", kexue.fm/archives/8475.
"""

from typing import Any, List, Optional

import tensorflow as tf
from bert4keras.layers import Layer

from kexue_keras import checks
from kexue_keras.backend import keras, register, widen
from kexue_keras.layers._masking import last_dimension
from kexue_keras.types import Config, Shape, Tensor


@register
class GaussianSampling(Layer):
    """z = mu + sigma eps, with the KL divergence from the standard normal distribution.

    KL = sum_i (mu_i^2 + sigma_i^2 - log sigma_i^2 - 1) / 2, of each row. Unlike that of the von Mises-Fisher
    distribution with fixed kappa it can be made 0, by a code that says nothing (collapse): strong decoders do so.

    Args:
        seed: int or None.

    Call arguments:
        float tensor [..., 2 d], mu and then log sigma^2. Half precision is computed in float32.

    Returns:
        list: z [..., d], and KL [...] in nats, float32.

    Raises:
        ValueError: the last axis is unknown or odd.

    Reference: kexue.fm/archives/5253; arXiv 1312.6114.

    >>> z, kl = kexue_keras.layers.GaussianSampling()(K.constant([[0.0, 2.0, 0.0, 0.0]]))
    >>> K.int_shape(z), K.eval(kl).tolist()
    ((1, 2), [2.0])
    """

    def __init__(self, *, seed: Optional[int] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seed = seed

    def build(self, input_shape: Shape) -> None:
        size = last_dimension(input_shape, "GaussianSampling")
        if size % 2:
            raise ValueError(
                "GaussianSampling: the last axis holds the mean and the logarithm of the variance, so its size must be "
                "even, but it is %d" % size
            )
        super().build(input_shape)

    def call(self, inputs: Tensor) -> List[Tensor]:
        mean, log_variance = tf.split(widen(inputs), 2, axis=-1)
        kl = tf.reduce_sum(tf.square(mean) + tf.exp(log_variance) - log_variance - 1, axis=-1) / 2
        noise = tf.random.normal(tf.shape(mean), dtype=mean.dtype, seed=self.seed)
        return [tf.cast(mean + tf.exp(log_variance / 2) * noise, inputs.dtype), kl]

    def compute_output_shape(self, input_shape: Shape) -> List[Shape]:
        return [tuple(input_shape[:-1]) + (input_shape[-1] // 2,), tuple(input_shape[:-1])]

    def compute_mask(self, inputs: Tensor, mask: Optional[Tensor] = None) -> List[None]:
        return [None, None]

    def get_config(self) -> Config:
        return dict(super().get_config(), seed=self.seed)


@register
class VectorQuantization(Layer):
    """The nearest row of a learned table, with the gradient passed straight through to the input.

    z = x + stop(e - x), e the row with the least |x - e|^2; the loss is |stop(x) - e|^2 + commitment |x - stop(e)|^2:
    the first part moves the table, the second keeps the inputs near it.

    Args:
        num_codes: int, rows of the table.
        commitment: number >= 0.

    Call arguments:
        float tensor [..., d]. Half precision is computed in float32.

    Returns:
        list: z [..., d], and the loss [...], float32.

    Raises:
        ValueError: num_codes is no whole number > 0, commitment is negative, the last axis is unknown.

    Reference: kexue.fm/archives/6760 (VQ-VAE的简明介绍：量子化自编码器); arXiv 1711.00937.

    >>> z, loss = kexue_keras.layers.VectorQuantization(8)(K.constant([[0.1, 0.2], [0.0, 0.3]]))
    >>> K.int_shape(z), K.int_shape(loss)
    ((2, 2), (2,))
    """

    def __init__(self, num_codes: int, *, commitment: float = 0.25, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_codes = checks.whole_number(num_codes, "num_codes", "VectorQuantization", least=1)
        self.commitment = checks.number(commitment, "commitment", "VectorQuantization", least=0)

    def build(self, input_shape: Shape) -> None:
        size = last_dimension(input_shape, "VectorQuantization")
        # Rows of about unit length: the differences between codes must exceed the initial noise.
        self.codebook = self.add_weight(
            name="codebook",
            shape=(self.num_codes, size),
            initializer=keras.initializers.RandomNormal(stddev=size**-0.5),
        )
        super().build(input_shape)

    def call(self, inputs: Tensor) -> List[Tensor]:
        wide = widen(inputs)
        table = tf.cast(self.codebook, wide.dtype)
        # |x|^2 is the same for all rows of the table.
        distances = tf.reduce_sum(tf.square(table), axis=-1) - 2 * tf.tensordot(wide, table, [[-1], [-1]])
        nearest = tf.gather(table, tf.argmin(distances, axis=-1))
        loss = tf.reduce_sum(tf.square(tf.stop_gradient(wide) - nearest), axis=-1)
        loss += self.commitment * tf.reduce_sum(tf.square(wide - tf.stop_gradient(nearest)), axis=-1)
        return [tf.cast(wide + tf.stop_gradient(nearest - wide), inputs.dtype), loss]

    def compute_output_shape(self, input_shape: Shape) -> List[Shape]:
        return [tuple(input_shape), tuple(input_shape[:-1])]

    def compute_mask(self, inputs: Tensor, mask: Optional[Tensor] = None) -> List[None]:
        return [None, None]

    def get_config(self) -> Config:
        return dict(super().get_config(), num_codes=self.num_codes, commitment=self.commitment)
