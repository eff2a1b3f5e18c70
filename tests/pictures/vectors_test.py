"""Vectors in the plane: the directions of numpy's singular values, colours, refusals."""

import sys
import types

import numpy as np
import pytest

from kexue_keras.errors import UserError
from kexue_keras.pictures import draw_vectors, plane


def test_pca_keeps_the_directions_in_which_they_differ_most(rng):
    x = rng.randn(40, 6) * [5, 1, 3, 0.1, 0.1, 0.1]
    got = plane(x)
    centred = x - x.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(got), np.abs(u[:, :2] * s[:2]), atol=1e-8)
    np.testing.assert_array_equal(got, plane(x))


def test_umap_is_asked_where_it_is_installed(rng, monkeypatch):
    asked = {}

    class UMAP(object):
        def __init__(self, **options):
            asked.update(options)

        def fit_transform(self, x):
            return x[:, :2]

    monkeypatch.setitem(sys.modules, "umap", types.SimpleNamespace(UMAP=UMAP))
    x = rng.randn(5, 3)
    np.testing.assert_array_equal(plane(x, method="umap", seed=4), x[:, :2])
    assert asked == {"n_components": 2, "metric": "cosine", "random_state": 4}
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(UserError, match="pip install umap-learn; or take the method pca"):
        plane(x, method="umap")


def test_pictures(rng, tmp_path):
    labels = ["类别%d" % (i % 25) for i in range(60)]
    draw_vectors(rng.randn(60, 4), tmp_path / "many.png", labels=labels)
    draw_vectors(rng.randn(3, 4), str(tmp_path / "few.png"), texts=["今天$x$", "\u200b", "\U0010fffd"])
    for name in ("many", "few"):
        assert (tmp_path / (name + ".png")).read_bytes()[:4] == b"\x89PNG"


def test_refusals(rng):
    for vectors, message in (
        ([[1, 2]], "two at least, but their shape is \\[1, 2\\]"),
        ([[1, 2], [np.nan, 1]], "row 1 has others"),
        ([1, 2], "shape is \\[2\\]"),
    ):
        with pytest.raises(ValueError, match=message):
            plane(vectors)
    with pytest.raises(ValueError, match="method must be one of"):
        plane([[1, 2], [2, 1]], method="t-sne")
    with pytest.raises(ValueError, match="1 labels for 2 vectors"):
        draw_vectors([[1, 2], [2, 1]], "x.png", labels=["a"])
