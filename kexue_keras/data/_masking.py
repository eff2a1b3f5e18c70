"""Random masking: which tokens a masked language model has to predict, and what it sees in their place.

Reference: BERT (arXiv 1810.04805); "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764.
"""

from typing import Sequence, Tuple, Union

import numpy as np

from kexue_keras.plain_types import Array


def random_masking(
    token_ids: Array,
    random: np.random.RandomState,
    *,
    mask_id: int,
    vocab_size: int,
    protected: Union[Sequence[int], Array] = (),
    mask_rate: float = 0.15,
    lowest: int = 1,
) -> Tuple[Array, Array]:
    """Hide tokens as BERT does: of those chosen 80% become [MASK], 10% another token, 10% stay.

    Each token that may be chosen is, with probability `mask_rate`, independently.

    Args:
        token_ids: int array of any shape; 0 is padding and never chosen.
        random: `np.random.RandomState`.
        mask_id: int, the id of [MASK].
        vocab_size: int; the other tokens are drawn from `lowest` to vocab_size - 1.
        protected: ids that are never chosen ([CLS], [SEP]), or a boolean array of the shape of `token_ids`.
        mask_rate: float in [0, 1).
        lowest: first id that may stand in for another.

    Returns:
        (inputs, labels), arrays like `token_ids`; labels are 0 where nothing is to be predicted.

    Raises:
        ValueError: mask_rate outside [0, 1), or mask_id outside the vocabulary.

    Reference: arXiv 1810.04805.

    >>> from kexue_keras.data import random_masking
    >>> ids = np.array([[2, 50, 51, 52, 3, 0]])
    >>> random = np.random.RandomState(3)
    >>> random_masking(ids, random, mask_id=4, vocab_size=90, protected=[2, 3], mask_rate=.5)
    (array([[ 2, 50,  4, 52,  3,  0]]), array([[ 0,  0, 51,  0,  0,  0]]))
    """
    if not 0 <= mask_rate < 1:
        raise ValueError("mask_rate is %r; it is a probability in [0, 1)" % (mask_rate,))
    if not 0 < mask_id < vocab_size:
        raise ValueError("mask_id is %r; it has to lie between 1 and vocab_size - 1 = %d" % (mask_id, vocab_size - 1))
    token_ids = np.asarray(token_ids)
    protected = np.asarray(protected)
    if protected.dtype != bool:
        protected = np.isin(token_ids, protected)
    chosen = (random.random_sample(token_ids.shape) < mask_rate) & ~protected & (token_ids != 0)
    dice = random.random_sample(token_ids.shape)
    others = random.randint(lowest, vocab_size, token_ids.shape).astype(token_ids.dtype)
    seen = np.where(dice < 0.8, np.asarray(mask_id, token_ids.dtype), np.where(dice < 0.9, others, token_ids))
    return np.where(chosen, seen, token_ids), np.where(chosen, token_ids, 0)


def gather_places(labels: Array) -> Tuple[Array, Array]:
    """The places that have a label, row by row, padded to the longest row.

    Args:
        labels: int array `[B, n]`, 0 where nothing is predicted.

    Returns:
        (places `[B, m]`, labels at the places `[B, m]` with 0 for padding), m >= 1.

    >>> from kexue_keras.data import gather_places
    >>> gather_places(np.array([[0, 7, 0, 8], [0, 0, 9, 0]]))
    (array([[1, 3],
           [2, 0]], dtype=int32), array([[7, 8],
           [9, 0]]))
    """
    counts = (labels != 0).sum(axis=1)
    places = np.argsort(labels == 0, axis=1, kind="stable")[:, : max(1, int(counts.max()))]
    return places.astype("int32"), np.take_along_axis(labels, places, axis=1)
