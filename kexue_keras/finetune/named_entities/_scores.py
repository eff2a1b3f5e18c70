"""How well entities are found: exact spans with intervals, and `seqeval`'s scores where no entities overlap."""

import numpy as np

from kexue_keras.data._tags import first_overlap, tags_of_spans
from kexue_keras.finetune._report import wilson_interval

RESAMPLES = 1000


def entity_scores(true, found, labels):
    """Precision, recall and F1 of entities; one is right if start, end and label are.

    The intervals of F1 are bootstrap percentiles over texts, since entities of one text are not independent; those of
    precision and recall are Wilson's.

    Args:
        true, found: lists of sets of (start, end, label), a set per text.
        labels: list of str.

    Returns:
        JSON-able dict: texts, entities, found, precision, recall, f1 (micro), f1_interval (95%), macro_f1, and classes:
        label -> precision, recall, f1, their intervals, entities, found.

    >>> scores = entity_scores([{(0, 2, 'LOC'), (3, 4, 'PER')}], [{(0, 2, 'LOC'), (3, 5, 'PER')}], ['LOC', 'PER'])
    >>> scores['f1'], scores['classes']['LOC']['f1'], scores['macro_f1']
    (0.5, 1.0, 0.5)
    """
    counts = np.zeros((len(true), len(labels), 3), "int64")
    number = {label: i for i, label in enumerate(labels)}
    for row, wanted, given in zip(counts, true, found):
        for column, entities in enumerate((wanted & given, given, wanted)):
            for entity in entities:
                row[number[entity[2]], column] += 1
    total = counts.sum(axis=0)
    draws = _resampled(counts)
    of_class = _f1(total)
    scores = dict(_summary(total.sum(axis=0), draws.sum(axis=1)), texts=len(true))
    scores["macro_f1"] = float(np.mean(of_class)) if len(labels) else 0.0
    scores["classes"] = {label: _summary(total[i], draws[:, i]) for label, i in number.items()}
    return scores


def micro_scores(true, found):
    """Precision, recall and F1 of all entities together, for the validation after each epoch.

    >>> micro_scores([{(0, 2, 'LOC'), (3, 4, 'PER')}], [{(0, 2, 'LOC'), (3, 5, 'PER')}])['f1']
    0.5
    """
    right = sum(len(wanted & given) for wanted, given in zip(true, found))
    given, wanted = sum(map(len, found)), sum(map(len, true))
    f1 = 2 * right / max(given + wanted, 1)
    return {"precision": right / max(given, 1), "recall": right / max(wanted, 1), "f1": f1}


def _f1(counts):
    """F1 of `[..., 3]`: right, found, there; 0 where nothing is divided by nothing."""
    right, sizes = counts[..., 0], counts[..., 1] + counts[..., 2]
    return 2 * right / np.maximum(sizes, 1)


def _resampled(counts):
    """int `[RESAMPLES, labels, 3]`: sums over as many texts, drawn with replacement."""
    random, texts = np.random.RandomState(0), len(counts)
    if not texts:
        return np.zeros((1,) + counts.shape[1:], "int64")
    draws = []
    for _ in range(RESAMPLES):
        times = np.bincount(random.randint(texts, size=texts), minlength=texts)
        draws.append(np.tensordot(times, counts, 1))
    return np.array(draws)


def _summary(counts, draws):
    right, found, there = (int(count) for count in counts)
    low, high = np.percentile(_f1(draws), [2.5, 97.5])
    return {
        "precision": right / max(found, 1),
        "precision_interval": _wilson(right, found),
        "recall": right / max(there, 1),
        "recall_interval": _wilson(right, there),
        "f1": float(_f1(np.array(counts))),
        "f1_interval": [float(low), float(high)],
        "entities": there,
        "found": found,
    }


def _wilson(right, total):
    return [min(max(bound, 0.0), 1.0) for bound in wilson_interval(right, total)] if total else [0.0, 1.0]


def seqeval_scores(texts, true, found):
    """Micro precision, recall and F1 of `seqeval`, strict, on BIOES tags of the characters.

    Args:
        texts: list of str.
        true, found: see `entity_scores`.

    Returns:
        dict, or a str that says why there are none.
    """
    if any(map(first_overlap, true)) or any(map(first_overlap, found)):
        return "entities overlap, which tags cannot say"
    try:
        from seqeval.metrics import f1_score, precision_score, recall_score
        from seqeval.scheme import IOBES
    except ImportError:
        return "seqeval is not installed (pip install seqeval)"
    tags = [[tags_of_spans(spans, len(text)) for spans, text in zip(side, texts)] for side in (true, found)]
    how = dict(mode="strict", scheme=IOBES, zero_division=0)
    names = {"precision": precision_score, "recall": recall_score, "f1": f1_score}
    return {name: float(score(*tags, **how)) for name, score in names.items()}
