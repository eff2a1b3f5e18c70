"""CoSENT: cosines in the order of the labels, and nothing else.

Reference: "CoSENT（一）：比Sentence-BERT更有效的句向量方案", kexue.fm/archives/8847 (no paper).
"""

from typing import Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register, widen
from kexue_keras.checks import require, require_rank, static_length
from kexue_keras.distributed._collectives import all_gather
from kexue_keras.losses._contrastive import unit_vectors
from kexue_keras.numerics import masked_logsumexp, softplus
from kexue_keras.types import Config, Tensor, TensorLike

_LABELS = ("pair_rows", "per_pair")
_METHODS = ("auto", "pairwise", "factorised")


def _pairwise(scores, labels, log_weights, used):
    """All ordered comparisons at once: O(P^2) memory, any number of label values."""
    used = used[:, None] & used[None] & (labels[:, None] > labels[None])
    terms = scores[None] - scores[:, None] + log_weights[None] + log_weights[:, None]
    total, some = masked_logsumexp(tf.reshape(terms, [-1]), tf.reshape(used, [-1]), axis=0)
    return tf.where(some, softplus(total), tf.zeros_like(total))


def _factorised(scores, labels, log_weights, used):
    """Two label values: the double sum is a product of two sums, O(P) memory."""
    lowest = tf.reduce_min(labels)
    high = labels > lowest
    negatives, some_low = masked_logsumexp(log_weights + scores, used & ~high, axis=0)
    positives, some_high = masked_logsumexp(log_weights - scores, used & high, axis=0)
    some = some_low & some_high
    return tf.where(some, softplus(negatives + positives), tf.zeros_like(scores[0]))


@register
def cosent_loss(
    cosines: TensorLike,
    labels: TensorLike,
    scale: float = 20.0,
    *,
    method: str = "auto",
    weights: Optional[TensorLike] = None,
) -> Tensor:
    """CoSENT on the cosines of P sentence pairs.

    L = log(1 + sum over y_a > y_b of w_a w_b exp(scale * (c_b - c_a))).

    Args:
        cosines: float tensor [P] (or [P, 1]), the cosine of each pair of sentences.
        labels: tensor [P] (or [P, 1]), how similar the pair is; any ordered numbers (0/1, NLI as 2 > 1 > 0,
            STS-B scores). Equal labels are not compared.
        scale: float, lambda of the article.
        method: "pairwise" compares all pairs with all, O(P^2) memory; "factorised" needs labels of at most two
            values, O(P) memory; "auto" looks at the labels of each batch.
        weights: tensor [P], not negative: weight 2 counts as the pair twice in the batch, weight 0 leaves it out.

    Returns:
        float scalar, because the batch is coupled; exactly 0, with gradient 0, if no two labels differ. It grows
        like log P^2: do not compare values across batch sizes.

    Raises:
        ValueError: unknown method, scale not positive, or different numbers of cosines and labels.

    Reference: kexue.fm/archives/8847.

    >>> round(float(K.eval(kexue_keras.losses.cosent_loss([0.9, 0.3, 0.6, 0.8], [1, 0, 1, 0]))), 4)
    4.0206
    """
    checks.choice(method, _METHODS, "method", "cosent_loss")
    checks.number(scale, "scale", "cosent_loss", above=0)
    cosines = tf.reshape(widen(cosines), [-1])
    labels = tf.reshape(widen(labels), [-1])
    if static_length(cosines, 0) == 1:
        raise ValueError("cosent_loss: one pair cannot be compared with another; use a batch of at least 2 pairs")
    cosines = _same_number(cosines, labels, cosines, "labels")
    scores = scale * cosines
    log_weights, used = tf.zeros_like(scores), tf.fill(tf.shape(scores), True)
    if weights is not None:
        weights = tf.cast(tf.reshape(tf.convert_to_tensor(weights), [-1]), scores.dtype)
        weights = _same_number(cosines, weights, weights, "weights")
        weights = require(weights >= 0, "CoSENT: weights must not be negative:", [weights], then=weights)
        used = weights > 0
        log_weights = tf.math.log(tf.where(used, weights, tf.ones_like(weights)))
    arguments = scores, labels, log_weights, used
    if method == "pairwise":
        return _pairwise(*arguments)
    lowest, highest = tf.reduce_min(labels), tf.reduce_max(labels)
    two_values = tf.reduce_all(tf.equal(labels, lowest) | tf.equal(labels, highest))
    if method == "auto":
        return tf.cond(two_values, lambda: _factorised(*arguments), lambda: _pairwise(*arguments))
    scores = require(
        two_values,
        "CoSENT: method='factorised' needs labels of two values (use method='auto'), but they are",
        [labels],
        then=scores,
    )
    return _factorised(scores, labels, log_weights, used)


def _same_number(a, b, then, name, of="pairs"):
    return require(
        tf.equal(
            static_length(a, 0) or tf.shape(a)[0],
            static_length(b, 0) or tf.shape(b)[0],
        ),
        "CoSENT: there must be as many %s as %s, but there are (%s, %s)" % (name, of, of, name),
        [tf.shape(a)[0], tf.shape(b)[0]],
        then=then,
    )


