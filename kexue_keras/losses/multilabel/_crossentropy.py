"""Multi-label classification with a softmax-like cross-entropy (ZLPR): hard, soft and sparse labels.

将“Softmax+交叉熵”推广到多标签分类问题, kexue.fm/archives/7359; 多标签“Softmax+交叉熵”的软标签版本,
kexue.fm/archives/9064; GlobalPointer下的“KL散度”应该是怎样的？ (the divergence for R-Drop and VAT), kexue.fm/archives/9039.
Paper: ZLPR, arXiv 2208.02955.
"""

from typing import Optional, Union

import numpy as np
import tensorflow as tf
from scipy.special import expit

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register, widen
from kexue_keras.checks import require, require_same_shape, warn_if_probabilities
from kexue_keras.losses._labels import as_classes, class_count, multi_hot, row_and_column
from kexue_keras.numerics import log_one_plus_sum_exp, sigmoid, sigmoid_difference
from kexue_keras.types import Array, Tensor, TensorLike

_INF = float("inf")


@register
def multilabel_crossentropy(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    mask: Optional[TensorLike] = None,
    label_smoothing: float = 0.0,
    from_sparse: bool = False,
    mask_zero: bool = False,
    mask_below: float = -1e7,
    gamma: float = 1.0,
    margin: float = 0.0,
    learned_threshold: bool = False,
) -> Tensor:
    r"""Cross-entropy of multi-label classification; the classes with a logit above 0 are the answer.

    $$\log\Big(1+\sum_i (1-t_i)e^{s_i}\Big)+\log\Big(1+\sum_i t_i e^{-s_i}\Big)$$

    With a scale, a margin and a threshold class, as in Circle loss:

    $$\log\Big(1+\sum_i (1-t_i)e^{\gamma(s_i-s_0+m)}\Big)+\log\Big(1+\sum_i t_i e^{-\gamma(s_i-s_0-m)}\Big)$$

    Unlike a sum of binary cross-entropies it compares every wrong class with every right one, so many negatives
    need no weights. The logarithms contain sums over all classes: large initial values are normal.

    Args:
        y_true: [..., classes], in [0, 1]; values between are soft labels. No gradient flows into it.
            With `from_sparse`, [..., P] class numbers instead, see `sparse_multilabel_crossentropy`.
        y_pred: [..., classes], logits, no sigmoid or softmax. Half floats are computed in float32.
        mask: boolean, broadcastable to y_pred; False removes a class. Logits of -inf do the same.
        label_smoothing: float in [0, 1); y_true becomes y_true (1 - x) + x / 2 (on classes not masked), and the
            best logits +-log((1 - x/2) / (x/2)) / 2.
        from_sparse: bool, y_true are class numbers.
        mask_zero: bool, only with `from_sparse`: class number 0 is padding and class 0 takes no part.
        mask_below: float; logits up to here are masks, as if -inf. Otherwise a mask of -1e12 and a soft label of
            0.01 give a loss of 1e10.
        gamma: float > 0, scale of the logits.
        margin: float m; right classes should be above m, wrong ones below -m.
        learned_threshold: bool; y_pred [..., 1 + classes], and the first column is s_0, the threshold of this row,
            which is trained with the rest. Otherwise s_0 is 0.

    Returns:
        [...], float32 (float64 for float64 logits), >= 0. A row with all classes masked gives 0.

    Raises:
        ValueError: shapes do not fit, or constant labels are out of range (fed ones: an assertion op).

    Reference: kexue.fm/archives/7359 (将“Softmax+交叉熵”推广到多标签分类问题), 9064; ZLPR, arXiv 2208.02955.

    >>> loss = kexue_keras.losses.multilabel_crossentropy([[1., 0., 1., 0.]], [[1., -2., 0.5, 0.25]])
    >>> print(K.eval(loss).round(4))
    [1.5638]
    """
    name = "multilabel_crossentropy"
    if from_sparse:
        return sparse_multilabel_crossentropy(
            y_true,
            y_pred,
            mask=mask,
            label_smoothing=label_smoothing,
            mask_zero=mask_zero,
            mask_below=mask_below,
            gamma=gamma,
            margin=margin,
            learned_threshold=learned_threshold,
        )
    if mask_zero:
        raise ValueError("%s: mask_zero=True is for class numbers; pass from_sparse=True too" % name)
    checks.number(label_smoothing, "label_smoothing", name, least=0, below=1)
    check_scale(gamma, margin, name)
    y_pred = tf.convert_to_tensor(y_pred)
    warn_if_probabilities(y_pred, name)
    logits = over_threshold(widen(y_pred), learned_threshold, mask_below, name)
    logits = masked_logits(logits, mask, name)
    targets = in_unit_interval(widen(y_true), name)
    targets, logits = require_same_shape(tf.cast(tf.stop_gradient(targets), logits.dtype), logits, name)
    return _dense(targets, logits, label_smoothing, mask_below, gamma, margin)


