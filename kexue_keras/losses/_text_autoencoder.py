"""The loss of a text autoencoder in one Transformer: the cross-entropy of the second text, and what its latents cost.

Reference: "UniVAE：基于Transformer的单模型、多尺度的VAE模型", kexue.fm/archives/8475.
"""

from typing import Any, List, Optional

import tensorflow as tf
from bert4keras.layers import Loss

from kexue_keras import checks
from kexue_keras.backend import register
from kexue_keras.losses._masked_lm import masked_crossentropy
from kexue_keras.types import Config, Tensor, TensorLike


def next_target_tokens(tokens: TensorLike, segments: TensorLike) -> Tensor:
    """What each position of [source ; target] predicts: the next token if it belongs to the target, else 0.

    The target's own start token and padding are no prediction: the first is the same in all texts, and so is the
    second once the end was written. (The article's script counts both.)

    Args:
        tokens: int [B, n], 0 is padding.
        segments: int [B, n], 1 for the target.

    Returns:
        int32 [B, n].

    Reference: kexue.fm/archives/8475.

    >>> K.eval(kexue_keras.losses.next_target_tokens([[2, 7, 3, 2, 7, 3, 0]], [[0, 0, 0, 1, 1, 1, 1]])).tolist()
    [[0, 0, 0, 7, 3, 0, 0]]
    """
    target = tf.cast(tf.not_equal(tf.cast(segments, tf.int32), 0), tf.int32)
    # A token that follows one of the target is no start token.
    following = tf.cast(tokens, tf.int32)[:, 1:] * target[:, 1:] * target[:, :-1]
    return tf.pad(following, [[0, 0], [0, 1]])


@register
class TextAutoencoderLoss(Loss):
    """-log p(target | z) + weight D, both summed over a text, divided by the mean number of predicted tokens.

    D is what the latents cost: the KL divergence of Gaussian ones, the loss of a codebook, nothing for von Mises-Fisher
    ones, whose divergence is a constant. With weight=1 and Gaussian latents it is the negative ELBO per token.

    A bert4keras `Loss`: it adds itself to the model, which is compiled without another one.

    Args:
        weight: number >= 0.
        output_axis: which of the inputs are passed on; the logits are number 2.

    Call arguments:
        list: token ids [B, n], segment ids [B, n], logits [B, n, V], and any number of costs [B].

    Reference: kexue.fm/archives/8475.

    >>> inputs = [keras.layers.Input((None,)), keras.layers.Input((None,)), keras.layers.Input((None, 9))]
    >>> K.int_shape(kexue_keras.losses.TextAutoencoderLoss()(inputs))
    (None, None, 9)
    """

    def __init__(self, *, weight: float = 1.0, output_axis: Any = 2, **kwargs: Any) -> None:
        super().__init__(output_axis, **kwargs)
        self.weight = checks.number(weight, "weight", "TextAutoencoderLoss", least=0)

    def compute_loss(self, inputs: List[Tensor], mask: Optional[Any] = None) -> Tensor:
        tokens, segments, logits = inputs[:3]
        labels = next_target_tokens(tokens, segments)
        losses = masked_crossentropy(labels, logits, ignore=0, normalization="sum")
        count = tf.maximum(tf.reduce_sum(tf.cast(tf.not_equal(labels, 0), losses.dtype)), 1)
        total = tf.reduce_sum(losses)
        for cost in inputs[3:]:
            total += self.weight * tf.reduce_sum(tf.cast(cost, losses.dtype))
        return total / count

    def get_config(self) -> Config:
        return dict(super().get_config(), weight=self.weight)
