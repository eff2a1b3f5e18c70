"""Classes that can never be predicted: rows of an output layer that no input makes the largest.

Reference: "你的语言模型有没有“无法预测的词”？", kexue.fm/archives/9046; Grivas, Bogoychev and Lopez, Low-rank softmax can
have unargmaxable classes in theory but rarely in practice, arXiv 2203.06462.
"""

from typing import Optional, Sequence

import numpy as np

from kexue_keras.analysis._argmax_frank_wolfe import minimax_margin
from kexue_keras.analysis._argmax_hull import minimum_norm
from kexue_keras.analysis._argmax_linear_program import linear_program
from kexue_keras.analysis._argmax_screens import braid, is_ahead, screen
from kexue_keras.types import Array, Say

METHODS = ("screen", "braid", "frank_wolfe", "minimum_norm", "lp")


class Argmaxability(object):
    """What `find_unargmaxable` found, a line per class.

    Attributes:
        classes: int array [K].
        status: list of K str: "argmaxable", "unargmaxable", "tied" (equal row and bias as another class, so that it
            never is ahead alone), "unknown".
        method: list of K str: what decided; "equal row", or one of the methods.
        margin: float array [K]: score of the class minus the best other one at the witness; of "lp" the radius of the
            largest ball; of "unargmaxable" by weights the lead of their mean; nan where there is none.
        witness: dict class -> z [d], of "argmaxable" and "tied" classes; W z + b is largest there.
        beaten_by: dict class -> (rows, weights), of "unargmaxable" ones where it was found: at every z the weighted
            mean of these rows' scores is at least that of the class.
    """

    def __init__(self, classes):
        self.classes = np.asarray(classes)
        self.status = ["unknown"] * len(self.classes)
        self.method = [""] * len(self.classes)
        self.margin = np.full(len(self.classes), np.nan)
        self.witness, self.beaten_by = {}, {}

    def of(self, status):
        """The classes with a status, an int array."""
        return self.classes[[s == status for s in self.status]]

    def counts(self):
        """dict status -> number of classes, without those that do not occur."""
        return {s: self.status.count(s) for s in ("argmaxable", "tied", "unargmaxable", "unknown") if s in self.status}

    def __repr__(self):
        return "<Argmaxability of %d classes: %s>" % (len(self.classes), self.counts())


def find_unargmaxable(
    W: Array,
    b: Optional[Array] = None,
    *,
    classes: Optional[Sequence[int]] = None,
    methods: Sequence[str] = ("screen", "braid", "minimum_norm", "lp"),
    patience: int = 100,
    box: float = 100.0,
    tolerance: Optional[float] = None,
    say: Optional[Say] = None,
) -> "Argmaxability":
    """Which classes of an output layer no input can make the prediction.

    Class k can win if some z has (w_i - w_k) . z + b_i - b_k < 0 for all i != k. The methods are tried in order on what
    is left: "screen" (z along w_k), "braid" (reflections), "frank_wolfe" (the article's), "minimum_norm" (the same
    minimum, exactly) and "lp" (exact where all others fail). Of equal rows only those with the largest bias can win,
    which needs no method. z is any vector with entries up to `box`; it is greedy decoding that is meant, sampling and
    beams may still emit such a word.

    Args:
        W: float [V, d], one row per class (the kernel of a Dense layer transposed, or an embedding used again).
        b: float [V] or None.
        classes: ints, the ones to decide; None: all.
        methods: names, in the order of use.
        patience: int, the most reflections of "braid". Unargmaxable classes use all of them.
        box: number > 0, the largest entry of z.
        tolerance: number, the distance of a row from the convex hull of others, relative to the rows' size, that
            counts as 0; None: four roundings of the dtype of W, 4.8e-7 for float32 and 1e-9 for float64.
        say: function that is called with lines of progress; None: silence.

    Returns:
        `Argmaxability`.

    Raises:
        ValueError: shapes that do not fit, numbers that are not finite, a class out of range, an unknown method.

    Reference: kexue.fm/archives/9046; arXiv 2203.06462.

    >>> W = np.array([[1, 2], [2, 1], [1, 0], [0, 1], [1, 1]])
    >>> kexue_keras.analysis.find_unargmaxable(W).of("unargmaxable").tolist()
    [4]
    >>> kexue_keras.analysis.find_unargmaxable(W, [0, 0, 0, 0, 0.01]).of("unargmaxable").tolist()
    []
    """
    if tolerance is None:
        tolerance = max(1e-9, 4 * float(np.finfo(np.asarray(W).dtype).eps)) if np.asarray(W).dtype.kind == "f" else 1e-9
    W, b, classes = _checked(W, b, classes, methods, patience, box)
    say = say or (lambda line: None)
    result = Argmaxability(classes)
    first, group, largest, ties = _merge_equal_rows(W, b)
    kept_W, kept_b = W[first], largest
    # The merged classes that have to be decided; those below their group's largest bias are decided already.
    alive = np.array([b[k] == largest[group[k]] for k in classes], bool)
    left = np.unique(group[classes[alive]]) if alive.any() else np.array([], int)
    found = {}
    if len(first) == 1:
        found = {0: ("argmaxable", "equal row", np.zeros(W.shape[1]), np.inf)}
        left = left[:0]
    for method in methods:
        if not len(left):
            break
        found.update(_decide(method, kept_W, kept_b, left, patience, box, tolerance, say))
        left = np.array([k for k in left if k not in found], int)
        say("%s: %d of %d classes are left" % (method, len(left), len(classes)))
    for i, k in enumerate(classes):
        if not alive[i]:
            winner = int(np.flatnonzero((group == group[k]) & (b == largest[group[k]]))[0])
            result.status[i], result.method[i] = "unargmaxable", "equal row"
            result.margin[i], result.beaten_by[int(k)] = b[winner] - b[k], (np.array([winner]), np.ones(1))
        elif group[k] in found:
            status, method, proof, result.margin[i] = found[group[k]]
            if status == "argmaxable":
                result.witness[int(k)] = proof
                if ties[group[k]] > 1:
                    status, method, result.margin[i] = "tied", "equal row", 0.0
            elif proof is not None:
                result.beaten_by[int(k)] = (first[proof[0]], proof[1])
            result.status[i], result.method[i] = status, method
    return result