@register
def sparse_multilabel_crossentropy(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    mask: Optional[TensorLike] = None,
    label_smoothing: float = 0.0,
    mask_zero: bool = False,
    mask_below: float = -1e7,
    gamma: float = 1.0,
    margin: float = 0.0,
    learned_threshold: bool = False,
) -> Tensor:
    """`multilabel_crossentropy` from the numbers of the right classes, for thousands of classes.

    The same value and gradient as from multi-hot labels, at about a quarter of the time and memory. The negative
    classes are picked by writing -inf over the positive ones; subtracting the positives from the sum over all
    classes instead (as bert4keras does) cancels, and from a logit of about 16 on pushes right classes down.

    Args:
        y_true: [..., P], numbers of the right classes, integers or whole floats; repeated ones count once.
        y_pred: [..., classes], logits.
        mask: as in `multilabel_crossentropy`.
        label_smoothing: as there; above 0 the labels are made dense.
        mask_zero: bool; 0 is padding in y_true and class 0 takes no part. Needed where rows have different numbers
            of labels (or repeat a label to fill a row up), and where a row may have none.
        mask_below, gamma, margin, learned_threshold: as there; class numbers do not count the threshold's column.

    Returns:
        [...], float32 (float64 for float64 logits).

    Raises:
        ValueError: shapes do not fit, or constant labels are not in [0, classes) (fed ones: an assertion op).

    Reference: kexue.fm/archives/7359 (将“Softmax+交叉熵”推广到多标签分类问题); ZLPR, arXiv 2208.02955.

    >>> loss = kexue_keras.losses.sparse_multilabel_crossentropy([[0, 2]], [[1., -2., 0.5, 0.25]])
    >>> print(K.eval(loss).round(4))
    [1.5638]
    """
    name = "sparse_multilabel_crossentropy"
    checks.number(label_smoothing, "label_smoothing", name, least=0, below=1)
    check_scale(gamma, margin, name)
    y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    warn_if_probabilities(y_pred, name)
    logits = over_threshold(widen(y_pred), learned_threshold, mask_below, name)
    known = y_true.shape.rank is not None and y_pred.shape.rank is not None
    if not known or y_true.shape.rank != y_pred.shape.rank or y_pred.shape.rank < 1:
        raise ValueError(
            "%s: y_true [..., P] and y_pred [..., classes] must have the same number of axes, but their shapes "
            "are %s and %s" % (name, y_true.shape, y_pred.shape)
        )
    leading = y_true.shape[:-1], y_pred.shape[:-1]
    if not leading[0].is_compatible_with(leading[1]):
        raise ValueError(
            "%s: y_true [..., P] and y_pred [..., classes] must agree in all axes but the last, but their shapes "
            "are %s and %s" % (name, y_true.shape, y_pred.shape)
        )
    classes = class_count(logits)
    labels = as_classes(y_true, classes, name)
    if mask is not None:
        logits = masked_logits(logits, mask, name)
    if label_smoothing:
        if mask_zero:
            logits = masked_logits(logits, tf.range(classes) > 0, name)
        hot = multi_hot(labels, classes, logits.dtype)
        return _dense(hot, logits, label_smoothing, mask_below, gamma, margin)
    rows = tf.reshape(logits, tf.stack([-1, classes]))
    labels = tf.sort(tf.reshape(labels, tf.stack([tf.shape(rows)[0], tf.shape(labels)[-1]])), axis=-1)
    repeated = tf.equal(labels[:, 1:], labels[:, :-1])
    counted = tf.logical_not(tf.concat([tf.zeros_like(labels[:, :1], tf.bool), repeated], -1))
    if mask_zero:
        counted = tf.logical_and(counted, labels > 0)
        # A column of zeros among the labels makes class 0 no negative either, with a gradient of exactly 0.
        labels = tf.concat([tf.zeros_like(labels[:, :1]), labels], -1)
        counted = tf.concat([tf.zeros_like(counted[:, :1]), counted], -1)
    if gamma != 1.0:
        rows, mask_below = rows * gamma, mask_below * gamma
    values = _sparse(rows, row_and_column(labels), counted, mask_below, gamma * margin)
    values = tf.reshape(values, tf.shape(logits)[:-1])
    values.set_shape(logits.shape[:-1])
    return values


