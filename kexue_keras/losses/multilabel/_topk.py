"""Multi-label classification with a known number k of right classes: the k largest are the answer.

将“Softmax+交叉熵”推广到多标签分类问题, kexue.fm/archives/7359. The pairwise form with scale and margin is equation (1)
of Circle loss, arXiv 2002.10857.
"""

from typing import Optional

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register, widen
from kexue_keras.checks import require, require_same_shape, warn_if_probabilities
from kexue_keras.losses._labels import as_classes, class_count, multi_hot
from kexue_keras.losses.multilabel._crossentropy import check_scale, in_unit_interval, masked_logits
from kexue_keras.numerics import masked_logsumexp, softplus
from kexue_keras.types import Tensor, TensorLike


@register
def pairwise_multilabel_crossentropy(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    mask: Optional[TensorLike] = None,
    from_sparse: bool = False,
    mask_zero: bool = False,
    mask_below: float = -1e7,
    gamma: float = 1.0,
    margin: float = 0.0,
) -> Tensor:
    r"""Every right class above every wrong one: for a known number of right classes, with no threshold.

    $$\log\Big(1+\sum_{i,j}(1-t_i)\,t_j\,e^{\gamma(s_i-s_j+m)}\Big)$$

    With one right class, gamma = 1 and m = 0 it is the softmax cross-entropy. The answer is
    `decode_multilabel(logits, k=k)`.

    Args:
        y_true: [..., classes] in [0, 1], with soft labels as weights; with `from_sparse` [..., P] class numbers.
        y_pred: [..., classes], logits.
        mask: boolean, broadcastable to y_pred; False removes a class. Logits of -inf do the same.
        from_sparse: bool, y_true are class numbers, repeated ones count once.
        mask_zero: bool, only with `from_sparse`: class number 0 is padding and class 0 takes no part.
        mask_below: float; logits up to here are masks, as if -inf.
        gamma: float > 0, scale; Circle loss takes 64 to 256 for cosines.
        margin: float m, wanted distance of the right from the wrong classes.

    Returns:
        [...], float32 (float64 for float64 logits), >= 0; 0 in a row without right or without wrong classes.

    Raises:
        ValueError: shapes do not fit, gamma not > 0, or constant labels are out of range (fed ones: an
            assertion op).

    Reference: kexue.fm/archives/7359 (将“Softmax+交叉熵”推广到多标签分类问题); Circle loss, arXiv 2002.10857.

    >>> loss = kexue_keras.losses.pairwise_multilabel_crossentropy([[1., 0., 1., 0.]], [[1., -2., 0.5, 0.25]])
    >>> print(K.eval(loss).round(4))
    [0.8684]
    """
    name = "pairwise_multilabel_crossentropy"
    check_scale(gamma, margin, name)
    targets, logits = _targets_and_logits(y_true, y_pred, mask, from_sparse, mask_zero, name)
    there = tf.logical_not(logits <= mask_below)
    wrong, right = tf.logical_and(there, targets < 1), tf.logical_and(there, targets > 0)
    scaled = gamma * tf.where(there, logits, tf.zeros_like(logits))
    above, some_wrong = masked_logsumexp(scaled + tf.math.log1p(-_where(wrong, targets)), wrong, -1)
    below, some_right = masked_logsumexp(tf.math.log(1.0 - _where(right, 1.0 - targets)) - scaled, right, -1)
    values = softplus(above + below + gamma * margin)
    return tf.where(tf.logical_and(some_wrong, some_right), values, tf.zeros_like(values))


