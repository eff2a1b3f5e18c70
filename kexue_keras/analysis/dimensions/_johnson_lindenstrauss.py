"""How many dimensions keep all distances, and how likely: Johnson and Lindenstrauss' lemma with its two lemmas.

Reference: "让人惊叹的Johnson-Lindenstrauss引理：理论篇", kexue.fm/archives/8679, and "应用篇", kexue.fm/archives/8706.
"""


import math
from collections import namedtuple

import numpy as np
from scipy import integrate, stats

Failure = namedtuple("Failure", "exact chernoff bound")


def jl_dimension(count: int, eps: float, *, constant: float = 24.0) -> float:
    """The dimension from which N vectors keep all squared distances within 1 +- eps: constant log(N) / eps^2.

    sklearn.random_projection.johnson_lindenstrauss_min_dim has 4 log(N) / (eps^2 / 2 - eps^3 / 3), from a sharper
    bound that promises less: 187 where this is 375.6 (N = 50, eps = .5).

    Args:
        count: int > 1, N, the vectors.
        eps: number in (0, 1).
        constant: 24: with probability (N - 1) / N at least, and inner products of unit vectors within eps with
            (N - 2) / N. 16: with probability 1 / N, so that there is such a projection.

    Returns:
        float; take the next whole number.

    Raises:
        ValueError: eps or N out of range.

    Reference: kexue.fm/archives/8679.

    >>> round(kexue_keras.analysis.dimensions.jl_dimension(50, 0.5), 2)
    375.55
    """
    _check("jl_dimension", eps, count)
    return constant * math.log(count) / eps**2


def jl_success_probability(count: int, dimension: float, eps: float, *, quantity: str = "distance") -> float:
    """At least how likely a random projection keeps all of N vectors' distances, or products, within eps.

    1 - N (N - 1) exp(-eps^2 n / 8) for squared distances; twice the loss for inner products of unit vectors, each of
    which takes two lengths.

    Args:
        count: int > 1, N.
        dimension: int, n.
        eps: number in (0, 1).
        quantity: "distance" or "product".

    Returns:
        float; 0 where the bound says nothing.

    Raises:
        ValueError: eps or N out of range, unknown quantity.

    >>> round(kexue_keras.analysis.dimensions.jl_success_probability(50, 376, 0.5), 5)
    0.98067
    """
    _check("jl_success_probability", eps, count)
    if quantity not in ("distance", "product"):
        raise ValueError(
            "jl_success_probability: quantity must be one of 'distance', 'product', but is %r" % (quantity,)
        )
    loss = count * (count - 1) * math.exp(-(eps**2) * dimension / 8)
    return max(0.0, 1 - loss * (2 if quantity == "product" else 1))


def length_failure(dimension: int, eps: float) -> Failure:
    """How likely the squared length of u ~ N(0, 1/n)^n is off 1 by eps or more.

    n |u|^2 follows chi^2 with n degrees of freedom. Chernoff: exp(n (log(1 + eps) - eps) / 2) above and
    exp(n (log(1 - eps) + eps) / 2) below; the article's bound is 2 exp(-eps^2 n / 8).

    Args:
        dimension: int, n.
        eps: number in (0, 1).

    Returns:
        namedtuple (exact, chernoff, bound), in ascending order.

    >>> [round(p, 5) for p in kexue_keras.analysis.dimensions.length_failure(64, 0.5)]
    [0.0062, 0.05062, 0.27067]
    """
    _check("length_failure", eps)
    chi2 = stats.chi2(dimension)
    exact = chi2.sf(dimension * (1 + eps)) + chi2.cdf(dimension * (1 - eps))
    above = math.exp(dimension * (math.log1p(eps) - eps) / 2)
    below = math.exp(dimension * (math.log1p(-eps) + eps) / 2)
    return Failure(float(exact), above + below, 2 * math.exp(-(eps**2) * dimension / 8))


def product_failure(dimension: int, eps: float) -> Failure:
    """How likely two vectors u, v ~ N(0, 1/n)^n have an inner product of eps or more in size.

    u . v = (|a|^2 - |b|^2) / 4 with a = u + v, b = u - v, so P <= 4 exp(-eps^2 n / 8). Exactly, u . v given |v| is
    normal with variance |v|^2 / n. The Chernoff form is that of the pair: E exp(t u.v) = (1 - t^2 / n^2)^(-n/2).

    Args:
        dimension: int, n.
        eps: number in (0, 1).

    Returns:
        namedtuple (exact, chernoff, bound), in ascending order.

    >>> ["%.4g" % p for p in kexue_keras.analysis.dimensions.product_failure(64, 0.5)]
    ['0.0001243', '0.001447', '0.5413']
    """
    _check("product_failure", eps)
    n, chi2 = dimension, stats.chi2(dimension)

    def given(square):
        return chi2.pdf(square) * 2 * stats.norm.sf(eps * n / np.sqrt(square))

    low, high = chi2.ppf(1e-14), chi2.isf(1e-14)
    exact = integrate.quad(given, low, high, epsabs=0, epsrel=1e-10, limit=200)[0]
    # The minimum over t of (1 - t^2 / n^2)^(-n/2) exp(-t eps), at t / n = s.
    s = (math.sqrt(1 + 4 * eps**2) - 1) / (2 * eps)
    chernoff = 2 * math.exp(-n * (math.log1p(-(s**2)) / 2 + s * eps))
    return Failure(float(exact), chernoff, 4 * math.exp(-(eps**2) * n / 8))


def _check(owner, eps, count=2):
    if not 0 < eps < 1:
        raise ValueError("%s: eps must be a number in (0, 1), but is %r" % (owner, eps))
    if not count > 1:
        raise ValueError("%s: count must be a whole number >= 2, but is %r" % (owner, count))
