"""Whitening of sentence vectors: zero mean, identity covariance, fewer dimensions.

Reference: "你可能不需要BERT-flow：一个线性变换媲美BERT-flow", kexue.fm/archives/8069; "无监督语义相似度哪家强？我们做了个
比较全面的评测", kexue.fm/archives/8321; arXiv 2103.15316.
"""

import zipfile
from typing import Optional

import numpy as np

from kexue_keras.errors import WeightsError, shorten
from kexue_keras.types import Array, ArrayLike, Path


class Whitening(object):
    """x -> (x - mu) W, fitted on a corpus.

    With the covariance U diag(s) U^T, W = U diag(s^-1/2), its first `components` columns. Directions without any
    variance are left out.

    Args:
        mean: float `[d]`.
        kernel: float `[d, k]`.

    Reference: kexue.fm/archives/8069, 8321; arXiv 2103.15316.

    >>> x = np.random.RandomState(0).randn(200, 3) @ np.array([[2., 0, 0], [1, 1, 0], [0, 0, 3]])
    >>> whitening = Whitening.fit(x, components=2)
    >>> np.allclose(np.cov(whitening.transform(x).T, bias=True), np.eye(2))
    True
    """

    def __init__(self, mean: Array, kernel: Array) -> None:
        self.mean, self.kernel = np.asarray(mean, "float64"), np.asarray(kernel, "float64")

    @classmethod
    def load(cls, path: Path, dimensions: int) -> "Whitening":
        """Read mean and kernel from an .npz file.

        Args:
            path: the file.
            dimensions: d, that of the encoder's vectors.

        Raises:
            WeightsError: no such file, or not a mean `[d]` and a kernel `[d, k]` of finite numbers.
        """
        largest = 8 * dimensions * dimensions + 4096
        try:
            with zipfile.ZipFile(path) as packed:
                # Looked at before anything is unpacked.
                sizes = {one.filename: one.file_size for one in packed.infolist()}
            if max(sizes.get(name, 0) for name in ("mean.npy", "kernel.npy")) > largest:
                raise ValueError("it is larger than any whitening of %d dimensions" % dimensions)
            with np.load(path, allow_pickle=False) as arrays:
                mean, kernel = (np.asarray(arrays[name]) for name in ("mean", "kernel"))
        except Exception as error:  # zipfile, zlib and numpy each have their own
            reason = "it lacks %s" % error if isinstance(error, KeyError) else shorten(str(error) or repr(error), 120)
            raise WeightsError("%s cannot be read: %s. Save the encoder again." % (path, reason))
        shapes = mean.shape, kernel.shape
        if mean.dtype.kind not in "fiu" or kernel.dtype.kind not in "fiu":
            raise WeightsError("%s has no numbers (%s, %s). Save the encoder again." % (path, mean.dtype, kernel.dtype))
        if shapes[0] != (dimensions,) or kernel.ndim != 2 or len(kernel) != dimensions or not kernel.shape[1]:
            raise WeightsError(
                "%s has a mean %s and a kernel %s, but the encoder's vectors have %d dimensions; the mean must be [d], "
                "the kernel [d, k]. Save the encoder again." % ((path,) + shapes + (dimensions,))
            )
        if not np.isfinite(mean).all() or not np.isfinite(kernel).all():
            raise WeightsError("%s has numbers that are not finite. Save the encoder again." % path)
        return cls(mean, kernel)

    @classmethod
    def fit(cls, vectors: ArrayLike, components: Optional[int] = None) -> "Whitening":
        """Fit on vectors `[N, d]`; keep the `components` directions of the largest variance (None: all).

        Raises:
            ValueError: fewer than 2 vectors, or more components than there are directions with variance.
        """
        vectors = np.asarray(vectors, "float64")
        if vectors.ndim != 2 or len(vectors) < 2:
            raise ValueError("vectors of shape %s; at least 2 vectors [N, d] are needed" % (vectors.shape,))
        mean = vectors.mean(axis=0)
        rotation, variances, _ = np.linalg.svd(np.cov(vectors.T, bias=True).reshape(len(mean), -1))
        there = int(np.sum(variances > variances[0] * 1e-10)) if variances[0] > 0 else 0
        kept = there if components is None else components
        if not 1 <= kept <= there:
            raise ValueError(
                "components=%r; %d vectors of dimension %d vary in %d directions"
                % (components, len(vectors), len(mean), there)
            )
        return cls(mean, rotation[:, :kept] / np.sqrt(variances[:kept]))

    def transform(self, vectors: ArrayLike) -> Array:
        """float32 `[N, k]`."""
        return ((np.asarray(vectors, "float64") - self.mean) @ self.kernel).astype("float32")