@register
class MultilabelCrossentropy(FunctionLoss):
    """`multilabel_crossentropy` (or the sparse one) with parameters, for `model.compile`.

    Args:
        label_smoothing: float in [0, 1).
        from_sparse: bool, targets are class numbers [..., P].
        mask_zero: bool, class number 0 is padding.
        mask_below: float, logits up to here are masks.
        gamma: float > 0, scale of the logits.
        margin: float, wanted distance of the logits from the threshold.
        learned_threshold: bool, the first column of the output is the threshold.
        name: str.
        reduction: as in `keras.losses.Loss`.

    Reference: kexue.fm/archives/7359 (将“Softmax+交叉熵”推广到多标签分类问题), 9064; ZLPR, arXiv 2208.02955.

    >>> loss = kexue_keras.losses.MultilabelCrossentropy(from_sparse=True, mask_zero=True)
    >>> round(float(K.eval(loss(tf.constant([[3, 0], [1, 2]]), tf.zeros([2, 4])))), 4)
    1.7918
    """

    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        from_sparse: bool = False,
        mask_zero: bool = False,
        mask_below: float = -1e7,
        gamma: float = 1.0,
        margin: float = 0.0,
        learned_threshold: bool = False,
        name: str = "multilabel_crossentropy",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        checks.number(label_smoothing, "label_smoothing", "MultilabelCrossentropy", least=0, below=1)
        check_scale(gamma, margin, "MultilabelCrossentropy")
        if mask_zero and not from_sparse:
            raise ValueError("MultilabelCrossentropy: mask_zero=True is for class numbers; pass from_sparse=True")
        super().__init__(
            multilabel_crossentropy,
            name=name,
            reduction=reduction,
            label_smoothing=label_smoothing,
            from_sparse=from_sparse,
            mask_zero=mask_zero,
            mask_below=mask_below,
            gamma=gamma,
            margin=margin,
            learned_threshold=learned_threshold,
        )


@register
def multilabel_kl(
    logits: TensorLike, other: TensorLike, *, mask: Optional[TensorLike] = None, mask_below: float = -1e7
) -> Tensor:
    r"""Symmetric divergence of two multi-label predictions, for R-Drop and virtual adversarial training.

    $$D(s,u)=\sum_i (\sigma(s_i)-\sigma(u_i))(s_i-u_i)$$

    the sum over the classes of KL(p, q) + KL(q, p) of Bernoulli distributions with p = sigma(s), q = sigma(u).
    The softmax KL is of no use here, since these logits are no softmax's.

    Args:
        logits: [..., classes].
        other: [..., classes], the other logits. Gradients flow into both.
        mask: boolean, broadcastable; False removes a class.
        mask_below: float; a class with a logit up to here on either side takes no part.

    Returns:
        [...], float32 (float64 for float64 logits), >= 0.

    Reference: kexue.fm/archives/9039 (GlobalPointer下的“KL散度”应该是怎样的？); kexue.fm/archives/7359.

    >>> d = kexue_keras.losses.multilabel_kl([[1., -2., 0.5, 0.25]], [[0.5, -1., 2., 0.]])
    >>> print(K.eval(d).round(4))
    [0.6071]
    """
    s, u = require_same_shape(widen(logits), widen(other), "multilabel_kl", ("logits", "other"))
    u = tf.cast(u, s.dtype)
    s, u = masked_logits(s, mask, "multilabel_kl"), masked_logits(u, mask, "multilabel_kl")
    out = tf.logical_or(s <= mask_below, u <= mask_below)
    s, u = tf.where(out, tf.zeros_like(s), s), tf.where(out, tf.zeros_like(u), u)
    return tf.reduce_sum(sigmoid_difference(s, u) * (s - u), -1)


@register
def multilabel_probabilities(
    logits: Union[Tensor, Array], *, gamma: float = 1.0, learned_threshold: bool = False
) -> Union[Tensor, Array]:
    """Probabilities of the classes under `multilabel_crossentropy`: sigma(2 gamma (s - s_0)), not sigma(s).

    The soft loss is smallest where the label is sigma(2 gamma (s - s_0)). Above 0.5 is a logit above the threshold.

    Args:
        logits: [..., classes], a tensor or a numpy array (as from `model.predict`).
        gamma: the scale that the loss had.
        learned_threshold: bool; logits are [..., 1 + classes], and the first is s_0, which is 0 otherwise.

    Returns:
        the same shape, a tensor for a tensor and an array for an array; -inf gives 0.

    Reference: kexue.fm/archives/9064 (多标签“Softmax+交叉熵”的软标签版本).

    >>> kexue_keras.losses.multilabel_probabilities(np.array([0., 1.])).round(4).tolist()
    [0.5, 0.8808]
    """
    if tf.is_tensor(logits):
        logits = widen(logits)
        return sigmoid(2.0 * gamma * (logits[..., 1:] - logits[..., :1] if learned_threshold else logits))
    logits = np.asarray(logits)
    logits = logits.astype("float64" if logits.dtype == "float64" else "float32")
    return expit(2.0 * gamma * (logits[..., 1:] - logits[..., :1] if learned_threshold else logits))