def _cosines(y_pred, labels):
    if y_pred.shape.rank == 3:
        if static_length(y_pred, 1) not in (2, None):
            raise ValueError("CoSENT: axis 1 of y_pred must hold two vectors, but its shape is %s" % y_pred.shape)
        unit = unit_vectors(y_pred)
        return tf.reduce_sum(unit[:, 0] * unit[:, 1], axis=-1)
    if labels == "per_pair" and static_length(y_pred, 1) == 1:
        return tf.squeeze(widen(y_pred), 1)
    y_pred = _require_even(y_pred, y_pred)
    unit = unit_vectors(y_pred)
    return tf.reduce_sum(unit[::2] * unit[1::2], axis=-1)


def _require_even(y_pred, then):
    rows = static_length(y_pred, 0) or tf.shape(y_pred)[0]
    return require(
        tf.equal(rows % 2, 0),
        "CoSENT: rows 2i and 2i+1 of y_pred are a pair, so their number must be even, but it is",
        [rows],
        then=then,
    )


def _one_label_a_pair(y_pred, labels, weights):
    """From labels and weights of rows to those of pairs."""
    labels = _require_even(y_pred, labels)
    labels = _same_number(y_pred, labels, labels, "labels (one per row)", "rows")
    labels = require(
        tf.equal(labels[::2], labels[1::2]),
        "CoSENT: labels='pair_rows' repeats a pair's label in rows 2i and 2i+1, but they differ (were the rows "
        "shuffled? then use y_pred [pairs, 2, dimension] with labels='per_pair'):",
        [labels],
        then=labels[::2],
    )
    if weights is not None:
        weights = _require_even(y_pred, weights)
        weights = _same_number(y_pred, weights, weights, "sample weights (one per row)", "rows")
        weights = (weights[::2] + weights[1::2]) / 2
    return labels, weights


def _of_embeddings(y_true, y_pred, *, scale, labels, method, distributed, sample_weight=None):
    y_pred = require_rank(y_pred, (2, 3), "CoSENT", "y_pred [rows, dimension] or [pairs, 2, dimension]")
    if labels == "pair_rows" and y_pred.shape.rank != 2:
        raise ValueError(
            "CoSENT: labels='pair_rows' takes y_pred [2 * pairs, dimension], but its shape is %s; "
            "for [pairs, 2, dimension] use labels='per_pair'" % y_pred.shape
        )
    values, weights, factor = tf.reshape(widen(y_true), [-1]), None, None
    if sample_weight is not None:
        weights = widen(sample_weight)
        weights, factor = (None, weights) if weights.shape.rank == 0 else (tf.reshape(weights, [-1]), None)
    cosines = _cosines(y_pred, labels)
    if labels == "pair_rows":
        values, weights = _one_label_a_pair(y_pred, values, weights)
    if distributed:
        cosines, values, weights = (x if x is None else all_gather(x) for x in (cosines, values, weights))
    loss = cosent_loss(cosines, values, scale, method=method, weights=weights)
    return loss if factor is None else loss * tf.cast(factor, loss.dtype)


@register
class CoSENT(FunctionLoss):
    """CoSENT on sentence vectors, as a Keras loss.

    L = log(1 + sum over pairs of sentence pairs with y_a > y_b of exp(scale * (cos_b - cos_a))).

    The loss couples the batch, so it is one number. `sample_weight` counts pairs: weight 2 is the pair twice in the
    batch, weight 0 leaves it out.

    Args:
        scale: float, lambda of the article.
        labels: where the labels stand. "pair_rows": y_pred [2P, dimension], rows 2i and 2i+1 are a pair, and
            y_true [2P] or [2P, 1] repeats the label in both rows (which is checked, so that shuffled pairs are
            found). "per_pair": one label per pair, y_true [P] or [P, 1] with y_pred either [P, 2, dimension], or
            [2P, dimension] as above, or [P, 1], the cosines themselves (`Dot(-1, normalize=True)`).
        method: "auto", "pairwise" or "factorised", see `cosent_loss`.
        distributed: bool; the pairs of all ranks are compared (`kexue_keras.distributed`), so that all ranks have the
            same loss. All have to compute it then, in `evaluate` too. Without `distributed.init()` it changes nothing.
        name: as in `keras.losses.Loss`; there is no `reduction`, as there is nothing to reduce.

    Raises:
        ValueError: unknown labels or method, scale not positive, a static batch of one pair, or wrong shapes.

    Reference: kexue.fm/archives/8847.

    >>> vectors = K.constant([[1, 0], [0.8, 0.6], [0, 2], [-0.6, 0.8], [0.5, 0.5], [1, -2]])
    >>> loss = kexue_keras.losses.CoSENT(labels="per_pair")
    >>> round(float(K.eval(loss(K.constant([1, 0, 1]), vectors))), 3)
    22.325
    """

    def __init__(
        self,
        scale: float = 20.0,
        *,
        labels: str = "pair_rows",
        method: str = "auto",
        distributed: bool = False,
        name: str = "cosent",
    ) -> None:
        checks.choice(labels, _LABELS, "labels", "CoSENT")
        checks.choice(method, _METHODS, "method", "CoSENT")
        scale = checks.number(scale, "scale", "CoSENT", above=0)
        super().__init__(
            _of_embeddings,
            name=name,
            own_weights=True,
            scale=scale,
            labels=labels,
            method=method,
            distributed=bool(distributed),
        )

    def get_config(self) -> Config:
        return dict(self.parameters, name=self.name)
