"""The head of Sentence-BERT: a pair of vectors u, v as features [u, v, |u - v|] for a classifier.

Reference: "用开源的人工标注数据来增强RoFormer-Sim", kexue.fm/archives/8541; InferSent, arXiv 1705.02364; Sentence-BERT, arXiv
1908.10084.
"""

import tensorflow as tf

from kexue_keras.backend import keras, register
from kexue_keras.checks import require, static_length
from kexue_keras.types import Model, Shape, Tensor


@register
class PairFeatures(keras.layers.Layer):
    """[u, v, |u - v|] of rows 2i and 2i+1, the same in both rows.

    Input: `[2P, d]`. Output: `[2P, 3d]`. It is not symmetric in u and v: in training exchange the rows of a pair at
    random.

    Reference: kexue.fm/archives/8541; arXiv 1705.02364, 1908.10084.

    >>> np.round(K.eval(PairFeatures()(K.constant([[1, 0], [.8, .6]]))), 1)
    array([[1. , 0. , 0.8, 0.6, 0.2, 0.6],
           [1. , 0. , 0.8, 0.6, 0.2, 0.6]], dtype=float32)
    """

    def call(self, inputs: Tensor) -> Tensor:
        rows = static_length(inputs, 0) or tf.shape(inputs)[0]
        inputs = require(
            tf.equal(rows % 2, 0),
            "PairFeatures: rows 2i and 2i+1 are a pair, so their number must be even, but it is",
            [rows],
            then=inputs,
        )
        u, v = inputs[::2], inputs[1::2]
        features = tf.concat([u, v, tf.abs(u - v)], axis=-1)
        width = 3 * int(inputs.shape[-1])
        return tf.reshape(tf.tile(features[:, None], [1, 2, 1]), [-1, width])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], 3 * input_shape[-1])


def pair_classifier(encoder: Model, num_classes: int, *, seed: int = 0) -> Model:
    """Keras model: sentence vectors of rows 2i and 2i+1, their features, and a dense layer without bias.

    Args:
        encoder: Keras model with vectors `[2P, d]` as output (`SentenceEncoder.model`).
        num_classes: number of logits, of all groups together.
        seed: int, start of the dense layer.

    Returns:
        Keras model with the encoder's inputs and logits `[2P, num_classes]`, the same in both rows of a pair.

    Reference: kexue.fm/archives/8541.
    """
    features = PairFeatures(name="pair_features")(encoder.output)
    start = keras.initializers.TruncatedNormal(stddev=0.02, seed=seed % 2**31)
    dense = keras.layers.Dense(
        num_classes, use_bias=False, kernel_initializer=start, name="pair_logits", dtype="float32"
    )
    return keras.models.Model(encoder.inputs, dense(features))
