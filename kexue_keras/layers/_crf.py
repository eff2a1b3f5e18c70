"""Linear-chain conditional random field: scores of transitions in addition to those of the tags.

Reference: "简明条件随机场CRF介绍（附带纯Keras实现）", kexue.fm/archives/5542, and "你的CRF层的学习率可能不够大",
kexue.fm/archives/7196; Lafferty, McCallum and Pereira 2001.
"""

from typing import Any

import tensorflow as tf

from kexue_keras.backend import keras, register, widen
from kexue_keras.types import Config, Mask, Shape, Tensor


@register
class LinearChainCRF(keras.layers.Layer):
    r"""Puts the scores of a chain in front of the scores of its tags, for `losses.crf_negative_log_likelihood`.

    $$s(y)=a_{y_1}+\sum_t h_t(y_t)+\sum_{t>1} G_{y_{t-1},y_t}+b_{y_n}$$

    bert4keras' `ConditionalRandomField` keeps G inside, so its loss is a method of the layer, and a saved model
    loads with `compile=False` only. Here the output has all that the loss needs: row 0 is a (the first tag), row 1 is b
    (the last tag), rows 2 to C + 1 are G (row: the tag before), and then the rows of h follow. a, b and G start as
    zeros.

    G needs a larger learning rate than the encoder (`optimizers.LayerwiseLearningRate`, by the layer's name).

    Input: `[B, n, C]`, scores of C tags (logits). Output: `[B, C + 2 + n, C]`, float32 at least. A mask stops here:
    the labels say which positions count.

    Reference: kexue.fm/archives/5542, 7196.

    >>> layer = kexue_keras.layers.LinearChainCRF()
    >>> K.int_shape(layer(keras.layers.Input((None, 5)))), K.int_shape(layer(keras.layers.Input((7, 5))))
    ((None, None, 5), (None, 14, 5))
    """

    def __init__(self, **kwargs: Any) -> None:
        super(LinearChainCRF, self).__init__(**kwargs)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        tags = tf.compat.dimension_value(tf.TensorShape(input_shape)[-1])
        if tags is None:
            raise ValueError("%s: the last axis must be known, but the shape is %s" % (self.name, input_shape))
        # float32 also where Keras computes in half precision.
        how = dict(initializer="zeros", dtype="float32")
        self.start = self.add_weight(name="start", shape=(tags,), **how)
        self.end = self.add_weight(name="end", shape=(tags,), **how)
        self.transitions = self.add_weight(name="transitions", shape=(tags, tags), **how)
        super(LinearChainCRF, self).build(input_shape)

    def call(self, inputs: Tensor, mask: Mask = None) -> Tensor:
        scores = widen(inputs)
        chain = tf.concat([self.start[None], self.end[None], self.transitions], axis=0)
        # A copy for each sample, so that the loss is a function of the sample's output alone.
        chain = tf.tile(tf.cast(chain, scores.dtype)[None], tf.stack([tf.shape(scores)[0], 1, 1]))
        return tf.concat([chain, scores], axis=1)

    def compute_mask(self, inputs: Tensor, mask: Mask = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, length, tags = tf.TensorShape(input_shape).as_list()
        return (batch, None if length is None else length + tags + 2, tags)

    def get_config(self) -> Config:
        return super(LinearChainCRF, self).get_config()
