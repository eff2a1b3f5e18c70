"""Bounds of log sum exp, and the smooth maximum of any number of values.

Reference: "logsumexp运算的几个不等式", kexue.fm/archives/9070.
"""

from typing import Dict, Optional

import numpy as np
from scipy import special

from kexue_keras.types import Array, ArrayLike


def logsumexp_bounds(
    x: ArrayLike,
    p: Optional[ArrayLike] = None,
    *,
    y: Optional[ArrayLike] = None,
    t: float = 2.0,
    tau: float = 1.0,
    share: float = 0.5,
) -> Dict[str, Array]:
    """log sum exp(x) with everything that the article bounds it by, and what is between.

    1. max < lse <= max + log n; 2. the same for tau lse(x / tau) with tau log n; 3. lse >= mean + log n;
    4. lse >= p.x - log sum p^2; 5. lse >= p.x - log(sum p^t) / (t - 1), which rises as t falls to 1;
    6. lse = p.x + H(p) + KL(p | softmax x); 7. |lse x - lse y| <= max |x - y|;
    8. s lse x + (1 - s) lse y >= lse(s x + (1 - s) y). Equality: 1 and 2 above, and 3 and 4 for uniform p, where all x
    are equal; 6 at p = softmax(x); 7 where y - x is one number; 8 too. In floats max < lse may be an equality.

    Args:
        x: float [..., n]; -inf is an entry that is not there, and n counts the others.
        p: float [..., n], probabilities; None: uniform over the entries that are there.
        y: float [..., n], for 7 and 8, or None.
        t: number > 1, of 5.
        tau: number > 0, of 2.
        share: number in [0, 1], s of 8.

    Returns:
        dict of arrays [...]: lse, max, upper; smooth, smooth_upper (of 2); mean, collision, renyi, entropy, gap (of 3
        to 6); and with y: difference, difference_bound, mixture, mixture_bound (of 7 and 8; the bound of 8 is the
        larger).

    Raises:
        ValueError: t not > 1, tau not > 0, share out of range, p no probabilities or on an entry that is not there, or
            a row without entries.

    Reference: kexue.fm/archives/9070.

    >>> found = kexue_keras.analysis.logsumexp_bounds([1.0, 2.0, 3.0], [0.2, 0.3, 0.5])
    >>> round(float(found["lse"]), 6), round(float(found["entropy"]), 6), round(float(found["gap"]), 6)
    (3.407606, 3.329653, 0.077953)
    """
    x = np.asarray(x, "float64")
    for name, value, good in (("t", t, t > 1), ("tau", tau, tau > 0), ("share", share, 0 <= share <= 1)):
        if not good:
            wanted = {"t": "> 1", "tau": "> 0", "share": "in [0, 1]"}[name]
            raise ValueError("logsumexp_bounds: %s must be a number %s, but is %r" % (name, wanted, value))
    there = x > -np.inf
    count = there.sum(axis=-1)
    if not count.all():
        raise ValueError("logsumexp_bounds: a row of x has no entry above -inf; leave it out")
    p = there / count[..., None] if p is None else np.asarray(p, "float64") + 0 * np.where(there, x, 0)
    if (p < 0).any() or not np.allclose(p.sum(axis=-1), 1) or p[~there].any():
        raise ValueError(
            "logsumexp_bounds: p must be probabilities, 0 where x is -inf; its sums are %r" % p.sum(axis=-1)
        )
    finite = np.where(there, x, 0)
    dot = (p * finite).sum(axis=-1)
    lse, largest = special.logsumexp(x, axis=-1), x.max(axis=-1)
    found = {"lse": lse, "max": largest, "upper": largest + np.log(count)}
    found["smooth"] = smooth_max(x, tau)
    found["smooth_upper"] = largest + tau * np.log(count)
    found["mean"] = finite.sum(axis=-1) / count + np.log(count)
    found["collision"] = dot - np.log((p**2).sum(axis=-1))
    found["renyi"] = dot - np.log((p**t).sum(axis=-1)) / (t - 1)
    found["entropy"] = dot + special.entr(p).sum(axis=-1)
    found["gap"] = lse - found["entropy"]
    if y is not None:
        y = np.asarray(y, "float64")
        both = there & (y > -np.inf)
        if (there != (y > -np.inf)).any():
            raise ValueError("logsumexp_bounds: y must be -inf where x is, and nowhere else")
        other = special.logsumexp(y, axis=-1)
        found["difference"] = np.abs(lse - other)
        found["difference_bound"] = np.abs(np.where(both, finite - np.where(both, y, 0), 0)).max(axis=-1)
        found["mixture_bound"] = share * lse + (1 - share) * other
        mixed = np.where(both, share * finite + (1 - share) * np.where(both, y, 0), -np.inf)
        found["mixture"] = special.logsumexp(mixed, axis=-1)
    return found


def smooth_max(x: ArrayLike, tau: float = 1.0, *, axis: int = -1) -> Array:
    """tau log sum exp(x / tau), between max and max + tau log n; `layers.smooth("max")` is that of two tensors.

    Args:
        x: float array.
        tau: number > 0.
        axis: int.

    Raises:
        ValueError: tau not > 0.

    >>> round(float(kexue_keras.analysis.smooth_max([1.0, 2.0, 3.0], 0.1)), 9)
    3.00000454
    """
    if not tau > 0:
        raise ValueError("smooth_max: tau must be a number > 0, but is %r" % (tau,))
    return tau * special.logsumexp(np.asarray(x, "float64") / tau, axis=axis)
