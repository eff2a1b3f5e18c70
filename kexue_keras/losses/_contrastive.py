"""FlatNCE and InfoNCE: contrastive losses over the pairs of a batch.

FlatNCE is InfoNCE with the gradient of every row brought to the same size, which is what small batches and float32
need: a row that is almost solved has an InfoNCE gradient that rounds to nothing.

Reference: "FlatNCE：小批次对比学习效果差的原因竟是浮点误差？", kexue.fm/archives/8586; Chen et al., "Simpler,
Faster, Stronger: Breaking The log-K Curse On Contrastive Learners With FlatNCE", arXiv 2107.01152. The two-view
layout is that of SimCSE (kexue.fm/archives/8348) and SimBERT (kexue.fm/archives/7427).
"""

import functools
from typing import Any, Optional

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register, widen
from kexue_keras.checks import require, require_rank, require_same_shape, static_length
from kexue_keras.distributed._collectives import gathered
from kexue_keras.numerics import masked_logsumexp, softplus
from kexue_keras.types import Tensor, TensorLike

_REPORTS = ("flat", "one", "infonce")
_LAYOUTS = ("pairs", "two_view")


def unit_vectors(x):
    """`x` [..., d] divided by its length over the last axis; a zero vector stays zero, its gradient is finite."""
    return tf.math.l2_normalize(widen(x), axis=-1, epsilon=1e-12)


def _flat_values(scores, positive_mask, loss):
    """Per row and candidate: logsumexp of the row's negatives minus the score; and where that is a pair to learn."""
    scores = widen(require_rank(scores, 2, loss, "scores [rows, candidates]"))
    if (static_length(scores, 1) or 2) < 2:
        raise ValueError(
            "%s: a row needs one positive and at least one negative candidate, but scores has shape %s; "
            "use a batch of at least 2 pairs" % (loss, scores.shape)
        )
    shape = tf.shape(scores)
    if positive_mask is None:
        scores = require(
            shape[0] <= shape[1],
            "%s: without positive_mask the positive of row i is candidate i, so scores needs at least as many "
            "columns as rows, but its shape is" % loss,
            [shape],
            then=scores,
        )
        positive = tf.eye(shape[0], shape[1], dtype=tf.bool)
    else:
        positive = tf.not_equal(tf.cast(positive_mask, scores.dtype), 0)
        scores, positive = require_same_shape(scores, positive, loss, ("scores", "positive_mask"))
    there = tf.not_equal(scores, -np.inf)
    negatives, some = masked_logsumexp(scores, there & ~positive, axis=1)
    pair = positive & there & tf.broadcast_to(some[:, None], tf.shape(scores))
    return negatives[:, None] - tf.where(pair, scores, tf.zeros_like(scores)), pair


def _mean_over_positives(values, pair):
    weights = tf.cast(pair, values.dtype)
    total = tf.reduce_sum(tf.where(pair, values, tf.zeros_like(values)), axis=1)
    return total / tf.maximum(tf.reduce_sum(weights, axis=1), 1.0)


@register
def info_nce(scores: TensorLike, positive_mask: Optional[TensorLike] = None) -> Tensor:
    """InfoNCE, the softmax cross-entropy of the positive among all candidates.

    L = log(1 + sum_i exp(s_i - s_t)), i over the negatives, computed as softplus(logsumexp_i s_i - s_t): in float32
    it keeps values and gradients that log-softmax rounds to exactly 0.

    Args:
        scores: float tensor [rows, candidates], similarities already divided by the temperature; -inf means
            "not a candidate".
        positive_mask: tensor [rows, candidates], nonzero at the positives; without it the positive of row i is
            candidate i, and further columns are negatives. With several positives in a row the loss is the mean
            over them, and none of them is a negative of another.

    Returns:
        float tensor [rows]; 0 in a row without a positive or without a negative.

    Raises:
        ValueError: only one candidate, or wrong shapes.

    Reference: kexue.fm/archives/8586; arXiv 2107.01152.

    >>> loss = kexue_keras.losses.info_nce([[2.0, 0.5, -1.0], [0.0, 1.0, 0.25], [-0.5, 1.5, 3.0]])
    >>> np.round(K.eval(loss), 4)
    array([0.2413, 0.6099, 0.2258], dtype=float32)
    """
    values, pair = _flat_values(scores, positive_mask, "info_nce")
    return _mean_over_positives(softplus(values), pair)


