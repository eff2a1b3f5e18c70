"""What is read off a linear chain in numpy: the best tags, the loss, and how probable a stretch of tags is.

Reference: "简明条件随机场CRF介绍（附带纯Keras实现）", kexue.fm/archives/5542; Viterbi 1967; Rabiner 1989.
"""

from collections import namedtuple

import numpy as np


class Chain(namedtuple("Chain", "start end transitions scores")):
    """The chain of one text, float64.

    Attributes:
        start, end: `[C]`, scores of the first and the last tag.
        transitions: `[C, C]`, score of a tag (column) after another (row).
        scores: `[n, C]`, of the tags at the positions of the chain, n > 0.
    """


def chains_of(outputs, places):
    """The chains of a batch.

    Args:
        outputs: `[B, C + 2 + n, C]`, of `layers.LinearChainCRF`.
        places: for each row the places that are in its chain, a list of int in order.

    Yields:
        `Chain`, or None for a row without places.
    """
    tags = outputs.shape[-1]
    for output, chosen in zip(np.asarray(outputs, "float64"), places):
        if not len(chosen):
            yield None
            continue
        yield Chain(output[0], output[1], output[2 : tags + 2], output[tags + 2 :][np.asarray(chosen)])


def viterbi(chain, allowed=None):
    """The tags with the highest score.

    Args:
        chain: `Chain`.
        allowed: (bool `[C]` first tags, bool `[C]` last tags, bool `[C, C]` tags after tags), or None: all are.

    Returns:
        int `[n]`.

    >>> zeros = np.zeros((2, 2))
    >>> viterbi(Chain(zeros[0], zeros[0], np.array([[0, -3.0], [0, 0]]), np.array([[1, 0], [0, 2.0]]))).tolist()
    [1, 1]
    """
    start, end, transitions, scores = chain
    if allowed is not None:
        start, end, transitions = (
            np.where(legal, values, -np.inf) for legal, values in zip(allowed, (start, end, transitions))
        )
    best, came_from = start + scores[0], []
    for at in scores[1:]:
        reached = best[:, None] + transitions
        came_from.append(reached.argmax(axis=0))
        best = reached.max(axis=0) + at
    tags = [int(np.argmax(best + end))]
    for before in reversed(came_from):
        tags.append(int(before[tags[-1]]))
    return np.array(tags[::-1])


def forward(chain):
    """`[n, C]`: log of the sum of exp of all beginnings that end with a tag at a place."""
    start, _, transitions, scores = chain
    rows = [start + scores[0]]
    for at in scores[1:]:
        rows.append(np.logaddexp.reduce(rows[-1][:, None] + transitions, axis=0) + at)
    return np.array(rows)


def backward(chain):
    """`[n, C]`: log of the sum of exp of all continuations after a tag at a place, without that place's score."""
    _, end, transitions, scores = chain
    rows = [np.array(end)]
    for at in scores[:0:-1]:
        rows.append(np.logaddexp.reduce(transitions + at + rows[-1], axis=1))
    return np.array(rows[::-1])


def path_score(chain, tags):
    """s(y), the score of a sequence of tags."""
    tags = np.asarray(tags)
    inner = chain.scores[np.arange(len(tags)), tags].sum() + chain.transitions[tags[:-1], tags[1:]].sum()
    return float(chain.start[tags[0]] + inner + chain.end[tags[-1]])


def negative_log_likelihood(chain, tags):
    """What `losses.crf_negative_log_likelihood` computes."""
    return float(np.logaddexp.reduce(forward(chain)[-1] + chain.end) - path_score(chain, tags))


def stretch_probabilities(chain, tags, stretches):
    """How probable it is that the places of a stretch have just these tags, whatever the others have.

    Args:
        chain: `Chain`.
        tags: int `[n]`.
        stretches: list of (first place, last place).

    Returns:
        list of float.
    """
    if not stretches:
        return []
    ahead, behind = forward(chain), backward(chain)
    total = np.logaddexp.reduce(ahead[-1] + chain.end)
    found = []
    for first, last in stretches:
        inner = range(first + 1, last + 1)
        between = sum(chain.transitions[tags[t - 1], tags[t]] + chain.scores[t, tags[t]] for t in inner)
        found.append(float(np.exp(ahead[first, tags[first]] + between + behind[last, tags[last]] - total)))
    return found
