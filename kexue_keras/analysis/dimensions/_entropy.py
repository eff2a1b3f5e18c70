"""How many dimensions word vectors and attention heads need: the entropy that a softmax of inner products can have.

Reference: "最小熵原理（六）：词向量的维度应该怎么选择？", kexue.fm/archives/7695; "关于维度公式“n > 8.33 log N”的可用性分析",
kexue.fm/archives/8711; kexue.fm/archives/8706.
"""

import math
from collections import namedtuple
from typing import Optional, Tuple

import numpy as np
from scipy import optimize

from kexue_keras.layers import vmf_kl
from kexue_keras.types import ArrayLike

# h_n tends to -n times this: half the logarithm of the golden ratio.
SLOPE = math.log((math.sqrt(5) + 1) / 2) / 2
# 2 log N - SLOPE n < 0 from this many log N on. The articles have 8.33, from a fit, and 8 before.
DIMENSION_COEFFICIENT = 2 / SLOPE

LaplaceConstants = namedtuple("LaplaceConstants", "angle cosine slope coefficient")


def sphere_term(dimension: int) -> float:
    """h_n: how far the entropy of the softmax over pairs lies below 2 log N, for vectors of length sqrt(n).

    h_n = log E exp(n cos) - E[exp(n cos) n cos] / E exp(n cos), the angle between uniform directions. That is minus the
    divergence of the von Mises-Fisher distribution of concentration n from the uniform one.

    Args:
        dimension: int >= 2, n.

    Returns:
        float, nats.

    >>> round(kexue_keras.analysis.dimensions.sphere_term(64), 9)
    -15.47340016
    """
    return -vmf_kl(dimension, float(dimension))


def pair_entropy(count: float, dimension: int) -> float:
    """The entropy 2 log N + h_n that a joint softmax over N^2 pairs can have at n dimensions.

    Args:
        count: number, N (words, nodes).
        dimension: int >= 2, n.

    Returns:
        float, nats. Below 0 the model is no longer limited: the integral and a sum over N words part ways.

    >>> round(kexue_keras.analysis.dimensions.pair_entropy(10**5, 64), 5)
    7.55245
    """
    return 2 * math.log(count) + sphere_term(dimension)


def laplace_constants() -> LaplaceConstants:
    """The limit of h_n by Laplace's method: the angle that matters, its cosine, -h_n / n, and 2 / that: 8.31.

    The maximum of log sin(theta) + cos(theta) is where sin^2 = cos: cos = (sqrt 5 - 1) / 2.

    >>> ["%.7f" % c for c in kexue_keras.analysis.dimensions.laplace_constants()]
    ['0.9045569', '0.6180340', '0.2406059', '8.3123477']
    """
    cosine = (math.sqrt(5) - 1) / 2
    return LaplaceConstants(math.acos(cosine), cosine, SLOPE, DIMENSION_COEFFICIENT)


def embedding_dimension(count: float, *, coefficient: Optional[float] = 8.33) -> float:
    """The rule n > 8.33 log N for vectors of N words or nodes.

    Args:
        count: number > 1, N.
        coefficient: 8.33 (7695 as of its later version), 8 (rounded), or None for the exact root of 2 log N + h_n = 0.

    Returns:
        float; an order of magnitude.

    Raises:
        ValueError: N not > 1.

    Reference: kexue.fm/archives/7695.

    >>> round(kexue_keras.analysis.dimensions.embedding_dimension(10**5), 2)
    95.9
    """
    if not count > 1:
        raise ValueError("embedding_dimension: count must be a number > 1, but is %r" % (count,))
    return smallest_dimension(count) if coefficient is None else coefficient * math.log(count)


def head_size(length: float, *, coefficient: Optional[float] = 8.33) -> float:
    """The same rule for an attention head: rows of `length` tokens instead of N words.

    It suffices roughly for peaked rows of attention and not for arbitrary ones (`fit_attention` measures it).

    >>> round(kexue_keras.analysis.dimensions.head_size(512), 2)
    51.97
    """
    return embedding_dimension(length, coefficient=coefficient)


def smallest_dimension(count: float, entropy: float = 0.0) -> float:
    """The n at which the model's entropy 2 log N + h_n has come down to that of the data: the article's criterion.

    Args:
        count: number > 1, N.
        entropy: number, the entropy H~ of the pairs that are to be modelled, in nats (see `cooccurrence_entropy`); 0 is
            what the rule 8.33 log N takes.

    Returns:
        float >= 2, the real root.

    Raises:
        ValueError: the entropy is that of independent uniform pairs or more, which takes no dimension.

    Reference: kexue.fm/archives/7695.

    >>> round(kexue_keras.analysis.dimensions.smallest_dimension(10**5), 3)
    95.39
    >>> round(kexue_keras.analysis.dimensions.smallest_dimension(10**5, entropy=16.0), 1)
    28.9
    """
    excess = 2 * math.log(count) - entropy
    if not excess > 0:
        raise ValueError(
            "smallest_dimension: entropy must be less than 2 log N = %.4g, but is %r" % (2 * math.log(count), entropy)
        )
    if excess <= vmf_kl(2, 2.0):
        return 2.0
    return float(optimize.brentq(lambda n: _kl(n) - excess, 2.0, 10 * excess + 10, xtol=1e-9))


def _kl(n):
    """`vmf_kl(n, n)` for real n, for which Bessel's function of any order serves."""
    from scipy import special

    half = n / 2 - 1
    bessel = special.ive([half + 1, half], n)
    return n * bessel[0] / bessel[1] + half * math.log(n / 2) - special.gammaln(n / 2) - math.log(bessel[1]) - n


def cooccurrence_entropy(counts: ArrayLike) -> Tuple[float, float]:
    """H~, the entropy of observed pairs: of (word, word) within a window, or of edges of a graph.

    The plain estimate -sum p log p with the correction of Miller and Madow, (pairs seen - 1) / (2 pairs), since pairs
    that were not seen make it too small.

    Args:
        counts: how often each pair occurred, any shape; zeros are no pairs.

    Returns:
        tuple (plain, corrected), nats.

    Raises:
        ValueError: negative numbers, or none above 0.

    >>> [round(h, 4) for h in kexue_keras.analysis.dimensions.cooccurrence_entropy([[10, 10], [0, 20]])]
    [1.0397, 1.0647]
    """
    counts = np.asarray(counts, "float64").ravel()
    if (counts < 0).any() or not counts.sum() > 0:
        raise ValueError("cooccurrence_entropy: counts must be >= 0 and not all 0; their sum is %r" % counts.sum())
    counts = counts[counts > 0]
    shares = counts / counts.sum()
    plain = float(-(shares * np.log(shares)).sum())
    return plain, plain + (len(counts) - 1) / (2 * counts.sum())
