"""The solvers on the Gram matrix against the spec's oracles, scipy's NNLS and the conditions of optimality."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import lsq_linear, nnls

from kexue_keras.backend import get_session, tf1
from kexue_keras.optimizers.multitask import _conflict as conflict

with open(os.path.join(ROOT, "tests", "oracles.json"), encoding="utf-8") as handle:
    ORACLES = {case["name"]: case for case in json.load(handle)["mtl"]}

G = np.array(ORACLES["mgda"]["inputs"]["G"])
INDEX = [[0, 1, 2]] * 3


def run(function, gradients, *args):
    """Weights from gradients [n, D] or [batch, n, D]."""
    gradients = np.asarray(gradients, "float64")
    gram = tf1.placeholder("float64", [None] * (gradients.ndim - 2) + [gradients.shape[-2]] * 2)
    return get_session().run(function(gram, *args), {gram: gradients @ np.swapaxes(gradients, -1, -2)})


def min_norm(gradients, main):
    return run(conflict.min_norm_weights, gradients, main)


def article_rule(g0, g, iterations=2000):
    """The iteration printed in 8907: only the worst constraint's multiplier is computed again."""
    g0, g = np.asarray(g0, float), np.asarray(g, float)
    multipliers = np.zeros(len(g))
    for _ in range(iterations):
        u = g0 + multipliers @ g
        i = np.argmin(g @ u)
        multipliers[i] = max(-(u - multipliers[i] * g[i]) @ g[i], 0) / (g[i] @ g[i])
    return multipliers


def auxiliary_case(name):
    case = ORACLES[name]
    return case["inputs"]["g0"], case["inputs"]["g"], case["expected"]


@pytest.mark.parametrize("name", ["mgda", "mgda_first_two_rows", "mgda_conflict_pair"])
def test_mgda_oracles(name):
    gradients, expected = np.array(ORACLES[name]["inputs"]["G"]), ORACLES[name]["expected"]
    alpha = min_norm(gradients, range(len(gradients)))
    np.testing.assert_allclose(alpha, expected["alpha"], atol=1e-10)
    np.testing.assert_allclose(alpha @ gradients, expected["u"], atol=1e-10)


def test_pcgrad_oracles():
    weights = run(conflict.pcgrad_weights, G, tf.constant(INDEX))
    np.testing.assert_allclose(weights @ G, ORACLES["pcgrad"]["expected"]["sum"], atol=1e-10)
    pair = np.array([[1.0, 0.0], [-2.0, 1.0]])
    weights = run(conflict.pcgrad_weights, pair, tf.constant([[0, 1], [0, 1]]))
    np.testing.assert_allclose(weights @ pair, [0.2, 1.4], atol=1e-12)


def test_pcgrad_follows_the_order(rng):
    gradients = rng.randn(5, 3)
    order = np.array([rng.permutation(5) for _ in range(5)])
    rows = gradients.copy()
    for i in range(5):
        for j in order[i]:
            if j != i and rows[i] @ gradients[j] < 0:
                rows[i] -= rows[i] @ gradients[j] / (gradients[j] @ gradients[j]) * gradients[j]
    weights = run(conflict.pcgrad_weights, gradients, tf.constant(order))
    np.testing.assert_allclose(weights @ gradients, rows.sum(0), atol=1e-12)


def test_normalised_oracle():
    weights = run(conflict.normalised_weights, G[:2])
    np.testing.assert_allclose(weights @ G[:2], ORACLES["normalised_sum"]["expected"]["u"], atol=1e-10)


@pytest.mark.parametrize("name", ["aux_stall_example", "aux_one_active", "aux_two_active", "aux_zero_u", "aux_single"])
def test_main_and_auxiliary_oracles(name):
    g0, g, expected = auxiliary_case(name)
    w = min_norm([g0] + g, [0])
    np.testing.assert_allclose(w, [1.0] + expected["lambda"], atol=1e-10)
    np.testing.assert_allclose(w @ np.array([g0] + g), expected["u"], atol=1e-10)


def test_l2_as_auxiliary_task():
    case = ORACLES["aux_l2"]
    gradients = np.array([case["inputs"]["g"], case["inputs"]["theta"]])
    w = min_norm(gradients, [0])
    assert abs(w[1] - case["expected"]["gamma"]) < 1e-12
    # The article prints the rule without the theta at its end; only with it is the result orthogonal to theta.
    np.testing.assert_allclose(w @ gradients, case["expected"]["result"], atol=1e-12)


def test_the_rule_of_the_article_stalls():
    for name in ("aux_stall_example", "aux_two_active"):
        g0, g, expected = auxiliary_case(name)
        np.testing.assert_allclose(article_rule(g0, g), expected["article_rule_lambda"], atol=1e-9)
        stalled = np.array(g0) + article_rule(g0, g) @ np.array(g)
        exact = min_norm([g0] + g, [0]) @ np.array([g0] + g)
        assert stalled @ stalled > exact @ exact + 1e-3
        assert (np.array(g) @ stalled > -1e-9).all()


