"""Indices shared out in two with equal shares of each stratum."""

import numpy as np


def stratified_indices(strata, held_out, random):
    """Two parts of 0, 1, ..., each with about the same share of every stratum.

    The draws are those of scikit-learn's `train_test_split(..., stratify=strata)`, with the same seed.

    Args:
        strata: int array `[N]`, each value at least twice.
        held_out: size of the second part; it and the first have room for one of each stratum.
        random: numpy RandomState.

    Returns:
        pair of int arrays, in no particular order.

    >>> first, second = stratified_indices(np.array([0, 1] * 10), 4, np.random.RandomState(0))
    >>> sorted(second % 2)
    [0, 0, 1, 1]
    """
    _, inverse, counts = np.unique(strata, return_inverse=True, return_counts=True)
    firsts = _shares(counts, len(inverse) - held_out, random)
    seconds = _shares(counts - firsts, held_out, random)
    members = np.split(np.argsort(inverse, kind="mergesort"), np.cumsum(counts)[:-1])
    parts = [], []
    for indices, first, second in zip(members, firsts, seconds):
        drawn = indices[random.permutation(len(indices))]
        parts[0].append(drawn[:first])
        parts[1].append(drawn[first : first + second])
    return np.concatenate(parts[0]), np.concatenate(parts[1])


def _shares(counts, total, random):
    """`total` shared out in proportion to `counts`: rounded down, and what is left to the largest remainders."""
    exact = counts / counts.sum() * total
    shares = np.floor(exact)
    remainders = exact - shares
    left = int(total - shares.sum())
    for value in np.unique(remainders)[::-1]:
        if left <= 0:
            break
        tied = np.flatnonzero(remainders == value)
        chosen = random.choice(tied, size=min(len(tied), left), replace=False)
        shares[chosen] += 1
        left -= len(chosen)
    return shares.astype(int)
