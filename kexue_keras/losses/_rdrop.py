"""R-Drop: two dropout passes over a sample should give the same answer.

又是Dropout两次！这次它做到了有监督任务的SOTA, kexue.fm/archives/8496. Paper: R-Drop, arXiv 2106.14448.
"""

import warnings
from typing import Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, K, register, widen
from kexue_keras.backend.graph import origin, reached
from kexue_keras.checks import require, require_same_shape, warn_if_probabilities
from kexue_keras.losses._labels import class_count, one_class_each
from kexue_keras.losses.multilabel._crossentropy import multilabel_crossentropy, multilabel_kl
from kexue_keras.numerics import log_probability
from kexue_keras.types import Config, Tensor, TensorLike

_DIVERGENCES = ("kl", "mse", "multilabel")
CONVENTIONS = {"article": 0.25, "mean": 0.5}
_PAIR_OP = "rdrop_pair"


@register
def rdrop_divergence(
    first: TensorLike, second: TensorLike, *, divergence: str = "kl", from_logits: bool = True
) -> Tensor:
    r"""Symmetric divergence of the answers of two passes, D(f1, f2) + D(f2, f1).

    kl: $\langle\mathrm{softmax}(a)-\mathrm{softmax}(b),\,a-b\rangle$, that is KL(p, q) + KL(q, p) without a clipped
    logarithm; mse: twice the mean square; multilabel: `multilabel_kl`. Gradients flow into both. It is the whole
    loss (with a coefficient of 1) for unlabelled texts in semi-supervised training.

    Args:
        first: [..., classes], logits of one pass (values to predict for mse).
        second: [..., classes], of the other pass.
        divergence: "kl", "mse" or "multilabel".
        from_logits: bool; False, for kl only, if these are probabilities.

    Returns:
        [...], float32 (float64 for float64 inputs), >= 0.

    Raises:
        ValueError: an unknown divergence, or shapes that differ.

    Reference: kexue.fm/archives/8496 (又是Dropout两次！这次它做到了有监督任务的SOTA); R-Drop, arXiv 2106.14448.

    >>> d = kexue_keras.losses.rdrop_divergence([[1., 0., -1.]], [[0.5, 0.3, -0.2]])
    >>> print(K.eval(d).round(4))
    [0.2489]
    """
    name = "rdrop_divergence"
    _check(0.0, divergence, "article", from_logits, name)
    a, b = require_same_shape(widen(first), widen(second), name, ("first", "second"))
    if divergence == "mse":
        return 2.0 * tf.reduce_mean(tf.square(a - b), -1)
    if divergence == "multilabel":
        return multilabel_kl(a, b)
    if not from_logits:
        p, q = a, b
        a, b = log_probability(a), log_probability(b)
    else:
        p, q = tf.nn.softmax(a), tf.nn.softmax(b)
    # A masked class has probability 0 on both sides; -inf minus -inf would be NaN.
    infinite = -float("inf")
    out = tf.logical_or(tf.equal(a, infinite), tf.equal(b, infinite))
    zeros = tf.zeros_like(a)
    difference = tf.where(out, zeros, a) - tf.where(out, zeros, b)
    # A constant changes nothing, since p - q sums to 0. Where both passes are sure of one class, p - q has lost its
    # digits there and there alone: that class gets the factor 0.
    surest = tf.one_hot(tf.argmax(p, -1), tf.shape(p)[-1], dtype=p.dtype)
    difference -= tf.reduce_sum(surest * difference, -1, keepdims=True)
    return tf.reduce_sum((p - q) * difference, -1)


