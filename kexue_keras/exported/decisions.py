"""From probabilities to labels: one per text, or several."""

import numpy as np

# From here on one of several labels is predicted.
THRESHOLD = 0.5


def describe_one(probabilities, names):
    """List of (label, probability), the most likely of each row.

    >>> describe_one(np.array([[.25, .75]]), ['no', 'yes'])
    [('yes', 0.75)]
    """
    return [(names[i], float(row[i])) for i, row in zip(probabilities.argmax(axis=-1), probabilities)]


def describe_several(probabilities, names):
    """List of (labels, probabilities); both are lists, the most likely first.

    >>> describe_several(np.array([[.625, .25, .75]]), ['a', 'b', 'c'])
    [(['c', 'a'], [0.75, 0.625])]
    """
    out = []
    for row in probabilities:
        chosen = [i for i in np.argsort(-row, kind="stable") if row[i] > THRESHOLD]
        out.append(([names[i] for i in chosen], [float(row[i]) for i in chosen]))
    return out