@register
def flat_nce(scores: TensorLike, positive_mask: Optional[TensorLike] = None, *, report: str = "flat") -> Tensor:
    """FlatNCE: InfoNCE without the 1 in its logarithm.

    L = log(sum_i exp(s_i - s_t)) = logsumexp_i s_i - s_t, i over the negatives. Its gradient is that of InfoNCE
    divided by xi / (1 + xi), xi = exp(L): -1 at the positive, a softmax over the negatives elsewhere. The value may
    be negative, and is so in normal training.

    Args:
        scores: float tensor [rows, candidates], similarities already divided by the temperature; -inf means
            "not a candidate".
        positive_mask: tensor [rows, candidates], nonzero at the positives; without it the positive of row i is
            candidate i. With several positives in a row the loss is the mean over them.
        report: which value is shown; the gradient is the same. "flat": L; "one": the paper's xi / stop(xi), which
            is 1; "infonce": the InfoNCE value, comparable with other runs.

    Returns:
        float tensor [rows]; 0 in a row without a positive or without a negative.

    Raises:
        ValueError: only one candidate, wrong shapes, or an unknown report.

    Reference: kexue.fm/archives/8586; arXiv 2107.01152.

    >>> loss = kexue_keras.losses.flat_nce([[2.0, 0.5, -1.0], [0.0, 1.0, 0.25], [-0.5, 1.5, 3.0]])
    >>> np.round(K.eval(loss), 4)
    array([-1.2986, -0.1741, -1.3731], dtype=float32)
    """
    checks.choice(report, _REPORTS, "report", "flat_nce")
    values, pair = _flat_values(scores, positive_mask, "flat_nce")
    if report != "flat":
        # Not exp(L - stop(L)): the difference has the same gradient and cannot overflow.
        shown = tf.ones_like(values) if report == "one" else softplus(values)
        values = values - tf.stop_gradient(values) + tf.stop_gradient(shown)
    return _mean_over_positives(values, pair)


def _candidates(unit, distributed):
    """The vectors that a row is compared with, and which of them is the first of this rank."""
    return gathered(unit) if distributed else (unit, 0)


def _two_view_scores(vectors, temperature, loss, distributed):
    """Scores [2N, 2N of all ranks] of interleaved rows, -inf for a row itself, and the mask of the partners."""
    vectors = require_rank(vectors, 2, loss, "y_pred [2 * sentences, dimension] (layout='two_view')")
    if static_length(vectors, 0) == 2 and not distributed:
        raise ValueError("%s: a batch of one pair has no negatives; use at least 2 pairs (4 rows)" % loss)
    rows = static_length(vectors, 0) or tf.shape(vectors)[0]
    vectors = require(
        tf.equal(rows % 2, 0),
        "%s: layout='two_view' pairs rows 2i and 2i+1, so the batch must have an even number of rows, but it has"
        % loss,
        [rows],
        then=vectors,
    )
    unit = unit_vectors(vectors)
    others, first = _candidates(unit, distributed)
    scores = tf.matmul(unit, others, transpose_b=True) / temperature
    own, column = tf.range(rows), tf.range(tf.shape(others)[0])
    itself = tf.equal(column[None], first + own[:, None])
    scores = tf.where(itself, tf.fill(tf.shape(scores), tf.constant(-np.inf, scores.dtype)), scores)
    return scores, tf.equal(column[None], first + own[:, None] + 1 - 2 * (own[:, None] % 2))


def _pair_scores(vectors, temperature, loss, distributed):
    """Scores [B, B + hard negatives] of first against second (and further) vectors, and [B, B] the other way.

    With `distributed` the columns are those of all ranks. Third: None, or the masks [B, columns] of the positives.
    """
    vectors = require_rank(vectors, 3, loss, "y_pred [batch, 2 (and more: hard negatives), dimension] (layout='pairs')")
    if static_length(vectors, 0) == 1 and static_length(vectors, 1) == 2 and not distributed:
        raise ValueError("%s: a batch of one pair has no negatives; use at least 2 pairs" % loss)
    shape = tf.shape(vectors)
    vectors = require(
        (static_length(vectors, 1) or shape[1]) >= 2,
        "%s: layout='pairs' takes the two vectors of a pair stacked on axis 1, y_pred [batch, 2, dimension], "
        "but that axis has length" % loss,
        [static_length(vectors, 1) or shape[1]],
        then=vectors,
    )
    unit = unit_vectors(vectors)
    others, first = _candidates(unit, distributed)
    hard = tf.reshape(others[:, 2:], [-1, tf.shape(unit)[2]])
    near = tf.matmul(unit[:, 0], others[:, 1], transpose_b=True) / temperature
    far = tf.matmul(unit[:, 0], hard, transpose_b=True) / temperature
    scores = tf.concat([near, far], axis=1)
    if not distributed:
        return scores, tf.transpose(near), (None, None)
    other_way = tf.matmul(unit[:, 1], others[:, 0], transpose_b=True) / temperature
    return scores, other_way, tuple(_shifted_eye(x, first) for x in (scores, other_way))


def _shifted_eye(scores, first):
    """Mask like `scores`: row i has column first + i."""
    shape = tf.shape(scores)
    return tf.equal(tf.range(shape[1])[None], first + tf.range(shape[0])[:, None])


def _check(name, temperature, layout, symmetric):
    checks.choice(layout, _LAYOUTS, "layout", name)
    checks.number(temperature, "temperature", name, above=0)
    if symmetric and layout == "two_view":
        raise ValueError(
            "%s: layout='two_view' is symmetric already (each view is an anchor in its turn); "
            "leave out symmetric=True" % name
        )