@register
def rdrop_crossentropy(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    alpha: float = 4.0,
    from_logits: bool = True,
    sparse: bool = True,
    divergence: str = "kl",
    convention: str = "article",
    train_only: bool = False,
    sample_weight: Optional[TensorLike] = None,
) -> Tensor:
    r"""Cross-entropy of two dropout passes plus their divergence.

    For sample i with the passes 1 and 2 (in the batch: the rows 2i and 2i+1),

    $$\tfrac12(CE_1+CE_2)+c\,\alpha\,[D(f_1,f_2)+D(f_2,f_1)]$$

    with c = 1/4 for convention "article": half of the article's formula CE1 + CE2 + alpha/2 [D + D] and exactly its
    code, so that alpha is the article's and the value compares with an ordinary cross-entropy; and c = 1/2 for
    "mean", as in the paper's repository, where alpha is half as large (its 2 is the article's 4).

    Args:
        y_true: labels of each row. [2B] or [2B, 1] class numbers (`sparse`), else [2B, classes] (one-hot, soft, or
            multi-hot for "multilabel"); values to predict for "mse".
        y_pred: [2B, ..., classes], the interleaved pairs; or the output of a model made by `training.rdrop`, [B, ...]
            (then y_true is [B, ...] too).
        alpha: float >= 0, weight of the divergence.
        from_logits: bool. If False, y_pred are probabilities (kl only); where they come from a softmax op its
            logits are used, otherwise logarithms clipped at the smallest float. All losses of this package take logits
            unless told otherwise, unlike Keras: a softmax given as logits is detected and warned about.
        sparse: bool, y_true are class numbers (kl only).
        divergence: "kl" with cross-entropy; "mse" with the mean square error; "multilabel" with
            `multilabel_crossentropy` and `multilabel_kl`.
        convention: "article" or "mean".
        train_only: bool; the divergence only in Keras' training phase. So validation data need no pairs.
        sample_weight: [2B] (or [B]) or None, weighs the cross-entropy alone. The divergence of a row of weight 0
            counts all the same, and its label is ignored: semi-supervised training.

    Returns:
        one value per row, [2B, ...]; each row has its own CE and the divergence of its pair, so the mean is the formula
        above. [B, ...] for a model made by `training.rdrop`.

    Raises:
        ValueError: unknown options, a batch known to be odd or wrong shapes (otherwise an assertion op).

    Reference: kexue.fm/archives/8496 (又是Dropout两次！这次它做到了有监督任务的SOTA); R-Drop, arXiv 2106.14448.

    >>> p = tf.constant([[.5, .2, .3], [.5, .3, .2], [.1, .7, .2], [.2, .6, .2]])
    >>> print(K.eval(kexue_keras.losses.rdrop_crossentropy([0, 0, 1, 1], p, alpha=4., from_logits=False)).round(4))
    [0.7742 0.7742 0.4414 0.5956]
    """
    name = "rdrop_crossentropy"
    _check(alpha, divergence, convention, from_logits, name)
    if divergence != "kl":
        from_logits, sparse = True, False
    weight = alpha * CONVENTIONS[convention]
    y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    passes = pair_of(y_pred)
    if sample_weight is not None:
        sample_weight = _row_weights(sample_weight, y_pred, name)
        # What stands where a label is missing, -1 or NaN for instance, may be no label at all.
        y_true = tf.where(_like(sample_weight > 0, y_true), y_true, tf.zeros_like(y_true))

    def supervised_of(logits):
        values = _supervised(y_true, logits, sparse, divergence, name)
        if sample_weight is None:
            return values
        labelled = _like(sample_weight > 0, values)
        return tf.where(labelled, values * tf.cast(_like(sample_weight, values), values.dtype), tf.zeros_like(values))

    if passes is not None:
        first, second = (_as_logits(p, from_logits, divergence, name) for p in passes)
        supervised = 0.5 * sum(supervised_of(p) for p in (first, second))
        return supervised + weight * rdrop_divergence(first, second, divergence=divergence)
    if alpha:
        warn_if_never_random([y_pred], name)
    logits = _as_logits(y_pred, from_logits, divergence, name)
    supervised = supervised_of(logits)

    def with_divergence():
        return supervised + weight * _of_pairs(logits, divergence, name)

    if not train_only:
        return with_divergence()
    values = K.in_train_phase(with_divergence, lambda: tf.identity(supervised))
    if hasattr(y_pred, "_uses_learning_phase"):
        # Keras 2.3.1 feeds the phase only to models that ask for it, and noise need not.
        y_pred._uses_learning_phase = True
    values.set_shape(supervised.shape)
    return values


