"""Sentence vectors in the plane: where the texts of each label lie."""

from typing import Optional, Sequence

import numpy as np

from kexue_keras import checks
from kexue_keras.errors import UserError
from kexue_keras.files.paths import as_text
from kexue_keras.options.choices import PLANES
from kexue_keras.pictures._figure import drawable, new_figure, save
from kexue_keras.types import Array, ArrayLike, Path

MOST_LABELS = 20  # that have a colour of their own


def plane(vectors: ArrayLike, *, method: str = "pca", seed: int = 1) -> Array:
    """Two-dimensional coordinates of vectors.

    Args:
        vectors: float `[N, d]`, N >= 2.
        method: 'pca', the two directions in which they differ most (scikit-learn); 'umap', where neighbours stay
            neighbours (umap-learn).
        seed: int; both are the same for the same seed.

    Returns:
        float `[N, 2]`.

    Raises:
        ValueError: fewer than two vectors, numbers that are not finite, another method.
        UserError: the library is not installed.

    >>> plane([[0, 0, 0], [0, 0, 2], [0, 1, 1]]).shape
    (3, 2)
    """
    checks.choice(method, PLANES, "method", "plane")
    vectors = np.asarray(vectors, "float64")
    if vectors.ndim != 2 or len(vectors) < 2:
        raise ValueError("plane takes vectors [N, d], two at least, but their shape is %s" % (list(vectors.shape),))
    if not np.isfinite(vectors).all():
        raise ValueError("plane takes finite numbers; row %d has others" % np.where(~np.isfinite(vectors))[0][0])
    if method == "umap":
        try:
            from umap import UMAP
        except ImportError:
            raise UserError("UMAP is not installed: pip install umap-learn; or take the method pca")
        return UMAP(n_components=2, metric="cosine", random_state=seed).fit_transform(vectors)
    try:
        from sklearn.decomposition import PCA
    except ImportError:
        raise UserError("this takes scikit-learn, which is not installed: pip install scikit-learn")
    return PCA(2, random_state=seed).fit_transform(vectors)


def draw_vectors(
    vectors: ArrayLike,
    path: Path,
    *,
    labels: Optional[Sequence[str]] = None,
    texts: Optional[Sequence[str]] = None,
    method: str = "pca",
    seed: int = 1,
) -> Array:
    """Draw vectors as points, in the colour of their label.

    Args:
        vectors: float `[N, d]`, as of `SentenceEncoder.encode`.
        path: .png.
        labels: list of N str; of more than 20 the most frequent have a colour.
        texts: list of N str, written next to their points (a few dozen can be read).
        method, seed: see `plane`.

    Returns:
        float `[N, 2]`, the points.

    Raises:
        ValueError: another number of labels or texts; and see `plane`.
        UserError: matplotlib or the method's library is not installed.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'vectors.png')
    >>> draw_vectors([[0, 1], [1, 0], [1, 1]], path, labels=['好', '坏', '好']).shape
    (3, 2)
    """
    for name, given in (("labels", labels), ("texts", texts)):
        if given is not None and len(given) != len(vectors):
            raise ValueError("draw_vectors: %d %s for %d vectors" % (len(given), name, len(vectors)))
    points = plane(vectors, method=method, seed=seed)
    figure = new_figure(7, 6)
    axes = figure.subplots()
    labels = np.array(["" for _ in points] if labels is None else [str(label) for label in labels])
    names, counts = np.unique(labels, return_counts=True)
    names = list(names[np.argsort(-counts, kind="stable")])
    shown, font = drawable(names)
    for i, name in enumerate(names[:MOST_LABELS]):
        axes.scatter(
            *points[labels == name].T, s=14, alpha=0.7, label=shown[i], color="C%d" % (i % 10), marker="os"[i // 10]
        )
    rest = np.isin(labels, names[MOST_LABELS:])
    if rest.any():
        axes.scatter(*points[rest].T, s=8, color="0.8", label="others", zorder=0)
    if len(names) > 1:
        axes.legend(prop=(font or {}).get("fontproperties"), fontsize=8)
    if texts is not None:
        words, text_font = drawable([str(text) for text in texts], length=16)
        for point, word in zip(points, words):
            axes.annotate(word, point, size=7, xytext=(3, 3), textcoords="offset points", **(text_font or {}))
    axes.set_title(method.upper())
    save(figure, as_text(path))
    return points
