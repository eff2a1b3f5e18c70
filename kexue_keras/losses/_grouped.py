"""Cross-entropy in groups: several classification tasks share one head, each sample counts in the group of its label.

Reference: "用开源的人工标注数据来增强RoFormer-Sim", kexue.fm/archives/8541 (binary and NLI pairs over one Dense(5)).
"""

from typing import Any, Sequence

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register, widen
from kexue_keras.checks import require, require_rank
from kexue_keras.numerics import masked_logsumexp
from kexue_keras.types import Tensor, TensorLike


def _check(groups, name):
    groups, remedy = tuple(groups), "groups are the numbers of classes, for instance (2, 3)"
    if not groups:
        raise checks.invalid(name, "groups", "one or more whole numbers >= 2", groups, remedy)
    return tuple(checks.whole_number(n, "each of groups", name, least=2, remedy=remedy) for n in groups)


@register
def grouped_crossentropy(y_true: TensorLike, y_pred: TensorLike, *, groups: Sequence[int]) -> Tensor:
    """Cross-entropy of each sample among the classes of its label's group; the other logits do not count.

    L = log sum_{j in group(y)} exp(s_j) - s_y.

    Args:
        y_true: integer labels [B] or [B, 1] in 0 .. sum(groups) - 1: group 0 has 0 .. n_0 - 1, group 1 the next n_1.
        y_pred: logits [B, sum(groups)].
        groups: list of int, classes of each group: (2, 3) is one binary task and one with three classes.

    Returns:
        float tensor [B].

    Raises:
        ValueError: a group of fewer than 2 classes, or logits of another width.

    Reference: kexue.fm/archives/8541.

    >>> loss = kexue_keras.losses.grouped_crossentropy([1, 3], [[1., 2., .5, -.5, 0.]] * 2, groups=(2, 3))
    >>> np.round(K.eval(loss), 4)
    array([0.3133, 1.6803], dtype=float32)
    """
    name = "grouped_crossentropy"
    groups = _check(groups, name)
    logits = widen(require_rank(y_pred, 2, name, "y_pred [batch, classes]"))
    if logits.shape[1] not in (None, sum(groups)):
        raise ValueError("%s: groups %r have %d classes, y_pred has %s" % (name, groups, sum(groups), logits.shape[1]))
    labels = tf.cast(tf.reshape(tf.convert_to_tensor(y_true), [-1]), tf.int32)
    labels = require(
        (labels >= 0) & (labels < sum(groups)),
        "%s: labels must lie in 0 .. %d, but they are" % (name, sum(groups) - 1),
        [labels],
        then=labels,
    )
    group_of = tf.constant(np.repeat(np.arange(len(groups)), groups), tf.int32)
    inside = tf.equal(tf.gather(group_of, labels)[:, None], group_of[None])
    total, _ = masked_logsumexp(logits, inside, axis=1)
    return total - tf.gather_nd(logits, tf.stack([tf.range(tf.size(labels)), labels], axis=1))


@register
class GroupedCrossentropy(FunctionLoss):
    """Cross-entropy of each sample among the classes of its label's group, as a Keras loss.

    L = log sum_{j in group(y)} exp(s_j) - s_y.

    Args:
        groups: list of int, classes of each group.
        reduction, name: as in `keras.losses.Loss`.

    Raises:
        ValueError: a group of fewer than 2 classes.

    Reference: kexue.fm/archives/8541.

    >>> loss = kexue_keras.losses.GroupedCrossentropy((2, 3))
    >>> round(float(K.eval(loss(K.constant([1, 3]), K.constant([[1, 2, .5, -.5, 0]] * 2)))), 4)
    0.9968
    """

    def __init__(self, groups: Sequence[int], *, name: str = "grouped_crossentropy", **kwargs: Any) -> None:
        super().__init__(grouped_crossentropy, name=name, groups=list(_check(groups, "GroupedCrossentropy")), **kwargs)
