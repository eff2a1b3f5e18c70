"""The exact test: a linear program for the largest ball in the region where a class wins, with rows added lazily.

max r such that (w_i - w_k) . z + |w_i - w_k| r <= b_k - b_i for all i, and |z| <= box in every entry. The class can win
if r > 0. r on a part of the rows is at least r on all, so that a part is enough to prove that it cannot.

Reference: kexue.fm/archives/9046; arXiv 2203.06462 (there with Gurobi).
"""

import warnings

import numpy as np
from scipy.optimize import linprog

from kexue_keras.analysis._argmax_hull import most_violated, nearest_rows
from kexue_keras.analysis._argmax_screens import is_ahead

# HiGHS gives up now and then, or returns nothing without saying why; another of its solvers mostly does not.
ATTEMPTS = (
    {"method": "highs-ds"},
    {"method": "highs-ipm"},
    {"method": "highs-ds", "presolve": False},
    {"method": "highs-ipm", "presolve": False},
)
# Radii up to this are no region.
ZERO = 1e-8


def solve(D, c, box):
    """(r, z) of the program with D z + |D| r <= c, or None where no solver came to an end."""
    lengths = np.linalg.norm(D, axis=1)
    rows = np.column_stack([D / lengths[:, None], np.ones(len(D))])
    bounds = [(-box, box)] * D.shape[1] + [(None, None)]
    objective = np.append(np.zeros(D.shape[1]), -1.0)
    for attempt in ATTEMPTS:
        options = {"primal_feasibility_tolerance": 1e-9, "dual_feasibility_tolerance": 1e-9}
        options["presolve"] = attempt.get("presolve", True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = linprog(
                objective, A_ub=rows, b_ub=c / lengths, bounds=bounds, method=attempt["method"], options=options
            )
        if found.status == 0 and found.x is not None and np.isfinite(found.x).all():
            z, r = found.x[:-1], found.x[-1]
            # The largest ball around z, whatever the solver says of it.
            if abs(r - np.min(c / lengths - rows[:, :-1] @ z)) <= 1e-6 * max(1.0, abs(r)):
                return float(r), z
    return None


def linear_program(W, b, k, box, start=800, more=400):
    """Decide class k.

    Args:
        W: float64 [V, d] without equal rows.
        b: float64 [V].
        k: int.
        box: number, the largest entry of z.
        start: int, how many rows to begin with.
        more: int, how many violated rows to add at a time.

    Returns:
        ("argmaxable", witness, radius), ("unargmaxable", None, radius) or ("unknown", None, nan): HiGHS failed in every
        way. A radius of "unargmaxable" is an upper bound.
    """
    rows = nearest_rows(W, k, start)
    while True:
        found = solve(W[rows] - W[k], b[k] - b[rows], box)
        if found is None:
            return "unknown", None, float("nan")
        radius, z = found
        if radius <= ZERO:
            return "unargmaxable", None, radius
        if is_ahead(W, b, k, z)[0]:
            others = np.delete(np.arange(len(W)), k)
            D, c = W[others] - W[k], b[k] - b[others]
            return "argmaxable", z, float(np.min((c - D @ z) / np.linalg.norm(D, axis=1)))
        violated = most_violated(W @ z + b, k, rows, more)
        if not len(violated):
            return "unknown", None, float("nan")
        rows = np.concatenate([rows, violated])
