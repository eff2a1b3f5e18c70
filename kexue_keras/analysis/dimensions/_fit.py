"""How well a head of some size can have any attention: softmax(q k^T) fitted to a random matrix.

Reference: kexue.fm/archives/8711.
"""

from collections import namedtuple

import numpy as np
from scipy import optimize, special

from kexue_keras.types import ArrayLike

AttentionFit = namedtuple("AttentionFit", "divergence start attention")


def fit_attention(target: ArrayLike, size: int, *, steps: int = 1000, seed: int = 0) -> AttentionFit:
    """Fit q, k [L, size] so that softmax(q k^T) comes near a matrix of attention, by L-BFGS.

    Args:
        target: float [L, L], rows that sum to 1.
        size: int, the head size d.
        steps: int, the most iterations.
        seed: int, of the start.

    Returns:
        namedtuple (divergence, start, attention): the mean Kullback-Leibler divergence of a row that is left; that of
        uniform attention, log L - H; the fitted matrix.

    Raises:
        ValueError: a target that is not square, or whose rows do not sum to 1.

    Reference: kexue.fm/archives/8711.

    >>> target = np.random.RandomState(0).dirichlet(np.ones(8), 8)
    >>> fit = kexue_keras.analysis.dimensions.fit_attention(target, 8)
    >>> fit.divergence < 1e-3 < fit.start
    True
    """
    target = np.asarray(target, "float64")
    length = len(target)
    if target.shape != (length, length) or not np.allclose(target.sum(axis=1), 1) or (target < 0).any():
        raise ValueError(
            "fit_attention: target must be [L, L] with rows that sum to 1, but it has the shape %s" % (target.shape,)
        )
    negative_entropy = special.xlogy(target, target).sum() / length
    start = np.random.RandomState(seed).standard_normal(2 * length * size) * 0.5 / size**0.25

    def split(both):
        return both.reshape(2, length, size)

    def objective(both):
        q, k = split(both)
        scores = q @ k.T
        log_sums = special.logsumexp(scores, axis=1, keepdims=True)
        value = (log_sums.sum() - (target * scores).sum()) / length + negative_entropy
        slope = (np.exp(scores - log_sums) - target) / length
        return value, np.concatenate([slope @ k, slope.T @ q]).ravel()

    found = optimize.minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"maxiter": steps, "maxfun": 2 * steps}
    )
    q, k = split(found.x)
    attention = special.softmax(q @ k.T, axis=1)
    return AttentionFit(float(found.fun), float(np.log(length) + negative_entropy), attention)
