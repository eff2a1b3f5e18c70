"""Projection and hashing as search: how many of the nearest vectors are found with codes or fewer dimensions.

Reference: kexue.fm/archives/8706.
"""

from collections import namedtuple
from typing import Dict

import numpy as np

from kexue_keras.types import Array

Recall = namedtuple("Recall", "bits recall angle_error")


def search_recall(vectors: Array, queries: Array, bits: int, *, top: int = 10) -> Recall:
    """Share of the `top` nearest vectors by cosine that are among the `top` by Hamming distance of their codes.

    Codes are the signs of a random projection (faiss.IndexLSH, with its random rotation); there may be more bits than
    dimensions.

    Args:
        vectors: float [N, d], what is searched.
        queries: float [Q, d].
        bits: int.
        top: int.

    Returns:
        namedtuple (bits, recall, angle_error: mean error of the cosine of the true nearest vectors, read from the codes
        as cos(pi (1 - s) / 2)).

    Raises:
        ImportError: faiss is not installed (pip install faiss-cpu).
    """
    try:
        import faiss
    except ImportError:
        raise ImportError("search_recall searches with faiss: pip install faiss-cpu")
    vectors, queries = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (vectors, queries)]
    vectors, queries = [np.ascontiguousarray(x, "float32") for x in (vectors, queries)]
    cosines = queries @ vectors.T
    nearest = np.argsort(-cosines, axis=1)[:, :top]
    index = faiss.IndexLSH(vectors.shape[1], bits, True, False)
    index.add(vectors)
    distances, hits = index.search(queries, top)
    recall = np.mean([len(set(a) & set(b)) / top for a, b in zip(nearest, hits)])
    # All distances, to read the angles of the nearest ones.
    distances, order = index.search(queries, len(vectors))
    by_vector = np.empty_like(distances)
    np.put_along_axis(by_vector, order, distances, axis=1)
    estimates = np.cos(np.pi * np.take_along_axis(by_vector, nearest, axis=1) / bits)
    error = np.abs(estimates - np.take_along_axis(cosines, nearest, axis=1)).mean()
    return Recall(bits, float(recall), float(error))


def pca_and_projection(
    vectors: Array, dimensions: int, *, distribution: str = "gaussian", top: int = 10, seed: int = 0
) -> Dict[str, Dict[str, float]]:
    """A random projection and PCA to as many dimensions: what they do to distances, and to who is nearest.

    PCA only shortens distances, so its error is also given after the best single rescaling.

    Args:
        vectors: float [N, d].
        dimensions: int, n.
        distribution: "gaussian" or "sparse" (sklearn.random_projection).
        top: int, neighbours.
        seed: int.

    Returns:
        dict "projection" and "pca" -> dict of error (mean of |ratio of squared distances - 1|), scaled_error, and
        recall (share of the `top` nearest by distance that stay among them).

    Raises:
        ValueError: unknown distribution.
    """
    from scipy.spatial.distance import cdist
    from sklearn import decomposition, random_projection

    projections = {
        "gaussian": random_projection.GaussianRandomProjection,
        "sparse": random_projection.SparseRandomProjection,
    }
    if distribution not in projections:
        raise ValueError(
            "pca_and_projection: distribution must be one of 'gaussian', 'sparse', but is %r" % (distribution,)
        )
    vectors = np.asarray(vectors, "float64")
    true = cdist(vectors, vectors, "sqeuclidean")
    apart = true > 1e-9 * true.max()
    nearest = np.argsort(true + np.diag(np.full(len(true), np.inf)), axis=1)[:, :top]
    found = {}
    for name, method in (
        ("projection", projections[distribution](dimensions, random_state=seed)),
        ("pca", decomposition.PCA(dimensions, random_state=seed)),
    ):
        short = method.fit_transform(vectors)
        distances = cdist(short, short, "sqeuclidean")
        ratios = distances[apart] / true[apart]
        hits = np.argsort(distances + np.diag(np.full(len(true), np.inf)), axis=1)[:, :top]
        found[name] = {
            "error": float(np.mean(np.abs(ratios - 1))),
            "scaled_error": float(np.mean(np.abs(ratios / np.median(ratios) - 1))),
            "recall": float(np.mean([len(set(a) & set(b)) / top for a, b in zip(nearest, hits)])),
        }
    return found
