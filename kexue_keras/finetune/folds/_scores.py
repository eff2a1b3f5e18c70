"""Scores of predictions out of fold, with the 95% intervals of a bootstrap over texts."""

import re

import numpy as np

from kexue_keras.finetune._report import class_counts, precision_recall_f1, wilson_interval
from kexue_keras.finetune._similarity_heads import rankable

RESAMPLES = 1000
# Larger files have so narrow intervals that fewer draws do.
MANY = 20000


def out_of_fold_scores(task, true, predicted, groups, *, several=False, seed=0, draws=RESAMPLES):
    """Scores of all rows together.

    Args:
        task: 'classification' or 'similarity'.
        true, predicted: lists of cells as predictions.tsv has them: labels, or scores and cosines as floats.
        groups: list of int `[N]`: rows of a group are drawn together.
        several: bool, whether a cell has several labels.
        seed: int, of the bootstrap.
        draws: int, of the bootstrap; of large files a fifth of them.

    Returns:
        JSON-able dict: texts; each score, and its interval as `..._interval`.

    >>> found = out_of_fold_scores('classification', ['a', 'b', 'b', 'a'], ['a', 'b', 'a', 'a'], [0, 1, 2, 3])
    >>> found['accuracy'], round(found['macro_f1'], 4)
    (0.75, 0.7333)
    """
    if task == "similarity":
        pair = np.asarray(true, "float64"), np.asarray(predicted, "float64")
        measure, first = _similarity, pair
    else:
        first = _as_classes(true, predicted, several)
        measure = _classification
    scores = measure(*first)
    found = {"texts": len(true)}
    drawn = [measure(first[0][rows], first[1][rows]) for rows in _resampled(groups, seed, draws)]
    for name, value in scores.items():
        if name == "classes":
            continue
        values = [one[name] for one in drawn if np.isfinite(one[name])]
        found[name] = round(float(value), 6)
        interval = np.percentile(values, [2.5, 97.5]) if values else (value, value)
        found[name + "_interval"] = [round(float(end), 6) for end in interval]
    if task == "classification":
        # A share has its interval without drawing.
        right = int(round(scores["accuracy"] * len(true)))
        found["accuracy_interval"] = [round(end, 6) for end in wilson_interval(right, len(true))]
    return found


def _as_classes(true, predicted, several):
    """Two int arrays, `[N]`, or `[N, C]` of 0 and 1 where a text has several labels."""
    cells = [
        [_labels(cell) for cell in column] if several else [[cell] for cell in column] for column in (true, predicted)
    ]
    names = sorted({label for column in cells for labels in column for label in labels})
    place = {name: i for i, name in enumerate(names)}
    if not several:
        return tuple(np.array([place[labels[0]] for labels in column]) for column in cells)
    arrays = np.zeros((2, len(true), len(names)), int)
    for array, column in zip(arrays, cells):
        for row, labels in zip(array, column):
            row[[place[label] for label in labels]] = 1
    return tuple(arrays)


def _labels(cell):
    r"""The labels of a cell that `data._cells.join` wrote.

    >>> _labels('a\\|b|c')
    ['a\\|b', 'c']
    """
    return re.findall(r"(?:\\.|[^|\\])+", cell)


def _classification(true, predicted):
    classes = true.shape[1] if true.ndim > 1 else int(max(true.max(), predicted.max())) + 1
    right, chosen, there = class_counts(true, predicted, classes)
    _, _, f1 = precision_recall_f1(right, chosen, there)
    same = (true == predicted) if true.ndim == 1 else (true == predicted).all(axis=1)
    # A class that is neither there nor predicted in a draw has no score.
    seen = (chosen + there) > 0
    return {
        "accuracy": same.mean(),
        "macro_f1": f1[seen].mean(),
        "micro_f1": 2 * right.sum() / max(chosen.sum() + there.sum(), 1),
    }


def _similarity(scores, cosines):
    from scipy.stats import pearsonr, spearmanr

    ranked = rankable(cosines)
    if np.ptp(scores) == 0 or np.ptp(ranked) == 0:
        return {"spearman": float("nan"), "pearson": float("nan")}
    return {"spearman": spearmanr(ranked, scores)[0], "pearson": pearsonr(cosines, scores)[0]}


def _resampled(groups, seed, draws):
    """Arrays of rows, each of as many groups as there are, drawn with replacement."""
    groups = np.unique(np.asarray(groups), return_inverse=True)[1]
    order = np.argsort(groups, kind="mergesort")
    sizes = np.bincount(groups)
    starts = np.cumsum(sizes) - sizes
    random = np.random.RandomState(seed % 2**32)
    for _ in range(draws if len(groups) <= MANY else draws // 5):
        drawn = random.randint(len(sizes), size=len(sizes))
        many = sizes[drawn]
        # Positions within each drawn group, added to where it starts.
        inner = np.arange(many.sum()) - np.repeat(np.cumsum(many) - many, many)
        yield order[np.repeat(starts[drawn], many) + inner]
