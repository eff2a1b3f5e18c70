"""n classifications of m classes each in one loss, balanced against each other (experimental).

不成功的尝试：将多标签交叉熵推广到“n个m分类”上去, kexue.fm/archives/9158. No paper; the author calls it unsuccessful.
"""

from typing import Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register, widen
from kexue_keras.checks import require, require_rank, require_same_shape, warn_if_probabilities
from kexue_keras.numerics import masked_logsumexp, softplus
from kexue_keras.types import Tensor, TensorLike

_FORMS = ("analogy", "centered")


@register
def multi_softmax_crossentropy(
    y_true: TensorLike, y_pred: TensorLike, *, mask: Optional[TensorLike] = None, form: str = "analogy"
) -> Tensor:
    r"""Experimental: joint cross-entropy of n classifications with m classes each.

    analogy: $\sum_j\log\big(1+\sum_i\sum_{k\ne j}t_{ij}e^{s_{ik}-s_{ij}}\big)$, for hard labels.
    centered: $\sum_j\log\big(1+\sum_i t_{ij}e^{\bar s_i-s_{ij}}\big)$, whose minimum is t = softmax(s), but which for
    hard labels may be satisfied before the right class is the largest.

    A class that is right in N of the n classifications counts about log N instead of N. The author of the article
    calls the generalisation unsuccessful; for n = 1 and hard labels "analogy" is the ordinary cross-entropy.

    Args:
        y_true: [batch, n, m], in [0, 1]; every [m] sums to 1, or is all 0 (padding).
        y_pred: [batch, n, m], logits. -inf removes a class.
        mask: boolean [batch, n]; False removes a classification.
        form: "analogy" or "centered".

    Returns:
        [batch], float32 (float64 for float64 logits).

    Raises:
        ValueError: an unknown form, wrong shapes, or constant labels that are not distributions (fed ones: an
            assertion op).

    Reference: kexue.fm/archives/9158 (不成功的尝试：将多标签交叉熵推广到“n个m分类”上去); no paper.

    >>> loss = kexue_keras.losses.multi_softmax_crossentropy(
    ...     [[[1., 0., 0.], [0., 1., 0.]]], [[[1., .2, -.5], [.3, .8, -1.]]])
    >>> print(K.eval(loss).round(4))
    [1.0863]
    """
    name = "multi_softmax_crossentropy"
    checks.choice(form, _FORMS, "form", name)
    y_pred = require_rank(y_pred, 3, name, "y_pred [batch, n, m]")
    warn_if_probabilities(y_pred, name)
    logits = widen(y_pred)
    targets = _distributions(widen(y_true), mask, name)
    targets, logits = require_same_shape(tf.cast(tf.stop_gradient(targets), logits.dtype), logits, name)
    # Not "is finite": NaN must come through.
    taking_part = tf.not_equal(logits, -float("inf"))
    logits = tf.where(taking_part, logits, tf.zeros_like(logits))
    if form == "analogy":
        others, known = _logsumexp_of_others(logits, taking_part)
    else:
        count = tf.reduce_sum(tf.cast(taking_part, logits.dtype), -1, keepdims=True)
        others = tf.reduce_sum(logits, -1, keepdims=True) / tf.maximum(count, 1.0) + tf.zeros_like(logits)
        known = tf.ones_like(taking_part)
    used = tf.logical_and(tf.logical_and(taking_part, known), targets > 0)
    terms = tf.math.log(tf.where(used, targets, tf.ones_like(targets))) + others - logits
    sums, any_used = masked_logsumexp(terms, used, 1, keepdims=True)
    return tf.reduce_sum(tf.where(any_used, softplus(sums), tf.zeros_like(sums)), [1, 2])


@register
class MultiSoftmaxCrossentropy(FunctionLoss):
    """`multi_softmax_crossentropy` with its form, for `model.compile` (experimental).

    Args:
        form: "analogy" or "centered".
        name: str.
        reduction: as in `keras.losses.Loss`.

    Reference: kexue.fm/archives/9158 (不成功的尝试：将多标签交叉熵推广到“n个m分类”上去); no paper.

    >>> loss = kexue_keras.losses.MultiSoftmaxCrossentropy(form="centered")
    >>> round(float(K.eval(loss(tf.constant([[[1., 0.], [0., 1.]]]), tf.zeros([1, 2, 2])))), 4)
    1.3863
    """

    def __init__(
        self, *, form: str = "analogy", name: str = "multi_softmax_crossentropy", reduction: str = "sum_over_batch_size"
    ) -> None:
        checks.choice(form, _FORMS, "form", "MultiSoftmaxCrossentropy")
        super().__init__(multi_softmax_crossentropy, name=name, reduction=reduction, form=form)


def _distributions(targets, mask, name):
    """`targets`, checked, with zeros where `mask` is False."""
    message = "%s: the labels of each classification must sum to 1, or be all 0 for padding. Sums:" % name
    targets = require_rank(targets, 3, name, "y_true [batch, n, m]")
    if mask is not None:
        mask = tf.cast(require_rank(mask, 2, name, "mask [batch, n]"), tf.bool)
        mask = tf.logical_and(mask[:, :, None], tf.ones_like(targets, tf.bool))
        targets = tf.where(mask, targets, tf.zeros_like(targets))
    known = tf.get_static_value(targets)
    if known is not None:
        sums = known.sum(-1)
        # Half-precision labels are off by up to 1e-3.
        good = bool(((abs(sums - 1) < 1e-2) | (sums == 0)).all() and (known >= 0).all())
    else:
        sums = tf.reduce_sum(targets, -1)
        good = tf.logical_or(tf.abs(sums - 1.0) < 1e-2, tf.equal(sums, 0.0))
        good = tf.logical_and(good, tf.reduce_all(targets >= 0, -1))
    return require(good, message, [sums], then=targets)


def _logsumexp_of_others(logits, taking_part):
    """For each j the logsumexp over all k != j, and whether there is any such k."""
    # log(sum - exp(s_j)) cancels only where j holds most of the sum, which only the largest can; the others are
    # summed without it there. So no [m, m] tensor is needed.
    lowest = tf.fill(tf.shape(logits), logits.dtype.min)
    largest = tf.one_hot(tf.argmax(tf.where(taking_part, logits, lowest), -1), tf.shape(logits)[-1])
    largest = largest > 0
    without, any_without = masked_logsumexp(
        logits, tf.logical_and(taking_part, tf.logical_not(largest)), -1, keepdims=True
    )
    everything, _ = masked_logsumexp(logits, taking_part, -1, keepdims=True)
    rest = tf.logical_and(taking_part, tf.logical_not(largest))
    share = tf.exp(tf.where(rest, logits - everything, -1e4 * tf.ones_like(logits)))
    values = tf.where(largest, without + tf.zeros_like(logits), everything + tf.math.log1p(-share))
    return values, tf.where(largest, tf.logical_and(any_without, largest), tf.ones_like(largest))