def _of_embeddings(function, name, y_pred, temperature, layout, symmetric, distributed):
    if layout == "two_view":
        return function(*_two_view_scores(y_pred, temperature, name, distributed))
    scores, other_way, positives = _pair_scores(y_pred, temperature, name, distributed)
    if not symmetric:
        return function(scores, positives[0])
    return (function(scores, positives[0]) + function(other_way, positives[1])) / 2


def _info_nce_of_embeddings(y_true, y_pred, *, temperature, layout, symmetric, distributed):
    return _of_embeddings(info_nce, "InfoNCE", y_pred, temperature, layout, symmetric, distributed)


def _flat_nce_of_embeddings(y_true, y_pred, *, temperature, layout, symmetric, report, distributed):
    function = functools.partial(flat_nce, report=report)
    return _of_embeddings(function, "FlatNCE", y_pred, temperature, layout, symmetric, distributed)


@register
class InfoNCE(FunctionLoss):
    """InfoNCE over the pairs of a batch, on embeddings; `y_true` is ignored.

    L_i = log(1 + sum_{j != i} exp((cos(a_i, b_j) - cos(a_i, b_i)) / temperature)).

    Args:
        temperature: float, what the cosines are divided by; 1 / temperature is the "scale" of SimBERT (20 or 30).
        layout: "pairs": y_pred [batch, 2, dimension], the two vectors of a pair stacked on axis 1, so that a row of
            the data is a pair and shuffling is harmless; vectors 2, 3, ... of a row are hard negatives, and serve
            all rows of the batch. "two_view": y_pred [2N, dimension], rows 2i and 2i+1 are the two views of
            sentence i (SimCSE, SimBERT); the batch must be even and must not be shuffled apart.
        symmetric: bool; also rank the anchors for every second vector, and take the mean (layout "pairs"; hard
            negatives enter the first direction only).
        reduction, name: as in `keras.losses.Loss`.

    Raises:
        ValueError: unknown layout, temperature not positive, or y_pred of a shape that the layout does not have.

    Reference: kexue.fm/archives/8586, 8348, 7427; arXiv 2107.01152, 2104.08821.

    >>> views = K.constant([[1.0, 0.0], [0.8, 0.6], [0.0, 2.0], [-0.6, 0.8]])
    >>> loss = kexue_keras.losses.InfoNCE(1.0, layout="two_view")
    >>> np.round(K.eval(loss.call(None, views)), 4)
    array([0.5282, 0.8189, 0.8189, 0.5282], dtype=float32)
    """

    def __init__(
        self,
        temperature: float = 0.05,
        *,
        layout: str = "pairs",
        symmetric: bool = False,
        distributed: bool = False,
        name: str = "info_nce",
        **kwargs: Any,
    ) -> None:
        _check("InfoNCE", temperature, layout, symmetric)
        super().__init__(
            _info_nce_of_embeddings,
            name=name,
            temperature=float(temperature),
            layout=layout,
            symmetric=bool(symmetric),
            distributed=bool(distributed),
            **kwargs,
        )


@register
class FlatNCE(FunctionLoss):
    """FlatNCE over the pairs of a batch, on embeddings; `y_true` is ignored.

    L_i = log(sum_{j != i} exp((cos(a_i, b_j) - cos(a_i, b_i)) / temperature)).

    Args:
        temperature: float, what the cosines are divided by.
        layout: "pairs" (y_pred [batch, 2 or more, dimension]) or "two_view" (y_pred [2N, dimension]); see `InfoNCE`.
        symmetric: bool; mean of both directions (layout "pairs").
        distributed: bool; the rows of all ranks are candidates, see `InfoNCE`.
        report: "flat", "one" or "infonce": the value that is shown, see `flat_nce`; the gradient is the same.
        reduction, name: as in `keras.losses.Loss`.

    Raises:
        ValueError: unknown layout or report, temperature not positive, or y_pred of another shape.

    Reference: kexue.fm/archives/8586; arXiv 2107.01152.

    >>> views = K.constant([[1.0, 0.0], [0.8, 0.6], [0.0, 2.0], [-0.6, 0.8]])
    >>> loss = kexue_keras.losses.FlatNCE(1.0, layout="two_view")
    >>> np.round(K.eval(loss.call(None, views)), 4)
    array([-0.3625,  0.2375,  0.2375, -0.3625], dtype=float32)
    """

    def __init__(
        self,
        temperature: float = 0.05,
        *,
        layout: str = "pairs",
        symmetric: bool = False,
        report: str = "flat",
        distributed: bool = False,
        name: str = "flat_nce",
        **kwargs: Any,
    ) -> None:
        checks.choice(report, _REPORTS, "report", "FlatNCE")
        _check("FlatNCE", temperature, layout, symmetric)
        super().__init__(
            _flat_nce_of_embeddings,
            name=name,
            temperature=float(temperature),
            layout=layout,
            symmetric=bool(symmetric),
            report=report,
            distributed=bool(distributed),
            **kwargs,
        )
