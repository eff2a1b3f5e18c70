"""The loss of ELECTRA's pretraining, and what a discriminator that has learned nothing gets.

用ALBERT和ELECTRA之前，请确认你真的了解它们, kexue.fm/archives/7846; paper: arXiv 2003.10555.
"""

from typing import Any, List, Optional, Union

import numpy as np
import tensorflow as tf
from bert4keras.layers import Loss
from scipy.special import entr

from kexue_keras import checks
from kexue_keras.backend import register, widen
from kexue_keras.losses._masked_lm import masked_crossentropy
from kexue_keras.types import Array, Config, Tensor


def constant_guess_loss(accuracy: Union[float, Array], mask_rate: float = 0.15) -> Union[float, Array]:
    """Mean cross-entropy of a discriminator that gives every token the same probability, the share of replaced ones.

    H(p) = -p log p - (1 - p) log(1 - p), p = mask_rate (1 - accuracy). With a good generator there is little to find:
    a loss of .27 is nothing to be proud of if half of its tokens are right.

    Args:
        accuracy: share of the hidden tokens that the generator samples right, number or array.
        mask_rate: share of tokens that are hidden.

    Returns:
        nats per token, float or array.

    Raises:
        ValueError: numbers outside [0, 1].

    Reference: kexue.fm/archives/7846.

    >>> [round(float(kexue_keras.losses.constant_guess_loss(accuracy)), 5) for accuracy in (0, .5, .9)]
    [0.42271, 0.26638, 0.07788]
    """
    accuracy = np.asarray(accuracy, "float64")
    if not ((accuracy >= 0) & (accuracy <= 1)).all() or not 0 <= mask_rate <= 1:
        raise ValueError(
            "constant_guess_loss: accuracy is %r and mask_rate %r; both are shares between 0 and 1"
            % (accuracy.tolist(), mask_rate)
        )
    p = mask_rate * (1 - accuracy)
    return (entr(p) + entr(1 - p))[()]


def replaced_token_losses(replaced, logits, tokens):
    """Binary cross-entropies [B, n], 0 at padding, and the mask [B, n] as floats.

    Args:
        replaced: int [B, n].
        logits: [B, n, 1].
        tokens: int [B, n], 0 is padding.
    """
    logits = widen(logits)[:, :, 0]
    mask = tf.cast(tf.not_equal(tokens, 0), logits.dtype)
    labels = tf.cast(replaced, logits.dtype)
    # Selected before the product: what stands at padding may be infinite.
    logits = tf.where(mask > 0, logits, tf.zeros_like(logits))
    return mask * tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), mask


@register
class ElectraLoss(Loss):
    """L_MLM + weight L_disc: the generator's cross-entropy per masked token, and the discriminator's per token.

    A bert4keras `Loss`: it adds itself to the model, which is compiled without another one.

    Args:
        disc_weight: number >= 0, 50 in the paper: the discriminator's loss is small, since most tokens are easy.
        output_axis: which of the inputs are passed on; the discriminator's logits are number 4.

    Call arguments:
        list: originals [B, m] (0 is padding), the generator's logits [B, m, V], the tokens that the discriminator sees
        [B, n], which of them were replaced [B, n], its logits [B, n, 1].

    Reference: kexue.fm/archives/7846; arXiv 2003.10555.

    >>> shapes = [(None,), (None, 9), (None,), (None,), (None, 1)]
    >>> K.int_shape(kexue_keras.losses.ElectraLoss()([keras.layers.Input(shape) for shape in shapes]))
    (None, None, 1)
    """

    def __init__(self, *, disc_weight: float = 50.0, output_axis: Any = 4, **kwargs: Any) -> None:
        super().__init__(output_axis, **kwargs)
        self.disc_weight = checks.number(disc_weight, "disc_weight", "ElectraLoss", least=0)

    def compute_loss(self, inputs: List[Tensor], mask: Optional[Any] = None) -> Tensor:
        originals, generated, tokens, replaced, found = inputs
        words = tf.reduce_sum(masked_crossentropy(originals, generated, ignore=0, normalization="sum"))
        count = tf.reduce_sum(tf.cast(tf.not_equal(tf.cast(originals, tf.int32), 0), words.dtype))
        losses, present = replaced_token_losses(replaced, found, tokens)
        discriminator = tf.reduce_sum(losses) / tf.maximum(tf.reduce_sum(present), 1)
        return words / tf.maximum(count, 1) + self.disc_weight * tf.cast(discriminator, words.dtype)

    def get_config(self) -> Config:
        return dict(super().get_config(), disc_weight=self.disc_weight)
