"""Cross-entropy over the positions that are to be predicted: MLM, PET, sequence to sequence.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; Schick and Schütze, arXiv
2001.07676 (pattern-exploiting training).
"""

from typing import Any, Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register, widen
from kexue_keras.checks import require, require_rank, require_same_shape, static_length, warn_if_probabilities
from kexue_keras.numerics import log_probability
from kexue_keras.types import Tensor, TensorLike

NORMALIZATIONS = ("batch", "sample", "sum")
# The largest integer below which all integers can be represented.
_EXACT = {tf.float16: 2048, tf.bfloat16: 256}


def token_losses(y_true, y_pred, mask, from_logits, ignore, loss):
    """Cross-entropies [batch, n], 0 where nothing is predicted, and the mask [batch, n] as floats."""
    y_pred = require_rank(y_pred, 3, loss, "y_pred [batch, n, vocabulary]")
    y_true = tf.convert_to_tensor(y_true)
    classes = static_length(y_pred, 2)
    if y_true.dtype in _EXACT and (classes is None or classes - 1 > _EXACT[y_true.dtype]):
        raise ValueError(
            "%s: the labels arrive as %s, which holds integers up to %d only, but the vocabulary has %s ids; make "
            "the model's output float32 (Keras gives the labels its dtype)"
            % (loss, y_true.dtype.name, _EXACT[y_true.dtype], classes)
        )
    if y_true.shape.rank is None:
        y_true = tf.reshape(y_true, tf.shape(y_pred)[:2])
    elif y_true.shape.rank == 3:  # Keras makes the placeholder of the labels of the rank of y_pred
        y_true = require(
            tf.equal(static_length(y_true, 2) or tf.shape(y_true)[2], 1),
            "%s: y_true holds one id per position, [batch, n] or [batch, n, 1], but its shape is" % loss,
            [tf.shape(y_true)],
            then=y_true,
        )
        y_true = y_true[:, :, 0]
    y_true, _ = require_same_shape(y_true, y_pred[:, :, 0], loss, ("y_true", "y_pred without its last axis"))
    y_true = tf.cast(y_true, tf.int32)
    if mask is None:
        mask = tf.fill(tf.shape(y_true), True) if ignore is None else tf.not_equal(y_true, ignore)
    else:
        mask = tf.cast(tf.convert_to_tensor(mask), tf.bool)
        _, mask = require_same_shape(y_true, mask, loss, ("y_true", "mask"))

    # Only the predicted positions are cast, exponentiated and summed: with 15% of them that saves most of the work,
    # and what stands elsewhere (-inf, NaN) cannot get in.
    where = tf.where(mask)
    labels = tf.gather_nd(y_true, where)
    labels = require(
        (labels >= 0) & (labels < tf.shape(y_pred)[2]),
        "%s: labels must be ids from 0 to vocabulary - 1, but (smallest, largest, vocabulary) are" % loss,
        [tf.reduce_min(labels), tf.reduce_max(labels), tf.shape(y_pred)[2]],
        then=labels,
    )
    rows = widen(tf.gather_nd(y_pred, where))
    picked = tf.gather_nd(rows, tf.stack([tf.range(tf.size(labels)), labels], axis=1))
    if from_logits:
        values = tf.reduce_logsumexp(rows, axis=-1) - picked
    else:
        values = -log_probability(picked)
    shape = tf.shape(mask, out_type=tf.int64)
    return tf.scatter_nd(where, values, shape), tf.cast(mask, values.dtype)


def scales(mask, normalization):
    """What each sample's sum is multiplied by, [batch] or scalar."""
    if normalization == "sample":
        return 1.0 / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)
    if normalization == "batch":
        return tf.cast(tf.shape(mask)[0], mask.dtype) / tf.maximum(tf.reduce_sum(mask), 1.0)
    return tf.ones([], mask.dtype)


