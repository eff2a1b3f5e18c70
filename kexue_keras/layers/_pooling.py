"""One vector per text: pooling of the hidden states over the tokens that are no padding.

Reference: "无监督语义相似度哪家强？我们做了个比较全面的评测", kexue.fm/archives/8321 (P1 and P3).
"""

from typing import Any

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import keras, register
from kexue_keras.types import Config, Mask, Shape, Tensor

POOLINGS = ("mean", "cls", "max")


@register
class SequencePooling(keras.layers.Layer):
    """One vector per text from the hidden states of its tokens.

    mean: sum_t m_t h_t / sum_t m_t; max: the largest h_t among m_t = 1; cls: h_0.

    Args:
        mode: 'mean', 'max' or 'cls'.

    Input: `[B, n, d]`, with Keras mask `[B, n]` or none. Output: `[B, d]`, same dtype.

    >>> x = K.constant([[[1.], [3.], [50.]]])
    >>> K.eval(kexue_keras.layers.SequencePooling('mean').call(x, mask=K.constant([[1, 1, 0]])))
    array([[2.]], dtype=float32)
    """

    def __init__(self, mode: str = "mean", **kwargs: Any) -> None:
        super(SequencePooling, self).__init__(**kwargs)
        self.mode = checks.choice(mode, POOLINGS, "mode", "SequencePooling")
        self.supports_masking = True

    def call(self, inputs: Tensor, mask: Mask = None) -> Tensor:
        if self.mode == "cls":
            return inputs[:, 0]
        # Sums over 512 float16 values lose digits, so they run in float32.
        x = tf.cast(inputs, "float32")
        mask = tf.ones_like(x[..., :1]) if mask is None else tf.cast(mask, "float32")[..., None]
        if self.mode == "mean":
            pooled = tf.reduce_sum(x * mask, axis=1) / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)
        else:
            lowest = tf.fill(tf.shape(x), x.dtype.min)
            pooled = tf.reduce_max(tf.where(tf.broadcast_to(mask > 0, tf.shape(x)), x, lowest), axis=1)
        return tf.cast(pooled, inputs.dtype)

    def compute_mask(self, inputs: Tensor, mask: Mask = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2])

    def get_config(self) -> Config:
        return dict(super(SequencePooling, self).get_config(), mode=self.mode)