@register
class PairwiseMultilabelCrossentropy(FunctionLoss):
    """`pairwise_multilabel_crossentropy` with parameters, for `model.compile`.

    Args:
        from_sparse: bool, targets are class numbers [..., P].
        mask_zero: bool, class number 0 is padding.
        mask_below: float, logits up to here are masks.
        gamma: float > 0, scale of the logits.
        margin: float, wanted distance of the right from the wrong classes.
        name: str.
        reduction: as in `keras.losses.Loss`.

    Reference: kexue.fm/archives/7359 (将“Softmax+交叉熵”推广到多标签分类问题); Circle loss, arXiv 2002.10857.

    >>> loss = kexue_keras.losses.PairwiseMultilabelCrossentropy(gamma=2., margin=0.5)
    >>> round(float(K.eval(loss(tf.constant([[1., 0., 1.]]), tf.constant([[2., 0., 1.]])))), 4)
    0.349
    """

    def __init__(
        self,
        *,
        from_sparse: bool = False,
        mask_zero: bool = False,
        mask_below: float = -1e7,
        gamma: float = 1.0,
        margin: float = 0.0,
        name: str = "pairwise_multilabel_crossentropy",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        check_scale(gamma, margin, "PairwiseMultilabelCrossentropy")
        if mask_zero and not from_sparse:
            raise ValueError(
                "PairwiseMultilabelCrossentropy: mask_zero=True is for class numbers; pass from_sparse=True"
            )
        super().__init__(
            pairwise_multilabel_crossentropy,
            name=name,
            reduction=reduction,
            from_sparse=from_sparse,
            mask_zero=mask_zero,
            mask_below=mask_below,
            gamma=gamma,
            margin=margin,
        )


@register
def combination_crossentropy(y_true: TensorLike, y_pred: TensorLike, *, k: int, padding_first: bool = False) -> Tensor:
    r"""Softmax over all sets of k classes: the article's first idea for a fixed k.

    $$\log\sum_{|S|=k}e^{\sum_{i\in S}s_i}-\sum_{j\ \text{right}}s_j$$

    The sum over all sets is an elementary symmetric polynomial, multiplied out in logarithms in about log2(classes)
    rounds; Newton's identities, which the article prints, cancel for k > 3.

    Args:
        y_true: [..., classes], 0 or 1, with k ones per row (up to k with `padding_first`).
        y_pred: [..., classes], logits, the number of classes known; -inf removes a class.
        k: int, 1 to classes.
        padding_first: bool; y_pred is [..., 1 + classes], and its first column is a padding class that fills a set of
            fewer than k right classes up, as often as needed.

    Returns:
        [...], float32 (float64 for float64 logits), >= 0.

    Raises:
        ValueError: k out of range, an unknown number of classes, or constant labels of another count (fed
            ones: an assertion op).

    Reference: kexue.fm/archives/7359 (将“Softmax+交叉熵”推广到多标签分类问题).

    >>> loss = kexue_keras.losses.combination_crossentropy([[1., 0., 0., 1.]], [[1., 0.5, -0.5, 2.]], k=2)
    >>> print(K.eval(loss).round(4))
    [0.7815]
    """
    name = "combination_crossentropy"
    logits = widen(y_pred)
    warn_if_probabilities(tf.convert_to_tensor(y_pred), name)
    padding = logits[..., :1] if padding_first else None
    y_true = widen(y_true)
    known = tf.get_static_value(y_true)
    targets, logits = require_same_shape(
        tf.cast(tf.stop_gradient(y_true), logits.dtype), logits[..., 1:] if padding_first else logits, name
    )
    classes = class_count(logits)
    if not isinstance(classes, int):
        raise ValueError("%s: the number of classes must be known, but y_pred has the shape %s" % (name, y_pred.shape))
    k = checks.whole_number(k, "k", name, least=1, most=classes, remedy="y_pred has %d classes" % classes)
    counts = tf.reduce_sum(targets, -1) if known is None else known.sum(-1)
    good = counts <= k if padding_first else abs(counts - k) < 0.5
    message = "%s: each row needs %s k right classes, marked by 1. k and counts:" % (
        name,
        "at most" if padding_first else "exactly",
    )
    targets = require(good, message, [k, counts], then=targets)
    polynomial = _log_symmetric_polynomials(logits, classes, k)
    right = tf.reduce_sum(tf.where(targets > 0, targets * logits, tf.zeros_like(logits)), -1)
    if not padding_first:
        return polynomial[..., k] - right
    fill = tf.range(k, -1, -1, tf.float32)
    every = polynomial + tf.cast(fill, logits.dtype) * padding
    total, _ = masked_logsumexp(every, every > -np.inf, -1)
    return total - right - (float(k) - tf.reduce_sum(targets, -1)) * padding[..., 0]


def _log_symmetric_polynomials(logits, classes, k):
    """[..., k + 1]: the logarithm of the sum over all sets of j classes of exp(their logits), j = 0 .. k."""
    # Classes of -inf change nothing, and make their number a power of two.
    missing = 2 ** int(np.ceil(np.log2(classes))) - classes
    rank = logits.shape.rank
    logits = tf.pad(logits, [[0, 0]] * (rank - 1) + [[0, missing]], constant_values=-np.inf)
    nothing = tf.fill(tf.shape(logits), tf.constant(-np.inf, logits.dtype))
    # Each class is the polynomial 1 + exp(s) x.
    factors = tf.stack([tf.zeros_like(logits), logits] + [nothing] * (k - 1), -1)
    while factors.shape.as_list()[-2] > 1:
        factors = _product(factors[..., ::2, :], factors[..., 1::2, :], k)
    return factors[..., 0, :]


def _product(a, b, k):
    """Products of polynomials [..., k + 1], coefficients in logarithms, up to degree k."""
    degree = np.arange(k + 1)
    other = degree[:, None] - degree[None]
    fits = tf.constant(other >= 0)
    first, second = a[..., None, :], tf.gather(b, np.maximum(other, 0), axis=-1)
    terms = first + second
    # Not "is finite": NaN must come through.
    keep = tf.logical_and(fits, tf.not_equal(terms, -np.inf))
    sums, some = masked_logsumexp(terms, keep, -1)
    return tf.where(some, sums, tf.fill(tf.shape(sums), tf.constant(-np.inf, sums.dtype)))


def _where(condition, x):
    return tf.where(condition, x, tf.zeros_like(x))


def _targets_and_logits(y_true, y_pred, mask, from_sparse, mask_zero, name):
    """Labels as [..., classes] and logits, checked, of one shape."""
    y_pred = tf.convert_to_tensor(y_pred)
    warn_if_probabilities(y_pred, name)
    logits = masked_logits(widen(y_pred), mask, name)
    if from_sparse:
        classes = class_count(logits)
        if mask_zero:
            logits = masked_logits(logits, tf.range(classes) > 0, name)
        targets = multi_hot(as_classes(y_true, classes, name), classes, logits.dtype)
    elif mask_zero:
        raise ValueError("%s: mask_zero=True is for class numbers; pass from_sparse=True too" % name)
    else:
        targets = tf.cast(tf.stop_gradient(in_unit_interval(widen(y_true), name)), logits.dtype)
    return require_same_shape(targets, logits, name)
