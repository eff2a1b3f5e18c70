"""From the logits of a multi-label model to label sets: above a threshold, or the k largest.

将“Softmax+交叉熵”推广到多标签分类问题, kexue.fm/archives/7359.
"""

from typing import Any, List, Optional, Sequence, Union

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.types import ArrayLike


def decode_multilabel(
    logits: ArrayLike,
    *,
    threshold: float = 0.0,
    k: Optional[Union[int, Sequence[int]]] = None,
    learned_threshold: bool = False,
    labels: Optional[Sequence[str]] = None,
) -> List[Any]:
    """Label sets from predicted logits: the classes above the threshold, or the k largest; the surest first.

    Args:
        logits: numpy array [classes] or [batch, classes], as from `model.predict`.
        threshold: float; a logit of log(p / (1 - p)) / 2 is the probability p.
        k: int, or a list of one for each row: this many classes, whatever the threshold (masked ones, -inf, never).
            For `pairwise_multilabel_crossentropy` and `combination_crossentropy`, which know no threshold.
        learned_threshold: bool; logits are [..., 1 + classes], and the first is the row's threshold, to which
            `threshold` is added.
        labels: list of the names of the classes; without it class numbers are returned.

    Returns:
        list of class numbers (or names) for [classes]; list of such lists for [batch, classes].

    Raises:
        ValueError: neither one nor two axes, not one name per class, a threshold and k, or not one k per row.
        TypeError: a symbolic tensor; in a graph, `logits > threshold` is the multi-hot answer.

    Reference: kexue.fm/archives/7359 (将“Softmax+交叉熵”推广到多标签分类问题).

    >>> kexue_keras.losses.decode_multilabel(np.array([[1., -2., 3., 0.], [-1., -1., -1., -1.]]))
    [[2, 0], []]
    """
    if tf.is_tensor(logits) and not hasattr(logits, "numpy"):
        raise TypeError("decode_multilabel takes arrays; in a graph write `logits > threshold` instead")
    logits = np.asarray(logits)
    if logits.ndim not in (1, 2):
        raise ValueError("decode_multilabel takes [classes] or [batch, classes], but the shape is %s" % (logits.shape,))
    if k is not None and threshold != 0.0:
        raise ValueError(
            "decode_multilabel: threshold=%r does nothing where k=%r says how many; leave one out" % (threshold, k)
        )
    if learned_threshold:
        logits = logits[..., 1:] - logits[..., :1]
    if labels is not None and len(labels) != logits.shape[-1]:
        raise ValueError(
            "decode_multilabel: %d names for %d classes; give one name per class" % (len(labels), logits.shape[-1])
        )
    if logits.ndim == 1:
        return _decoded(logits, threshold, k, labels)
    counts = k if np.ndim(k) else [k] * len(logits)
    if len(counts) != len(logits):
        raise ValueError("decode_multilabel: %d counts k for %d rows; give one per row" % (len(counts), len(logits)))
    return [_decoded(row, threshold, count, labels) for row, count in zip(logits, counts)]


def _decoded(row, threshold, k, labels):
    found = [int(i) for i in np.argsort(-row, kind="stable") if row[i] > (threshold if k is None else -np.inf)]
    if k is not None:
        found = found[: checks.whole_number(k, "k", "decode_multilabel", least=0)]
    return found if labels is None else [labels[i] for i in found]
