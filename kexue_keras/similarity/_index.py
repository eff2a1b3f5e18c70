"""Nearest vectors by cosine: exact with numpy, or approximate with the library faiss where a corpus is large."""

import importlib.util
from typing import Tuple

import numpy as np

from kexue_keras import checks
from kexue_keras.types import Array, ArrayLike

METHODS = ("exact", "hnsw")
# Scores that are held at once: 256 MB of float32.
BLOCK = 1 << 26
LINKS = 32


def unit_rows(vectors):
    """float32 rows of length 1; a row of zeros stays zero.

    >>> unit_rows([[3, 4], [0, 0]]).tolist()
    [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    vectors = np.asarray(vectors, "float32")
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1)


class VectorIndex(object):
    """Vectors that are searched by cosine.

    Args:
        vectors: float `[N, d]`.
        method: 'exact' compares with all, one matrix product; 'hnsw' walks a graph of neighbours (faiss), which finds
            nearly all of the nearest ones in a small part of the time, and takes a while to build.

    Raises:
        ValueError: no vectors, or no such method.
        ImportError: 'hnsw' without the package faiss-cpu.

    Reference: hnsw: Malkov and Yashunin, arXiv 1603.09320.

    >>> index = VectorIndex([[1, 0], [0, 2], [1, 1]])
    >>> places, cosines = index.search([[2, 1.5]], k=2)
    >>> places, np.round(cosines, 3)
    (array([[2, 0]]), array([[0.99, 0.8 ]], dtype=float32))
    """

    def __init__(self, vectors: ArrayLike, *, method: str = "exact") -> None:
        checks.choice(method, METHODS, "method", "VectorIndex")
        self.vectors = unit_rows(vectors)
        if self.vectors.ndim != 2 or not len(self.vectors):
            raise ValueError("vectors of shape %s; at least one [N, d] is needed" % (self.vectors.shape,))
        self.method = method
        self._graph = _build_graph(self.vectors) if method == "hnsw" else None

    def __len__(self) -> int:
        return len(self.vectors)

    def search(self, queries: ArrayLike, k: int = 10) -> Tuple[Array, Array]:
        """The nearest vectors of each query, the nearest first.

        Args:
            queries: float `[Q, d]`.
            k: how many, at most N are given.

        Returns:
            (places int64 `[Q, k]`, cosines float32 `[Q, k]`), equal cosines in the order of the places; of those that
            equal the last one any may be left out. If 'hnsw' reaches fewer than k, the rest has place -1 and cosine
            -inf.

        Raises:
            ValueError: another dimension, or k below 1.
        """
        queries = unit_rows(queries)
        if queries.ndim != 2 or queries.shape[1] != self.vectors.shape[1]:
            raise ValueError("queries of shape %s; [Q, %d] is needed" % (queries.shape, self.vectors.shape[1]))
        k = min(checks.whole_number(k, "k", "VectorIndex.search", least=1), len(self))
        if self._graph is not None:
            self._graph.hnsw.efSearch = max(128, 2 * k)
            cosines, places = self._graph.search(np.ascontiguousarray(queries), k)
            return places, np.where(places < 0, -np.inf, cosines).astype("float32")
        step = max(1, BLOCK // len(self))
        parts = [self._exact(queries[i : i + step], k) for i in range(0, len(queries), step)]
        if not parts:
            return np.zeros((0, k), "int64"), np.zeros((0, k), "float32")
        return tuple(np.concatenate(part) for part in zip(*parts))

    def _exact(self, queries, k):
        scores = queries @ self.vectors.T
        places = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        order = np.lexsort((places, -np.take_along_axis(scores, places, axis=1)))
        places = np.take_along_axis(places, order, axis=1)
        return places, np.take_along_axis(scores, places, axis=1)


def _build_graph(vectors):
    if importlib.util.find_spec("faiss") is None:
        raise ImportError(
            "method='hnsw' needs the package faiss-cpu, which is not installed: "
            "pip install 'faiss-cpu==1.7.4'; or take method='exact'"
        )
    import faiss

    graph = faiss.IndexHNSWFlat(vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = 200
    graph.add(np.ascontiguousarray(vectors))
    return graph
