"""Masks where a small model fails: the generator proposes, and the large model stays a masked language model.

The author's alternative to ELECTRA in 用ALBERT和ELECTRA之前，请确认你真的了解它们, kexue.fm/archives/7846: a generator
knows which tokens are easy, so let it say which ones are worth predicting. What comes out can speak.
"""

from typing import List, Tuple

import numpy as np
from scipy.special import log_softmax

from kexue_keras import checks
from kexue_keras.data import gather_places
from kexue_keras.types import Array


def propose_masks(
    tokens: Array,
    inputs: List[Array],
    labels: Array,
    logits: Array,
    *,
    keep: float = 0.5,
) -> Tuple[List[Array], Array]:
    """Of the hidden tokens of each row keep those hidden that a generator predicts worst.

    Args:
        tokens: int [B, n], the text as it is.
        inputs: [tokens with some hidden [B, n], segments [B, n], places [B, m]], inputs of the generator
            (`predict_at`'s); hide 1 / keep times as many as are to be predicted.
        labels: int [B, m] or [B, m, 1], 0 is padding.
        logits: [B, m, V], what the generator gave for `inputs`.
        keep: share of a row's hidden tokens, in (0, 1]; at least one is kept where one is.

    Returns:
        (inputs with the others shown again, labels [B, k, 1]) for the large model.

    Raises:
        ValueError: shapes that differ, or `keep` out of range.

    Reference: kexue.fm/archives/7846.

    >>> inputs = [np.array([[2, 4, 4, 3]]), np.zeros([1, 4], int), np.array([[1, 2]])]
    >>> sure = np.log(np.array([[[.1] * 7 + [.3] * 1, [.1] * 7 + [.3]]]))     # token 7 is most likely at both places
    >>> hard, labels = kexue_keras.models.propose_masks(np.array([[2, 7, 6, 3]]), inputs, np.array([[7, 6]]), sure)
    >>> hard[0].tolist(), hard[2].tolist(), labels.tolist()
    ([[2, 7, 4, 3]], [[2]], [[[6]]])
    """
    keep = checks.number(keep, "keep", "propose_masks", above=0, most=1)
    tokens, logits = np.asarray(tokens), np.asarray(logits, "float64")
    hidden, segments, places = (np.asarray(x) for x in inputs)
    labels = np.asarray(labels).reshape(places.shape)
    if logits.shape[:2] != places.shape or hidden.shape != tokens.shape:
        raise ValueError(
            "propose_masks: tokens have the shape %s, inputs %s, places %s and logits %s"
            % (tokens.shape, hidden.shape, places.shape, logits.shape)
        )
    losses = -np.take_along_axis(log_softmax(logits, axis=-1), labels[..., None], axis=-1)[..., 0]
    losses[labels == 0] = -np.inf
    counts = np.ceil(keep * (labels != 0).sum(axis=1)).astype(int)
    ranks = np.argsort(np.argsort(-losses, axis=1, kind="stable"), axis=1)
    kept = (ranks < counts[:, None]) & (labels != 0)
    wanted, shown = np.zeros_like(tokens), np.array(tokens)
    rows, columns = np.nonzero(kept)
    wanted[rows, places[rows, columns]] = labels[rows, columns]
    shown[wanted != 0] = hidden[wanted != 0]
    places, labels = gather_places(wanted)
    return [shown, segments, places], labels[..., None]