def _checked(W, b, classes, methods, patience, box):
    W = np.asarray(W, "float64")
    b = np.zeros(len(W)) if b is None else np.asarray(b, "float64")
    if W.ndim != 2 or not len(W) or b.shape != W.shape[:1]:
        raise ValueError(
            "find_unargmaxable: W must be [V, d] and b [V], but they have the shapes %s and %s" % (W.shape, b.shape)
        )
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise ValueError("find_unargmaxable: W and b must be finite, but hold %d other numbers" % _not_finite(W, b))
    classes = np.arange(len(W)) if classes is None else np.atleast_1d(np.asarray(classes))
    if (
        classes.ndim != 1
        or classes.dtype.kind not in "iu"
        or (len(classes) and not -1 < classes.min() <= classes.max() < len(W))
    ):
        raise ValueError("find_unargmaxable: classes must be whole numbers in [0, %d), but are %r" % (len(W), classes))
    unknown = [method for method in methods if method not in METHODS]
    if unknown:
        raise ValueError("find_unargmaxable: methods must be of %s, but has %r" % (", ".join(METHODS), unknown[0]))
    for name, value in (("patience", patience), ("box", box)):
        if not value > 0:
            raise ValueError("find_unargmaxable: %s must be a number > 0, but is %r" % (name, value))
    return W, b, classes


def _not_finite(W, b):
    return int((~np.isfinite(W)).sum() + (~np.isfinite(b)).sum())


def _merge_equal_rows(W, b):
    """(first row of each group [G], group of each class [V], largest bias of a group [G], how many have it [G])."""
    numbers, group = {}, np.empty(len(W), int)
    for k, row in enumerate(W + 0.0):  # -0 and 0 are one number with two patterns of bits
        group[k] = numbers.setdefault(row.tobytes(), len(numbers))
    _, first = np.unique(group, return_index=True)
    largest = np.full(len(first), -np.inf)
    np.maximum.at(largest, group, b)
    return first, group, largest, np.bincount(group, weights=b == largest[group])


def _decide(method, W, b, left, patience, box, tolerance, say):
    """dict class -> (status, method, witness or (rows, weights) or None, margin) of those that the method decides."""
    if method in ("screen", "braid"):
        found = screen(W, b, left, box) if method == "screen" else braid(W, b, left, patience, box)
        return {k: ("argmaxable", method) + both for k, both in found.items()}
    found = {}
    for count, k in enumerate(left):
        if method == "frank_wolfe":
            decided = _frank_wolfe(W, b, k, box)
        elif method == "minimum_norm":
            decided = minimum_norm(W, b, k, box, tolerance=tolerance)
        else:
            decided = linear_program(W, b, k, box)
        if decided is not None and decided[0] != "unknown":
            found[int(k)] = (decided[0], method) + tuple(decided[1:])
        say("%s: class %d (%d of %d): %s" % (method, k, count + 1, len(left), decided[0] if decided else "not decided"))
    return found


def _frank_wolfe(W, b, k, box):
    """Only a witness counts: a norm that goes to 0 is a hint, and the ball is smaller than the box."""
    bounds = minimax_margin(W, b, k, radius=box)
    certain, margin = is_ahead(W, b, k, bounds.witness)
    return ("argmaxable", bounds.witness, margin) if certain else None
