"""What UniVAE puts between the layers of a Transformer: its masks, the latent in place of [CLS], positions of a target.

Reference: "UniVAE：基于Transformer的单模型、多尺度的VAE模型", kexue.fm/archives/8475.
"""

from typing import Any, List, Optional

import tensorflow as tf
from bert4keras import layers as parts

from kexue_keras.backend import register, tf1
from kexue_keras.types import Config, Shape, Tensor

# By the ends of these names decoding knows which attentions see the latent.
CLOSED, OPEN = "Attention-UniAE-Closed-Mask", "Attention-UniAE-Open-Mask"


@register
class UniAEMask(parts.Layer):
    """Who sees whom: each text only itself, the second one only backwards; in an open layer all see the first token.

    allowed(i, j) = (s_i = s_j and c_j <= c_i) or (open and j = 0), c the running sum of the segment ids s.

    Args:
        opened: bool.

    Call arguments:
        segment ids [B, n], 0 for the source and 1 for the target.

    Returns:
        bool tensor [B, n, n].

    >>> layer = UniAEMask(True)
    >>> K.eval(layer(K.constant([[0, 0, 1, 1]]))).astype(int).tolist()
    [[[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 1, 1]]]
    """

    def __init__(self, opened: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.opened = bool(opened)

    def call(self, inputs: Tensor) -> Tensor:
        segments = tf.cast(inputs, tf.int32)
        order = tf.cumsum(segments, axis=1)
        same = tf.equal(segments[:, None, :], segments[:, :, None])
        allowed = tf.logical_and(same, order[:, None, :] <= order[:, :, None])
        if not self.opened:
            return allowed
        return tf.logical_or(allowed, tf.equal(tf.range(tf.shape(segments)[1]), 0)[None, None])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape[:2]) + (input_shape[1],)

    def compute_mask(self, inputs: Tensor, mask: Optional[Tensor] = None) -> None:
        return None

    def get_config(self) -> Config:
        return dict(super().get_config(), opened=self.opened)


@register
class FirstToken(parts.Layer):
    """x[:, 0].

    >>> K.int_shape(FirstToken()(K.zeros([2, 5, 3])))
    (2, 3)
    """

    def call(self, inputs: Tensor) -> Tensor:
        return inputs[:, 0]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], input_shape[2])

    def compute_mask(self, inputs: Tensor, mask: Optional[Tensor] = None) -> None:
        return None


@register
class UnitLength(parts.Layer):
    """x / |x|, where it stands in for a sample of the sphere.

    >>> K.eval(UnitLength()(K.constant([[3.0, 4.0]]))).round(2).tolist()
    [[0.6000000238418579, 0.800000011920929]]
    """

    def call(self, inputs: Tensor) -> Tensor:
        return tf.math.l2_normalize(inputs, axis=-1, epsilon=1e-12)


@register
class Columns(parts.Layer):
    """Columns start to stop of each row [B, d].

    >>> K.eval(Columns(1, 3)(K.constant([[0, 1, 2, 3]]))).tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, start: int, stop: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.start, self.stop = start, stop

    def call(self, inputs: Tensor) -> Tensor:
        return inputs[:, self.start : self.stop]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (input_shape[0], self.stop - self.start)

    def get_config(self) -> Config:
        return dict(super().get_config(), start=self.start, stop=self.stop)


@register
class ReplaceFirst(parts.Layer):
    """[x, z] -> x with z in place of its first token.

    >>> K.eval(ReplaceFirst()([K.zeros([1, 2, 1]), K.constant([[5.0]])])).tolist()
    [[[5.0], [0.0]]]
    """

    def call(self, inputs: List[Tensor]) -> Tensor:
        x, first = inputs
        return tf.concat([first[:, None], x[:, 1:]], axis=1)

    def compute_output_shape(self, input_shape: List[Shape]) -> Shape:
        return input_shape[0]

    def compute_mask(self, inputs: List[Tensor], mask: Optional[List[Optional[Tensor]]] = None) -> Optional[Tensor]:
        return mask[0] if mask else None


def restarted_positions(segments):
    """Position ids in which the target follows [CLS] at once: 0, 1, ..., n-1 for the source, 1, 2, ... for the target.

    >>> K.eval(restarted_positions(K.constant([[0, 0, 0, 1, 1, 0]]))).tolist()
    [[0, 1, 2, 1, 2, 5]]
    """
    segments = tf.cast(segments, tf.int32)
    return tf1.where(tf.not_equal(segments, 0), tf.cumsum(segments, axis=1), positions_like(segments))


def positions_like(segments):
    """0, 1, 2, ... in the shape of `segments`."""
    return tf.zeros_like(segments) + tf.range(tf.shape(segments)[1])[None]


class _Restarting(object):
    """Laid over a position layer of bert4keras: the second input is segment ids, or (in decoding) position ids."""

    def call(self, inputs):
        x, second = inputs
        if self.custom_position_ids:
            return super().call(inputs)
        self.custom_position_ids = True
        try:
            return super().call([x, restarted_positions(second)])
        finally:
            self.custom_position_ids = False

    def compute_output_shape(self, input_shape):
        return super().compute_output_shape(input_shape[0])

    def compute_mask(self, inputs, mask=None):
        return mask[0] if mask else None


@register
class RestartingPositionEmbedding(_Restarting, parts.PositionEmbedding):
    """bert4keras' PositionEmbedding for [x, segment ids], with the positions of `restarted_positions`."""


@register
class RestartingSinusoidalPositionEmbedding(_Restarting, parts.SinusoidalPositionEmbedding):
    """bert4keras' SinusoidalPositionEmbedding for [x, segment ids], with the positions of `restarted_positions`."""