def random_problems(rng, n, d, count, dependent=False):
    gradients = rng.randn(count, n, d) * 10 ** rng.uniform(-3, 3, (count, n, 1))
    if dependent:
        gradients[:, -1] = -0.5 * gradients[:, 0]
        gradients[::2, 1] = 2 * gradients[::2, 0]
        gradients[::3, 2] = 0
    return gradients


@pytest.mark.parametrize("n", [2, 3, 5, 8, 11])
@pytest.mark.parametrize("dependent", [False, True])
def test_main_and_auxiliary_equal_scipy(rng, n, dependent):
    if n == 2 and dependent:
        pytest.skip("needs three tasks")
    problems = random_problems(rng, n, 4, 60, dependent)
    weights = min_norm(problems, [0])
    for gradients, w in zip(problems, weights):
        u = w @ gradients
        # scipy's nnls gives up on some of these in versions before 1.12.
        found = lsq_linear(gradients[1:].T, -gradients[0], (0, np.inf), method="bvls", tol=1e-15, max_iter=1000)
        least = np.sqrt(2 * found.cost)
        size = np.linalg.norm(gradients[0])
        assert abs(np.linalg.norm(u) - least) <= 2e-6 * size
        assert (w >= 0).all() and w[0] == 1
        # <u, g_i> >= 0, and = 0 wherever g_i is used.
        inner = gradients @ u / np.maximum(np.linalg.norm(gradients, axis=1), 1e-300)
        assert (inner[1:] >= -2e-6 * size).all()
        used = w[1:] * np.linalg.norm(gradients[1:], axis=1)
        assert np.abs(used * inner[1:]).max() <= 2e-6 * size**2
        assert abs(u @ gradients[0] - u @ u) <= 2e-6 * size**2


@pytest.mark.parametrize("n", [2, 4, 8, 12])
def test_mgda_is_the_point_nearest_to_zero(rng, n):
    problems = np.concatenate([random_problems(rng, n, d, 40) for d in (3,)] + [rng.randn(40, n, 3)])
    for gradients, w in zip(problems, min_norm(problems, range(n))):
        u, longest = w @ gradients, np.linalg.norm(gradients, axis=1).max()
        assert (w >= 0).all() and abs(w.sum() - 1) < 1e-12
        # <g_i, u> >= |u|^2 for every i is sufficient for the optimum.
        assert (gradients @ u - u @ u >= -1e-6 * longest * max(np.linalg.norm(u), 1e-6 * longest)).all()


def test_several_main_tasks(rng):
    problems = rng.randn(60, 5, 4)
    for gradients, w in zip(problems, min_norm(problems, [0, 3])):
        u = w @ gradients
        assert (w >= 0).all() and abs(w[0] + w[3] - 1) < 1e-12
        assert (gradients[[1, 2, 4]] @ u >= -1e-9).all() and (gradients[[0, 3]] @ u >= u @ u - 1e-9).all()
        penalised = np.concatenate([gradients.T, 1e4 * np.array([[1, 0, 0, 1, 0.0]])])
        least = np.linalg.norm(nnls(penalised, [0, 0, 0, 0, 1e4], maxiter=1000)[0] @ gradients)
        assert abs(np.linalg.norm(u) - least) < 1e-5


@settings(max_examples=8)
@given(st.integers(0, 10**6), st.floats(0.01, 100))
def test_scale_and_order(seed, scale):
    gradients = np.random.RandomState(seed).randn(3, 3)
    with tf.Graph().as_default(), tf1.Session() as session:
        stack = np.stack([gradients, scale * gradients, gradients[[2, 0, 1]]])
        gram = tf.constant(stack @ np.swapaxes(stack, -1, -2))
        plain, scaled, moved = session.run(conflict.min_norm_weights(gram, [0, 1, 2])) @ np.eye(3)
        np.testing.assert_allclose(plain, scaled, atol=1e-8)
        np.testing.assert_allclose(plain[[2, 0, 1]], moved, atol=1e-8)


def test_tasks_without_gradient_are_left_out():
    gradients = np.array([[0.0, 0.0], [1.0, 2.0], [-2.0, 1.0]])
    alpha = min_norm(gradients, [0, 1, 2])
    np.testing.assert_allclose(alpha, [0, 0.5, 0.5], atol=1e-12)
    w = min_norm(gradients, [1])
    np.testing.assert_allclose(w, [0, 1, 0], atol=1e-12)
    assert (min_norm(gradients, [0]) @ gradients == 0).all()
    for n in (2, 10):
        assert (min_norm(np.zeros((n, 3)), range(n)) @ np.zeros((n, 3)) == 0).all()
    np.testing.assert_allclose(run(conflict.normalised_weights, gradients), [0, 5**-0.5, 5**-0.5])
    order = tf.constant([[0, 1, 2]] * 3)
    np.testing.assert_allclose(run(conflict.pcgrad_weights, gradients, order), [1, 1, 1])


@pytest.mark.parametrize("n", [3, 10])
def test_nan_gradients_do_not_stop_the_solver(rng, n):
    gradients = rng.randn(n, 4)
    gradients[1, 2] = np.nan
    w = min_norm(gradients, range(n))
    assert np.isfinite(w).all() and not np.isfinite(w @ gradients).all()