@register
class RDropCrossentropy(FunctionLoss):
    """`rdrop_crossentropy` for `model.compile`.

    There are two ways to get two passes: `training.rdrop(model)` (repeats the batch inside the model; nothing else
    changes), or a generator that yields every sample twice in succession, without shuffling afterwards. In the second
    case the divergence is computed in the training phase only, so validation data stay as they are and give the
    plain cross-entropy; a training batch must be even.

    Args:
        alpha: float >= 0; the article uses 4 with dropout_rate=0.3, the paper (its own convention) 1 to 5.
        from_logits: bool; False where the model ends with a softmax.
        sparse: bool, targets are class numbers.
        divergence: "kl", "mse" or "multilabel".
        convention: "article" or "mean" (alpha twice as strong).
        train_only: bool; False computes the divergence in every phase.
        semi_supervised: bool; True: `sample_weight` of `fit` weighs the cross-entropy alone, so that rows of weight 0
            are unlabelled texts, which train by their divergence; their labels may be anything. One weight per row, so
            not for outputs with a mask. False: it weighs both, as Keras does; rows of weight 0 contribute nothing.
        name: str.
        reduction: as in `keras.losses.Loss`.

    Reference: kexue.fm/archives/8496 (又是Dropout两次！这次它做到了有监督任务的SOTA); R-Drop, arXiv 2106.14448.

    >>> loss = kexue_keras.losses.RDropCrossentropy(alpha=1., from_logits=False, train_only=False)
    >>> p = tf.constant([[.5, .2, .3], [.5, .3, .2], [.1, .7, .2], [.2, .6, .2]])
    >>> round(float(K.eval(loss(tf.constant([0, 0, 1, 1]), p))), 4)
    0.5842
    """

    def __init__(
        self,
        *,
        alpha: float = 4.0,
        from_logits: bool = True,
        sparse: bool = True,
        divergence: str = "kl",
        convention: str = "article",
        train_only: bool = True,
        semi_supervised: bool = False,
        name: str = "rdrop_crossentropy",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        _check(alpha, divergence, convention, from_logits, "RDropCrossentropy")
        self.semi_supervised = bool(semi_supervised)
        super().__init__(
            rdrop_crossentropy,
            name=name,
            reduction=reduction,
            own_weights=self.semi_supervised,
            alpha=alpha,
            from_logits=from_logits,
            sparse=sparse,
            divergence=divergence,
            convention=convention,
            train_only=train_only,
        )

    def get_config(self) -> Config:
        return dict(super().get_config(), semi_supervised=self.semi_supervised)


def make_pair(first, second):
    """`first`, made so that `pair_of` finds `second` from it, also after saving and loading."""
    with tf.name_scope(_PAIR_OP):
        return tf.identity_n([first, second], name=_PAIR_OP)[0]


def pair_of(tensor):
    """The two tensors given to `make_pair`, if `tensor` is what it returned (identities are looked through)."""
    op = getattr(origin(tensor), "op", None)
    if op is not None and op.type == "IdentityN" and _PAIR_OP in op.name:
        return op.outputs[0], op.outputs[1]
    return None


def never_random(tensor):
    """Whether a model computes `tensor` without anything random (dropout, noise). False where that cannot be seen."""
    types = {op.type for op in reached([tensor], controls=False)} if hasattr(tensor, "op") else set()
    # Functional control flow hides its ops in a function; a tensor without weights is no model's.
    hidden = types & {"If", "StatelessIf", "While", "StatelessWhile", "PartitionedCall", "StatefulPartitionedCall"}
    weights = types & {"VarHandleOp", "VariableV2", "Variable"}
    return bool(weights) and not hidden and not any("Random" in t or "Multinomial" in t for t in types)


def warn_if_never_random(tensors, name):
    """Warn if nothing random feeds one of `tensors`: R-Drop would do nothing but double the work."""
    for tensor in tensors:
        if never_random(tensor):
            warnings.warn(
                "%s: nothing random feeds the output %r, so both passes give the same and the divergence is always "
                "0; let the model have dropout (dropout_rate=0.3 in build_transformer_model)" % (name, tensor.name),
                stacklevel=3,
            )


def _check(alpha, divergence, convention, from_logits, name):
    checks.number(alpha, "alpha", name, least=0)
    checks.choice(divergence, _DIVERGENCES, "divergence", name)
    checks.choice(convention, CONVENTIONS, "convention", name)


def _row_weights(weights, y_pred, name):
    """`sample_weight` as Keras gives it, one per row (or one for all), as [rows]."""
    weights = widen(weights)
    if weights.shape.rank == 2 and weights.shape.as_list()[1] == 1:
        weights = tf.squeeze(weights, 1)
    if weights.shape.rank not in (0, 1):
        raise ValueError(
            "%s: semi-supervised training takes one sample weight per row, but the shape is %s; an output with a mask "
            "(Keras multiplies it into the weights) or with weights per token cannot tell padding from unlabelled rows"
            % (name, weights.shape)
        )
    return weights + tf.zeros([tf.shape(y_pred)[0]], weights.dtype)


def _like(rows, x):
    """[rows] spread over the shape of `x` [rows, ...]."""
    rows = tf.reshape(rows, tf.concat([[-1], tf.ones([tf.rank(x) - 1], tf.int32)], 0))
    return tf.broadcast_to(rows, tf.shape(x))


def _as_logits(y_pred, from_logits, divergence, name):
    if from_logits:
        if divergence != "mse":
            warn_if_probabilities(y_pred, name)
        return widen(y_pred)
    op = getattr(origin(y_pred), "op", None)
    # Logits are exact where probabilities have rounded to 0 or 1.
    return widen(op.inputs[0]) if op is not None and op.type == "Softmax" else log_probability(widen(y_pred))


def _supervised(y_true, logits, sparse, divergence, name):
    if divergence == "multilabel":
        return multilabel_crossentropy(y_true, logits)
    if divergence == "kl" and sparse:
        targets = tf.one_hot(one_class_each(y_true, logits, name), class_count(logits), dtype=logits.dtype)
    else:
        targets = tf.cast(tf.stop_gradient(y_true), logits.dtype)
        targets, logits = require_same_shape(targets, logits, name)
    if divergence == "mse":
        return tf.reduce_mean(tf.square(targets - logits), -1)
    # Not TensorFlow's op: the sparse one has no second derivative (gradient penalty), the dense one makes NaN of
    # logits of -inf.
    logits -= tf.stop_gradient(tf.reduce_max(logits, -1, keepdims=True))
    wanted = tf.where(targets > 0, logits, tf.zeros_like(logits))
    return tf.reduce_sum(targets * (tf.reduce_logsumexp(logits, -1, keepdims=True) - wanted), -1)


def _of_pairs(logits, divergence, name):
    rows = tf.TensorShape(logits.shape).as_list()[0]
    even = tf.equal(tf.shape(logits)[0] % 2, 0) if rows is None else rows % 2 == 0
    logits = require(
        even,
        "%s: the batch must hold pairs (rows 2i and 2i+1 of one sample), so its size must be even; yield every "
        "sample twice, or use training.rdrop(model), which needs no pairs. Batch size:" % name,
        [tf.shape(logits)[0] if rows is None else rows],
        then=logits,
    )
    return tf.repeat(rdrop_divergence(logits[::2], logits[1::2], divergence=divergence), 2, axis=0)
