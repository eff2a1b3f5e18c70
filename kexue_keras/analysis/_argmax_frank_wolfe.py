"""How far a class can get ahead of all others within a ball: the article's test, Frank-Wolfe with radius and bias.

Reference: "你的语言模型有没有“无法预测的词”？", kexue.fm/archives/9046; the algorithm of kexue.fm/archives/8896.
"""

from collections import namedtuple
from typing import Optional

import numpy as np

from kexue_keras.types import Array

MinimaxMargin = namedtuple("MinimaxMargin", "lower upper witness weights")


def minimax_margin(
    W: Array,
    b: Optional[Array],
    k: int,
    *,
    radius: float = 100.0,
    iterations: int = 2000,
    tolerance: float = 1e-9,
) -> "MinimaxMargin":
    """The largest margin of class k over all others within a ball, from below and from above.

    max over |z| <= r of min_i (D_i . z + c_i) = min over the simplex of r |sum a_i D_i| + sum a_i c_i, where
    D_i = w_k - w_i and c_i = b_k - b_i. Frank-Wolfe on the right side gives an upper bound, and with z along
    sum a_i D_i a lower one. Positive from below: class k wins at `witness`. Not positive from above: nowhere in the
    ball. Steps take weight from the worst row that has some (pairwise Frank-Wolfe), so that it does not zigzag. The
    bounds hold whenever it stops, and meet slowly where the least norm is 0 and the bias decides.

    Args:
        W: float [V, d], rows of the classes.
        b: float [V] or None.
        k: int, the class.
        radius: number > 0, r.
        iterations: int, the most steps.
        tolerance: number, the difference of the bounds that is small enough.

    Returns:
        namedtuple (lower, upper, witness [d], weights [V] with 0 at k).

    Raises:
        ValueError: fewer than two classes, shapes that do not fit, radius not > 0.

    Reference: kexue.fm/archives/9046.

    >>> W = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1], [0.2, 0.1]])
    >>> found = kexue_keras.analysis.minimax_margin(W, [0, 0, 0, 0, 0.5], 4, radius=10.0)
    >>> round(found.lower, 4), round(found.upper, 4)
    (0.5, 0.5)
    """
    W = np.asarray(W, "float64")
    b = np.zeros(len(W)) if b is None else np.asarray(b, "float64")
    if W.ndim != 2 or len(W) < 2 or b.shape != W.shape[:1]:
        raise ValueError(
            "minimax_margin: W must be [V, d] with at least two rows and b [V], but they have the shapes %s and %s"
            % (W.shape, b.shape)
        )
    if not radius > 0:
        raise ValueError("minimax_margin: radius must be a number > 0, but is %r" % (radius,))
    others = np.delete(np.arange(len(W)), k)
    D, c = W[k] - W[others], b[k] - b[others]
    weights = np.zeros(len(D))
    weights[np.argmin(c + radius * np.linalg.norm(D, axis=1))] = 1.0
    v, constant = weights @ D, weights @ c
    # At v = 0 the norm has a kink, where steps get stuck: it is rounded off by `smooth`, less and less.
    smooth = np.linalg.norm(D, axis=1).max()
    lower, witness, upper = float(c.min()), np.zeros(W.shape[1]), np.inf
    for _ in range(iterations):
        length = np.linalg.norm(v)
        upper = min(upper, radius * length + constant)
        z = radius * v / np.hypot(length, smooth)
        scores = D @ z + c
        if scores.min() > lower:
            lower, witness = float(scores.min()), z
        if upper - lower <= tolerance:
            break
        if weights @ scores - scores.min() < radius * smooth / 2:
            smooth = max(smooth / 2, 1e-12 * np.abs(D).max())
        toward = np.argmin(scores)
        away = np.argmax(np.where(weights > 0, scores, -np.inf))
        step = D[toward] - D[away]
        size = _line_search(v, step, c[toward] - c[away], radius, weights[away], smooth)
        weights[toward] += size
        weights[away] = 0.0 if size == weights[away] else weights[away] - size
        v, constant = weights @ D, weights @ c
    spread = np.zeros(len(W))
    spread[others] = weights
    return MinimaxMargin(lower, float(upper), witness, spread)


def _line_search(v, step, slope, radius, most, smooth):
    """The s in [0, most] with the least radius sqrt(|v + s step|^2 + smooth^2) + slope s, in closed form."""
    square, product = step @ step, v @ step
    steep = radius * radius * square - slope * slope
    if square == 0 or steep <= 0:
        return most if slope < 0 else 0.0
    # With x = product + s square: radius x = -slope sqrt((x^2 + rest) / square).
    rest = max((v @ v + smooth * smooth) * square - product * product, 0.0)
    x = -slope * np.sqrt(rest / steep)
    return float(np.clip((x - product) / square, 0.0, most))
