"""Rows dealt out to the folds of a cross-validation: equal shares of each label, and what is equal in one fold."""

import numpy as np

from kexue_keras.data._pairs import joined_groups
from kexue_keras.errors import UserError, shorten


def row_groups(texts):
    """Number of the group of each row: equal texts are one group; of pairs, those that are joined by a text.

    If the largest group of pairs holds more than its share, only equal pairs are, in whichever order, as when a part is
    split off for validation.

    Args:
        texts: list of str, or of (str, str).

    Returns:
        list of int.

    >>> row_groups(['a', 'b', 'a']), row_groups([('a', 'b'), ('b', 'c'), ('d', 'e'), ('e', 'd')])
    ([0, 1, 0], [0, 0, 1, 1])
    """
    if texts and isinstance(texts[0], tuple):
        return joined_groups(texts)
    seen = {}
    return [seen.setdefault(text, len(seen)) for text in texts]


def deal_folds(groups, strata, folds, seed):
    """Number of the fold of each row, from 0.

    The groups of a stratum, in random order and the large ones first, go to the fold that has the fewest rows of that
    stratum, among equals to that with the fewest rows in all; so a fold's share of a stratum is even to one group.

    Args:
        groups: list of int `[N]`; no group parts.
        strata: list `[N]` of what each fold should have its share of; a group counts by its first row.
        folds: int.
        seed: int.

    Returns:
        int array `[N]`.

    Raises:
        UserError: fewer groups than folds.

    >>> folds = deal_folds([0, 0, 1, 2, 3, 4], ['x', 'x', 'x', 'y', 'y', 'x'], 2, seed=1)
    >>> folds[0] == folds[1], sorted(folds.tolist())
    (True, [0, 0, 0, 1, 1, 1])
    """
    members = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    if len(members) < folds:
        raise UserError("--folds %d: there are %d different texts" % (folds, len(members)))
    by_stratum = {}
    for rows in members.values():
        by_stratum.setdefault(strata[rows[0]], []).append(rows)
    random, numbers = np.random.RandomState(seed % 2**32), np.zeros(len(groups), int)
    total = np.zeros(folds, int)
    for stratum in sorted(by_stratum, key=str):
        whole, here = by_stratum[stratum], np.zeros(folds, int)
        order = sorted(random.permutation(len(whole)), key=lambda i: -len(whole[i]))
        for i in order:
            fold = min(range(folds), key=lambda k: (here[k], total[k]))
            numbers[whole[i]] = fold
            here[fold] += len(whole[i])
            total[fold] += len(whole[i])
    return numbers


def check_labels_in_folds(labels, numbers, path):
    """Refuse folds of which one holds all texts of a label: whoever is trained on the others has never seen it.

    Args:
        labels: list of str, or of tuples of str.
        numbers: int array, fold of each row.
        path: of the file, for the message.

    Raises:
        UserError: naming the label.
    """
    there = {}
    for label, number in zip(labels, numbers):
        for one in label if isinstance(label, tuple) else (label,):
            there.setdefault(one, set()).add(number)
    alone = sorted(label for label, found in there.items() if len(found) < 2)
    if alone:
        raise UserError(
            "--folds: all texts of the label %s would be in one fold, so the run that is tested on them has never seen "
            "it; two different texts of a label are needed at least" % shorten(repr(alone[0])),
            path=path,
        )
