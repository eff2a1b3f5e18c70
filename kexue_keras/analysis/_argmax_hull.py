"""Whether a row lies in the convex hull of others: the article's minimum norm, found exactly by active sets.

Frank-Wolfe comes near the minimum of |sum a_i D_i| and never says that it is 0. Non-negative least squares (Lawson and
Hanson) ends with the active rows: either the residual is 0 up to rounding and the weights prove it, or the residual is
a direction in which the class wins far out. Rows are added as they are violated, so that only a few are ever in play.

Reference: kexue.fm/archives/9046; Wolfe, Finding the nearest point in a polytope, 1976.
"""

import warnings

import numpy as np
from scipy.optimize import nnls

from kexue_keras.analysis._argmax_screens import is_ahead, ray


def nearest_rows(W, k, count):
    """The rows with the largest product with row k, without k; those are the most likely rivals."""
    products = W @ W[k]
    products[k] = -np.inf
    count = min(count, len(W) - 1)
    return np.argpartition(-products, count - 1)[:count] if count < len(W) - 1 else np.delete(np.arange(len(W)), k)


def most_violated(scores, k, rows, count):
    """Up to `count` rows outside `rows` whose scores are at least that of k, the highest first."""
    ahead = scores - scores[k]
    ahead[k] = ahead[rows] = -np.inf
    worst = np.argsort(-ahead)[:count]
    return worst[ahead[worst] >= 0]


def convex_weights(W, k, rows, tolerance):
    """Weights p >= 0 of `rows` with p D as near to 0 as can be, and the direction p D; D_i = w_k - w_i.

    Minimises |p D|^2 / scale^2 + (1 - sum p)^2, whose residual is orthogonal to the active rows and on the right side
    of all others.

    Returns:
        (weights, direction [d], whether it is 0); None where the iteration did not end.
    """
    D = W[k] - W[rows]
    scale = np.sqrt(np.mean(D**2) * D.shape[1])
    system = np.vstack([D.T / scale, np.ones(len(rows))])
    target = np.append(np.zeros(D.shape[1]), 1.0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights, _ = nnls(system, target)
    except RuntimeError:  # too many iterations
        return None
    if not weights.sum() > 0:
        return None
    weights /= weights.sum()
    direction = weights @ D
    return weights, direction, np.linalg.norm(direction) <= tolerance * scale


def minimum_norm(W, b, k, box, *, tolerance=1e-9, start=800, more=400):
    """Decide class k by the point of the hull of D that is nearest to 0, if that can be done.

    Args:
        W: float64 [V, d].
        b: float64 [V].
        k: int.
        box: number, the largest entry of z.
        tolerance: number, the distance from the hull, relative to the rows, that is 0.
        start: int, how many rows to begin with.
        more: int, how many violated rows to add at a time.

    Returns:
        ("argmaxable", witness, margin), ("unargmaxable", (rows, weights), bias of the combination minus that of k), or
        None: the bias decides, or the box, or rounding.
    """
    rows = nearest_rows(W, k, start)
    while True:
        found = convex_weights(W, k, rows, tolerance)
        if found is None:
            return None
        weights, direction, zero = found
        if zero:
            used = weights > 0
            lead = float(weights @ b[rows] - b[k])
            # sum p (w_i - w_k) = 0 and sum p (b_i - b_k) >= 0: at any z the others' mean is not below k.
            return ("unargmaxable", (rows[used], weights[used]), lead) if lead >= 0 else None
        z = ray(direction, box)
        ahead, margin = is_ahead(W, b, k, z)
        if ahead:
            return "argmaxable", z, margin
        violated = most_violated(W @ direction, k, rows, more)
        if not len(violated):
            return None
        rows = np.concatenate([rows, violated])
