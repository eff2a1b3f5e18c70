"""Negative log-likelihood of a linear-chain conditional random field.

Reference: "简明条件随机场CRF介绍（附带纯Keras实现）", kexue.fm/archives/5542; Lafferty, McCallum and Pereira 2001.
"""

import tensorflow as tf

from kexue_keras.backend import register, widen
from kexue_keras.checks import require, require_rank, require_same_shape
from kexue_keras.types import Tensor, TensorLike


@register
def crf_negative_log_likelihood(y_true: TensorLike, y_pred: TensorLike) -> Tensor:
    r"""-log p of the right tags under the chain of `layers.LinearChainCRF`.

    $$L=\log\sum_{y'}e^{s(y')}-s(y),\quad s(y)=a_{y_1}+\sum_t h_t(y_t)+\sum_{t>1}G_{y_{t-1},y_t}+b_{y_n}$$

    The sum over all sequences of tags by the forward algorithm, in float32 at least.

    Args:
        y_true: [B, n, 1] or [B, n], tags 0 .. C - 1 as integers or whole floats; -1 where there is none (padding,
            [CLS], [SEP]). Such positions are left out of the chain, wherever they are.
        y_pred: [B, C + 2 + n, C], output of `LinearChainCRF`: a, b, G, h.

    Returns:
        [B], >= 0; 0 for a row without tags.

    Raises:
        ValueError: shapes that do not fit, or constant tags out of range (fed ones: an assertion op).

    Reference: kexue.fm/archives/5542.

    >>> chain = kexue_keras.layers.LinearChainCRF()(tf.constant([[[2., 0.], [0., 1.]]]))
    >>> print(K.eval(kexue_keras.losses.crf_negative_log_likelihood([[0, 1]], chain)).round(4))  # two softmaxes
    [0.4402]
    """
    name = "crf_negative_log_likelihood"
    y_pred = widen(require_rank(y_pred, 3, name, "y_pred [batch, tags + 2 + length, tags]"))
    tags = tf.compat.dimension_value(y_pred.shape[2])
    if tags is None:
        raise ValueError("%s: the number of tags must be known, but the shape of y_pred is %s" % (name, y_pred.shape))
    start, end, transitions, scores = (
        y_pred[:, 0],
        y_pred[:, 1],
        y_pred[:, 2 : tags + 2],
        y_pred[:, tags + 2 :],
    )
    labels = _labels(y_true, scores, tags, name)
    labels, scores, is_tag = _without_gaps(labels, scores)
    some = is_tag[:, 0]
    total = tf.reduce_logsumexp(_forward(start, transitions, scores, is_tag) + end, axis=-1)
    value = total - _score(start, end, transitions, scores, labels, is_tag)
    return tf.where(some, value, tf.zeros_like(value))


def _labels(y_true, scores, tags, name):
    """int32 [B, n], checked."""
    y_true = tf.convert_to_tensor(y_true)
    if y_true.shape.rank == 3:  # Keras makes the placeholder of the labels of the rank of y_pred
        y_true = y_true[:, :, 0]
    y_true, _ = require_same_shape(y_true, scores[:, :, 0], name, ("y_true", "the scores of y_pred, [batch, n],"))
    labels = tf.cast(y_true, tf.int32)
    message = "%s: tags must be 0 to %d, or -1 for none; smallest and largest:" % (name, tags - 1)
    extremes = [tf.reduce_min(labels), tf.reduce_max(labels)]
    return require(tf.logical_and(extremes[0] >= -1, extremes[1] < tags), message, extremes, then=labels)


def _without_gaps(labels, scores):
    """Labels, scores, and whether there is a tag, those with a tag moved to the front in their order."""
    shape = tf.shape(labels)
    columns = tf.broadcast_to(tf.range(shape[1])[None], shape)
    order = tf.argsort(tf.where(labels >= 0, columns, columns + shape[1]), axis=1)
    rows = tf.broadcast_to(tf.range(shape[0])[:, None], shape)
    places = tf.stack([rows, order], axis=-1)
    labels = tf.gather_nd(labels, places)
    return labels, tf.gather_nd(scores, places), labels >= 0


def _forward(start, transitions, scores, is_tag):
    """[B, C], log of the sum of exp over all beginnings that end with a tag, at the last place of each row."""

    def step(before, place):
        at, there = place
        after = tf.reduce_logsumexp(before[:, :, None] + transitions, axis=1) + at
        return tf.where(tf.broadcast_to(there[:, None], tf.shape(after)), after, before)

    # One more without tags, for TensorFlow 1.15 has no gradient of a loop that is not run.
    later = tf.pad(tf.transpose(scores, [1, 0, 2])[1:], [[0, 1], [0, 0], [0, 0]])
    places = (later, tf.pad(tf.transpose(is_tag)[1:], [[0, 1], [0, 0]]))
    return tf.foldl(step, places, initializer=start + scores[:, 0])


def _score(start, end, transitions, scores, labels, is_tag):
    """[B], s(y)."""
    tags = tf.shape(scores)[2]
    there = tf.cast(is_tag, scores.dtype)
    safe = tf.maximum(labels, 0)
    first, last = safe[:, 0], tf.maximum(tf.reduce_sum(tf.cast(is_tag, tf.int32), axis=1) - 1, 0)
    rows = tf.range(tf.shape(labels)[0])
    last = tf.gather_nd(safe, tf.stack([rows, last], axis=1))

    def picked(values, at):
        return tf.gather_nd(values, tf.stack([rows, at], axis=1))

    of_tags = tf.reduce_sum(there * tf.reduce_sum(scores * tf.one_hot(safe, tags, dtype=scores.dtype), axis=2), axis=1)
    between = tf.stack([tf.broadcast_to(rows[:, None], tf.shape(safe[:, 1:])), safe[:, :-1], safe[:, 1:]], axis=-1)
    of_pairs = tf.reduce_sum(there[:, 1:] * tf.gather_nd(transitions, between), axis=1)
    return picked(start, first) + of_tags + of_pairs + picked(end, last)
