"""Classes that can never be predicted: the article's examples, ConvexHull, planted rows, witnesses, HiGHS' failures."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.spatial import ConvexHull

from kexue_keras.analysis import _argmax_linear_program, find_unargmaxable, minimax_margin, output_layer
from kexue_keras.analysis._argmax_hull import minimum_norm
from kexue_keras.backend import keras

ARTICLE = np.array([[1.0, 2], [2, 1], [1, 0], [0, 1], [1, 1]])
CORNERS = np.array([[1.0, 1], [-1, 1], [-1, -1], [1, -1], [0.2, 0.1]])
METHODS = [("lp",), ("minimum_norm",), ("screen", "braid", "minimum_norm", "lp")]


def check(result, W, b=None):
    """Every proof that the result gives, by itself."""
    b = np.zeros(len(W)) if b is None else np.asarray(b)
    for k, z in result.witness.items():
        scores = W @ z + b
        assert k in np.flatnonzero(scores == scores.max())
    for k, (rows, weights) in result.beaten_by.items():
        assert (weights >= 0).all() and weights.sum() == pytest.approx(1) and k not in rows
        np.testing.assert_allclose(weights @ W[rows], W[k], atol=1e-7 * np.abs(W).max() * W.shape[1] ** 0.5)
        assert weights @ b[rows] >= b[k] - 1e-12
    return result


def test_the_articles_example():
    found = find_unargmaxable(ARTICLE, methods=("lp",))
    assert found.status == ["argmaxable"] * 4 + ["unargmaxable"]
    np.testing.assert_allclose(found.margin, [70.710678] * 4 + [0], atol=1e-4)
    norms = [minimax_margin(ARTICLE, None, k, radius=1.0) for k in range(5)]
    np.testing.assert_allclose([n.upper for n in norms], [1, 1, 1, 1, 0], atol=1e-6)
    for bias in (0.01, 0.5):  # the minimum norm is still 0: the bias decides
        found = find_unargmaxable(ARTICLE, [0, 0, 0, 0, bias], methods=("lp",))
        assert found.status[4] == "argmaxable" and found.margin[4] == pytest.approx(bias, abs=1e-7)
        assert minimum_norm(ARTICLE, np.array([0, 0, 0, 0, bias]), 4, 100.0) is None


@pytest.mark.parametrize("bias, radius, status", [(0, 0, "un"), (0.5, 0.35901741746, ""), (-0.5, -0.36193909874, "un")])
def test_four_corners(bias, radius, status):
    b = [0, 0, 0, 0, bias]
    found = find_unargmaxable(CORNERS, b, methods=("lp",))
    assert found.status == ["argmaxable"] * 4 + [status + "argmaxable"]
    assert found.margin[4] == pytest.approx(radius, abs=1e-8)
    assert check(find_unargmaxable(CORNERS, b), CORNERS, b).status == found.status
    b = np.array(b) + 7.0
    assert find_unargmaxable(CORNERS, b).status == found.status


@pytest.mark.parametrize("radius", [1, 10, 100])
def test_minimax_value_of_four_corners(radius):
    found = minimax_margin(CORNERS, [0, 0, 0, 0, 0.5], 4, radius=radius)
    assert found.lower == pytest.approx(0.5, abs=1e-6) and found.upper == pytest.approx(0.5, abs=1e-6)
    assert found.weights.sum() == pytest.approx(1) and found.weights[4] == 0


def test_minimax_bounds_hold_the_value():
    rng = np.random.RandomState(0)
    W, b = rng.randn(12, 3), 0.3 * rng.randn(12)
    z = rng.randn(200000, 3)
    z *= 5 / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 5 * rng.rand(len(z), 1) ** (1 / 3))
    scores = z @ W.T + b
    for k in range(12):
        found = minimax_margin(W, b, k, radius=5.0, iterations=5000)
        best = np.max(scores[:, k] - np.delete(scores, k, 1).max(axis=1))
        assert found.lower <= found.upper + 1e-12 and found.upper >= best
        assert found.lower >= best - 0.05
        assert np.linalg.norm(found.witness) <= 5 + 1e-9


@pytest.mark.parametrize("methods", METHODS)
@pytest.mark.parametrize("shape", [(50, 3), (100, 6)])
def test_without_bias_the_vertices_of_the_hull_can_win(shape, methods):
    W = np.random.RandomState(0).randn(*shape)
    found = check(find_unargmaxable(W, methods=methods), W)
    assert set(found.of("argmaxable")) == set(ConvexHull(W).vertices)
    assert found.counts().get("unknown", 0) == 0


def test_hints_find_no_more_than_the_linear_program():
    rng = np.random.RandomState(1)
    W, b = rng.randn(40, 4), 0.2 * rng.randn(40)
    exact = check(find_unargmaxable(W, b, methods=("lp",)), W, b)
    assert len(exact.of("unargmaxable")) > 5
    for method in ("screen", "braid", "frank_wolfe"):
        found = check(find_unargmaxable(W, b, methods=(method,)), W, b)
        assert set(found.of("argmaxable")) <= set(exact.of("argmaxable")) and not len(found.of("unargmaxable"))
    all_of_them = check(find_unargmaxable(W, b), W, b)
    assert all_of_them.status == exact.status


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_rows_that_always_win(dimension, seed):
    rng = np.random.RandomState(seed)
    few = rng.randn(dimension + 1, dimension)
    assert set(find_unargmaxable(few, rng.randn(dimension + 1), box=1e6).status) == {"argmaxable"}
    same_norm = rng.randn(30, dimension)
    same_norm /= np.linalg.norm(same_norm, axis=1, keepdims=True)
    assert set(find_unargmaxable(same_norm, methods=("screen",)).status) == {"argmaxable"}
    W = rng.randn(30, dimension)
    found = check(find_unargmaxable(W, -np.sum(W**2, 1) / 2), W, -np.sum(W**2, 1) / 2)
    assert set(found.status) == {"argmaxable"}


def test_planted_means_are_found_and_proved():
    rng = np.random.RandomState(3)
    W, b = rng.randn(400, 32), 0.1 * rng.randn(400)
    planted = [7, 100, 321]
    for k, count in zip(planted, (2, 5, 20)):
        rows = rng.choice(np.setdiff1d(np.arange(400), planted), count, replace=False)
        W[k], b[k] = W[rows].mean(0), b[rows].mean() - 0.01
    found = check(find_unargmaxable(W, b), W, b)
    assert found.of("unargmaxable").tolist() == planted
    lp = find_unargmaxable(W, b, classes=planted, methods=("lp",))
    assert lp.of("unargmaxable").tolist() == planted
    # Above the mean of those rows; the last one is also a mean of others, with larger biases.
    b[planted] += 0.02
    assert check(find_unargmaxable(W, b), W, b).of("unargmaxable").tolist() == planted[2:]
    assert find_unargmaxable(W, b, classes=planted, methods=("lp",)).of("unargmaxable").tolist() == planted[2:]


def test_rounding_to_float32_does_not_hide_a_mean():
    rng = np.random.RandomState(0)
    W = rng.randn(500, 64)
    W[9] = W[20:25].mean(0)
    assert find_unargmaxable(W.astype("float32"), methods=("minimum_norm",), classes=[9]).status == ["unargmaxable"]


def test_equal_rows_are_decided_by_the_bias():
    W = np.array([[1.0, 0], [1, 0], [1, -0.0], [0, 1], [-1, -1], [-1, -1]])
    b = np.array([0.3, 0.1, 0.3, 0, 0.2, 0.5])
    found = check(find_unargmaxable(W, b), W, b)
    assert found.status == ["tied", "unargmaxable", "tied", "argmaxable", "unargmaxable", "argmaxable"]
    assert [found.method[i] for i in (0, 1, 2, 4)] == ["equal row"] * 4
    assert found.beaten_by[1][0].tolist() == [0] and found.beaten_by[4][0].tolist() == [5]
    assert find_unargmaxable(np.ones((3, 2))).status == ["tied"] * 3
    assert find_unargmaxable(np.ones((1, 2))).status == ["argmaxable"]
    assert find_unargmaxable(W, b, classes=[4, 1]).status == ["unargmaxable"] * 2


def test_failures_of_highs_are_retried_and_never_read_as_a_verdict(monkeypatch):
    original, calls = _argmax_linear_program.linprog, []

    def failing(*args, **kwargs):
        calls.append(kwargs["method"])
        found = original(*args, **kwargs)
        if len(calls) < 3:
            found.status, found.x = 4, None
        return found

    monkeypatch.setattr(_argmax_linear_program, "linprog", failing)
    assert find_unargmaxable(ARTICLE, classes=[4], methods=("lp",)).status == ["unargmaxable"]
    assert calls == ["highs-ds", "highs-ipm", "highs-ds"]

    def broken(*args, **kwargs):
        found = original(*args, **kwargs)
        found.status, found.x = 0, None if len(calls) % 2 else found.x * 0 + 1
        calls.append(0)
        return found

    monkeypatch.setattr(_argmax_linear_program, "linprog", broken)
    assert find_unargmaxable(ARTICLE, classes=[4], methods=("lp",)).status == ["unknown"]


def test_rows_are_taken_in_lazily():
    rng = np.random.RandomState(5)
    W = rng.randn(200, 6)
    lazy = [_argmax_linear_program.linear_program(W, np.zeros(200), k, 100.0, start=7, more=5)[0] for k in range(40)]
    assert lazy == find_unargmaxable(W, classes=range(40), methods=("lp",)).status
    hull = [minimum_norm(W, np.zeros(200), k, 100.0, start=3, more=2)[0] for k in range(40)]
    assert hull == lazy


def test_the_box_limits_the_witness():
    W, b = np.array([[1.0, 0], [0, 1], [-1, -1]]), np.array([0, -500.0, 0])
    assert find_unargmaxable(W, b).status[1] == "unargmaxable"
    found = find_unargmaxable(W, b, box=1000.0)
    assert found.status[1] == "argmaxable" and np.abs(found.witness[1]).max() <= 1000


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(W=np.ones(3)), r"W must be \[V, d\] and b \[V\], but they have the shapes \(3,\) and \(3,\)"),
        (dict(W=np.ones((3, 2)), b=np.ones(2)), r"the shapes \(3, 2\) and \(2,\)"),
        (dict(W=[[1.0, np.nan]]), "must be finite, but hold 1 other"),
        (dict(W=np.ones((3, 2)), classes=[3]), r"classes must be whole numbers in \[0, 3\), but are"),
        (dict(W=np.ones((3, 2)), methods=("fw",)), "methods must be of screen, braid, frank_wolfe, .* but has 'fw'"),
        (dict(W=np.ones((3, 2)), box=0), "box must be a number > 0, but is 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match="find_unargmaxable: .*" + message):
        find_unargmaxable(**arguments)


def test_output_layer_of_dense_models():
    x = keras.layers.Input((4,))
    model = keras.models.Model(x, keras.layers.Dense(3, use_bias=False)(keras.layers.Dense(6, name="first")(x)))
    W, b = output_layer(model)
    assert W.shape == (3, 6) and b is None
    with pytest.raises(ValueError, match="no MLM head, LM head or Dense layer; load it with with_mlm='linear'"):
        output_layer(keras.models.Model(x, keras.layers.Activation("tanh")(x)))


def test_output_layer_of_bert4keras_models():
    from bert4keras.models import build_transformer_model
    from helpers import tiny_config

    config = dict(tiny_config(), config_path=None)
    bert = build_transformer_model(model="bert", with_mlm="linear", return_keras_model=False, **config)
    features = keras.models.Model(bert.model.inputs, bert.model.get_layer("MLM-Norm").output)
    W, b = output_layer(bert)
    inputs = [np.array([[2, 7, 9, 3]]), np.zeros((1, 4))]
    np.testing.assert_allclose(features.predict(inputs) @ W.T + b, bert.model.predict(inputs), atol=1e-5)
    gpt = build_transformer_model(model="gpt", **config)
    assert output_layer(gpt)[0].shape == (config["vocab_size"], 16) and output_layer(gpt)[1] is None
