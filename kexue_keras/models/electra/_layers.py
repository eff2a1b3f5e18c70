"""The step from ELECTRA's generator to its discriminator: sampled tokens in place of masked ones.

Reference: arXiv 2003.10555.
"""

from typing import Any, List

import tensorflow as tf
from bert4keras.layers import Layer

from kexue_keras import checks
from kexue_keras.backend import register, widen
from kexue_keras.training._randomness import own_key, uniform
from kexue_keras.types import Config, Shape, Tensor


@register
class SampledReplacement(Layer):
    """Tokens of a generator at the positions that were masked, and where they differ from the original.

    sample = argmax(logits / temperature + g), g Gumbel noise, which is a draw of softmax(logits / temperature); no
    gradient goes through. A token that is drawn right counts as original.

    Args:
        temperature: number > 0.

    Call arguments:
        list: token ids [B, n] with the hidden ones hidden, places [B, m], originals [B, m] (0 is padding), logits
        [B, m, V].

    Returns:
        list: token ids [B, n], and 1 where a token is not the original one, int32 [B, n].

    >>> from kexue_keras.models.electra._layers import SampledReplacement
    >>> sure = 1000 * np.eye(10)[[[6, 9]]]
    >>> tokens, replaced = SampledReplacement()([K.constant(x) for x in ([[5, 1, 7, 1]], [[1, 3]], [[6, 8]], sure)])
    >>> K.eval(tokens).tolist(), K.eval(replaced).tolist()
    ([[5, 6, 7, 9]], [[0, 0, 0, 1]])
    """

    def __init__(self, temperature: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.temperature = checks.number(temperature, "temperature", "SampledReplacement", above=0)

    def call(self, inputs: List[Tensor], mask: Any = None) -> List[Tensor]:
        tokens, places, originals = (tf.cast(tensor, tf.int32) for tensor in inputs[:3])
        logits = widen(inputs[3])
        drawn = tf.clip_by_value(uniform(tf.shape(logits), own_key()), 1e-30, 1 - 6e-8)
        gumbel = -tf.math.log(-tf.math.log(tf.cast(drawn, logits.dtype)))
        sampled = tf.argmax(logits / self.temperature + gumbel, axis=-1, output_type=tf.int32)
        is_hidden = tf.cast(originals > 0, tf.int32)
        # Differences are added, so that padding, which may point anywhere, changes nothing.
        change = is_hidden * (sampled - tf.gather(tokens, places, batch_dims=1))
        wrong = is_hidden * tf.cast(tf.not_equal(sampled, originals), tf.int32)
        rows = tf.tile(tf.range(tf.shape(places)[0])[:, None], [1, tf.shape(places)[1]])
        where, shape = tf.stack([rows, places], axis=-1), tf.shape(tokens)
        return [tokens + tf.scatter_nd(where, change, shape), tf.scatter_nd(where, wrong, shape)]

    def compute_output_shape(self, input_shape: List[Shape]) -> List[Shape]:
        return [input_shape[0], input_shape[0]]

    def compute_mask(self, inputs: List[Tensor], mask: Any = None) -> List[None]:
        return [None, None]

    def get_config(self) -> Config:
        return dict(super().get_config(), temperature=self.temperature)
