"""The smooth version of any function by numeric integration, in float64: what the closed forms are checked against.

Reference: "用狄拉克函数来构造非光滑函数的光滑近似", kexue.fm/archives/8718.
"""

import math
from typing import Callable, Optional, Sequence

import numpy as np
from scipy.integrate import quad

from kexue_keras import checks
from kexue_keras.types import Array, ArrayLike

# In unit width; a logistic kernel beyond 700 is 0, and its cosh overflows.
DENSITIES = {
    "gauss": lambda u: math.exp(-u * u / 2) / math.sqrt(2 * math.pi),
    "logistic": lambda u: 1 / (2 * math.cosh(min(abs(u), 700) / 2)) ** 2,
    "cauchy": lambda u: 1 / (math.pi * (1 + u * u)),
    "square": lambda u: 0.5 * (u * u + 1) ** -1.5,
}


def smooth_by_quadrature(
    f: Callable[[float], float],
    kernel: str = "gauss",
    width: float = 1.0,
    *,
    breaks: Sequence[float] = (),
    reach: Optional[float] = None,
) -> Callable[[ArrayLike], Array]:
    """The function x -> integral f(y) phi(x - y) dy, by adaptive quadrature; numpy, slow, for any f.

    Args:
        f: function of a float, integrable against the kernel's tails.
        kernel: "gauss", "logistic", "cauchy" or "square", as in `smooth`.
        width: number > 0.
        breaks: the places where f has kinks or jumps; without them the error is large.
        reach: how many widths on either side of x are integrated over; None for all of them, which is right where f
            times the kernel is integrable. With a number the tails are cut off.

    Returns:
        function of an array of any shape, giving a float64 array of that shape.

    Raises:
        ValueError: unknown kernel, width not > 0.

    Reference: kexue.fm/archives/8718.

    >>> smooth_relu = kexue_keras.layers.smooth_by_quadrature(lambda y: max(y, 0.0), "gauss", 1.0, breaks=[0.0])
    >>> smooth_relu(np.array([-1.0, 0.0])).round(7).tolist()
    [0.0833155, 0.3989423]
    """
    checks.choice(kernel, DENSITIES, "kernel", "smooth_by_quadrature")
    width = checks.number(width, "width", "smooth_by_quadrature", above=0)
    density = DENSITIES[kernel]

    def value(x):
        # In u = (x - y) / width the kernel is of unit size, and 0, +-1, +-8 keep the rule from missing it.
        reachable = np.inf if reach is None else float(reach)
        inner = [(x - b) / width for b in breaks] + [-8.0, -1.0, 0.0, 1.0, 8.0]
        ends = [-reachable] + sorted({u for u in inner if abs(u) < reachable}) + [reachable]
        pieces = [
            quad(lambda u: f(x - width * u) * density(u), a, b, epsabs=1e-15, epsrel=1e-13, limit=400)[0]
            for a, b in zip(ends, ends[1:])
        ]
        return float(np.sum(pieces))

    return np.vectorize(value, otypes=["float64"])