def in_unit_interval(targets, name):
    """`targets`, which must be in [0, 1]: a ValueError where they are known beforehand, else an assertion op."""
    message = "%s: labels must be in [0, 1] (for class numbers pass from_sparse=True). Smallest and largest:" % name
    known = tf.get_static_value(targets)
    if known is not None:
        good = known.size == 0 or bool(known.min() >= 0 and known.max() <= 1)
        extremes = [known.min(initial=0), known.max(initial=1)]
        return require(good, message, extremes, then=targets)
    smallest, largest = tf.reduce_min(targets), tf.reduce_max(targets)
    return require(tf.logical_and(smallest >= 0, largest <= 1), message, [smallest, largest], then=targets)


def masked_logits(logits, mask, name):
    """`logits` with -inf where `mask` is False."""
    if mask is None:
        return logits
    mask = tf.convert_to_tensor(mask)
    if mask.dtype != tf.bool:
        raise ValueError(
            "%s: mask must be boolean (True = the class takes part), but its dtype is %s; "
            "write tf.cast(mask, tf.bool)" % (name, mask.dtype.name)
        )
    try:
        fits = tf.broadcast_static_shape(mask.shape, logits.shape).is_compatible_with(logits.shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            "%s: mask must be broadcastable to y_pred, but their shapes are %s and %s"
            % (name, mask.shape, logits.shape)
        )
    mask = tf.logical_and(mask, tf.ones_like(logits, tf.bool))
    return tf.where(mask, logits, tf.fill(tf.shape(logits), tf.constant(-_INF, logits.dtype)))


def check_scale(gamma, margin, name):
    """Raise ValueError unless gamma is a finite number > 0 and margin a finite number."""
    checks.number(gamma, "gamma", name, above=0)
    checks.number(margin, "margin", name)


def over_threshold(logits, learned_threshold, mask_below, name):
    """Logits less the threshold in their first column, which goes; classes that are masked are -inf then."""
    if not learned_threshold:
        return logits
    if logits.shape.rank is not None and logits.shape.as_list()[-1] in (0, 1):
        raise ValueError(
            "%s: with learned_threshold=True y_pred is [..., 1 + classes], but its shape is %s" % (name, logits.shape)
        )
    classes = logits[..., 1:]
    infinite = tf.fill(tf.shape(classes), tf.constant(-_INF, logits.dtype))
    # Beside the difference, so that no gradient of a mask reaches the threshold.
    masked = classes <= mask_below
    return tf.where(masked, infinite, tf.where(masked, tf.zeros_like(classes), classes) - logits[..., :1])


def _dense(targets, logits, label_smoothing, mask_below, gamma, margin):
    if label_smoothing:
        targets = targets * (1.0 - label_smoothing) + 0.5 * label_smoothing
    # A comparison the other way round would mask NaN and hide it.
    masked = logits <= mask_below
    infinite = tf.fill(tf.shape(logits), tf.constant(_INF, logits.dtype))
    negative = gamma * (logits + margin) + tf.math.log1p(-targets)
    positive = tf.math.log(targets) - gamma * (tf.where(masked, infinite, logits) - margin)
    return log_one_plus_sum_exp(negative) + log_one_plus_sum_exp(positive)


def _sparse(logits, indices, counted, mask_below, shift_by):
    """logits [B, n], indices [B, P, 2] of the positives, counted [B, P] False at padding and repetitions; `shift_by` is
    added to the wrong classes and taken from the right ones."""

    # Left to itself, TensorFlow builds the gradient from three more dense tensors (of the scatter, of the gather,
    # and their sum); written by hand it needs one, and is still made of differentiable ops.
    @tf.custom_gradient
    def values(logits):
        infinite = tf.fill(tf.shape(counted), tf.constant(_INF, logits.dtype))
        negative = tf.tensor_scatter_nd_update(logits, indices, -infinite)
        negative = negative + shift_by if shift_by else negative
        shift = tf.maximum(tf.reduce_max(negative, -1, keepdims=True), 0.0)
        exponentials = tf.exp(negative - tf.stop_gradient(shift))
        rest = tf.reduce_sum(exponentials, -1, keepdims=True)
        total = tf.exp(-tf.stop_gradient(shift)) + rest
        chosen = tf.gather_nd(logits, indices)
        chosen = tf.where(tf.logical_and(counted, tf.logical_not(chosen <= mask_below)), chosen - shift_by, infinite)
        of_positives = log_one_plus_sum_exp(-chosen)
        of_negatives = tf.squeeze(shift + tf.math.log1p(tf.math.expm1(-shift) + rest), -1)

        def gradient(upstream):
            upstream = upstream[:, None]
            shares = tf.exp(-chosen - of_positives[:, None])
            return tf.tensor_scatter_nd_sub(exponentials * (upstream / total), indices, upstream * shares)

        return of_negatives + of_positives, gradient

    return values(logits)
