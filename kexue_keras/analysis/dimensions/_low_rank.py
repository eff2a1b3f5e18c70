"""Low rank by random projection: the article's recipe, and the one that works.

Reference: kexue.fm/archives/8706; Halko, Martinsson and Tropp, arXiv 0909.4061.
"""

from typing import Tuple

import numpy as np

from kexue_keras.types import Array, ArrayLike


def randomized_svd(
    M: ArrayLike,
    k: int,
    *,
    method: str = "range",
    oversample: int = 10,
    power: int = 2,
    orthonormal: bool = True,
    seed: int = 0,
) -> Tuple[Array, Array, Array]:
    """U, S, V with M ~ U diag(S) V, by a random projection.

    "range": Q spans M applied to random vectors (sklearn.utils.extmath.randomized_svd), the SVD of Q^T M. "projection":
    the article's, B = M Q with random Q [m, k] = U S V^T and M ~ U S (Q V)^T. That looks at M in a random subspace: its
    relative error is sqrt(1 - k/m) with orthonormal Q and about sqrt((m + 1) / k) with Gaussian Q, whatever the rank of
    M; singular values do come out right. With Q = qr(M^T Omega) in its place the article's form works too: "row range".

    Args:
        M: float [n, m].
        k: int, the rank.
        method: "range", "projection" or "row range".
        oversample: int, further random vectors of "range".
        power: int, power iterations of "range".
        orthonormal: for "projection": Q with orthonormal columns, not Gaussian.
        seed: int.

    Returns:
        tuple (U [n, k], S [k], V [k, m]).

    Raises:
        ValueError: unknown method, k out of range.

    Reference: kexue.fm/archives/8706.

    >>> M = np.outer(np.arange(1.0, 7), np.arange(5))
    >>> U, S, V = kexue_keras.analysis.dimensions.randomized_svd(M, 1, method="row range")
    >>> bool(np.allclose(U * S @ V, M))
    True
    """
    M = np.asarray(M, "float64")
    if M.ndim != 2 or not 0 < k <= min(M.shape):
        raise ValueError("randomized_svd: k must be a whole number in [1, %d], but is %r" % (min(M.shape), k))
    rng = np.random.RandomState(seed)
    if method == "range":
        from sklearn.utils import extmath

        # Without QR in between, what is 1e-4 of the largest value has no digits left after two power iterations.
        options = {"power_iteration_normalizer": "QR", "random_state": seed}
        return extmath.randomized_svd(M, k, n_oversamples=oversample, n_iter=power, **options)
    if method == "projection":
        Q = rng.standard_normal((M.shape[1], k))
        Q = np.linalg.qr(Q)[0] if orthonormal else Q / np.sqrt(k)
    elif method == "row range":
        Q = np.linalg.qr(M.T @ rng.standard_normal((M.shape[0], k)))[0]
    else:
        raise ValueError(
            "randomized_svd: method must be one of 'range', 'projection', 'row range', but is %r" % (method,)
        )
    U, S, V = np.linalg.svd(M @ Q, full_matrices=False)
    return U, S, V @ Q.T


def project_rank(k: int, columns: int, *, orthonormal: bool = True) -> float:
    """The relative Frobenius error that the article's recipe has for any matrix, on average over Q.

    Orthonormal Q: M Q Q^T keeps k / m of the squares of every row, so sqrt(1 - k/m). Gaussian: E |x Q Q^T - x|^2 =
    (m + 1) / k |x|^2.

    Args:
        k: int, columns of Q.
        columns: int, m.
        orthonormal: as in `randomized_svd`.

    >>> [round(kexue_keras.analysis.dimensions.project_rank(15, 150, orthonormal=o), 3) for o in (True, False)]
    [0.949, 3.173]
    """
    return float(np.sqrt(1 - k / columns) if orthonormal else np.sqrt((columns + 1) / k))