@register
def masked_crossentropy(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    mask: Optional[TensorLike] = None,
    from_logits: bool = True,
    ignore: Optional[int] = 0,
    normalization: str = "batch",
) -> Tensor:
    """Cross-entropy over the positions to be predicted, one value per sample.

    L = sum_j m_j CE_j / sum_j m_j, over the whole batch or sample by sample; 0 if there is no such position.

    Args:
        y_true: integer ids [batch, n] (or [batch, n, 1]; floats with integer values are taken as Keras feeds them).
        y_pred: logits [batch, n, vocabulary] (probabilities if `from_logits` is False). -inf logits are allowed.
        mask: boolean or number [batch, n], true where a token is to be predicted; without it, where
            y_true != ignore.
        from_logits: bool; bert4keras gives logits with `with_mlm="linear"`, probabilities with `with_mlm=True`.
        ignore: int, the label of positions that are not predicted, or None if all are; only used without `mask`.
        normalization: "batch": sum over the batch / number of predicted tokens of the batch (the article's), each
            sample holding its part times the batch size, so that the mean of the values is that quotient;
            "sample": each sample's mean over its own tokens, so that short targets count as much as long ones;
            "sum": each sample's sum.

    Returns:
        float tensor [batch].

    Raises:
        ValueError: wrong shapes, an unknown normalization, or labels in a half-precision dtype that cannot hold them.

    Reference: kexue.fm/archives/7764; arXiv 2001.07676.

    >>> logits = K.log(K.constant([[[0.1, 0.2, 0.7], [0.5, 0.25, 0.25]], [[0.3, 0.3, 0.4], [0.2, 0.2, 0.6]]]))
    >>> loss = kexue_keras.losses.masked_crossentropy([[2, 0], [0, 0]], logits)
    >>> round(float(K.eval(K.mean(loss))), 4)  # -log 0.7
    0.3567
    """
    checks.choice(normalization, NORMALIZATIONS, "normalization", "masked_crossentropy")
    if from_logits:
        warn_if_probabilities(y_pred, "masked_crossentropy")
    values, mask = token_losses(y_true, y_pred, mask, from_logits, ignore, "masked_crossentropy")
    return tf.reduce_sum(values, axis=1) * scales(mask, normalization)


def _token_values(y_true, y_pred, *, from_logits, ignore, normalization):
    """[batch, n]; their mean is the mean of `masked_crossentropy`."""
    if from_logits:
        warn_if_probabilities(y_pred, "MaskedCrossentropy")
    values, mask = token_losses(y_true, y_pred, None, from_logits, ignore, "MaskedCrossentropy")
    factors = scales(mask, normalization) * tf.cast(tf.shape(values)[1], values.dtype)
    return values * (factors[:, None] if normalization == "sample" else factors)


@register
class MaskedCrossentropy(FunctionLoss):
    """Cross-entropy over the positions where y_true != ignore, as a Keras loss.

    L = sum_j m_j CE_j / sum_j m_j; 0 if nothing is to be predicted.

    It returns one value per token to Keras, [batch, n], scaled so that their mean is that of `masked_crossentropy`.
    So it takes `sample_weight` [batch] as well as [batch, n] (sample_weight_mode="temporal"), and works with the
    padding mask that bert4keras models pass on.

    Args:
        from_logits: bool, y_pred [batch, n, vocabulary] are logits (`with_mlm="linear"`), not probabilities.
        ignore: int, the label of positions that are not predicted; None: all are.
        normalization: "batch" (the article's), "sample" or "sum", see `masked_crossentropy`. Weights are not part
            of the divisor.
        reduction, name: as in `keras.losses.Loss`.

    Raises:
        ValueError: unknown normalization, or shapes as in `masked_crossentropy`.

    Reference: kexue.fm/archives/7764; arXiv 2001.07676.

    >>> logits = K.constant([[[0.0, 0.0, 5.0], [5.0, 0.0, 0.0]]])
    >>> round(float(K.eval(kexue_keras.losses.MaskedCrossentropy()(K.constant([[2, 0]]), logits))), 4)
    0.0134
    """

    def __init__(
        self,
        from_logits: bool = True,
        *,
        ignore: Optional[int] = 0,
        normalization: str = "batch",
        name: str = "masked_crossentropy",
        **kwargs: Any,
    ) -> None:
        checks.choice(normalization, NORMALIZATIONS, "normalization", "MaskedCrossentropy")
        super().__init__(
            _token_values,
            name=name,
            from_logits=bool(from_logits),
            ignore=ignore,
            normalization=normalization,
            **kwargs,
        )
