"""The eight inequalities of log sum exp: the article's numbers, random cases, equality, masks."""

import numpy as np
import pytest
from scipy import special

from kexue_keras.analysis import logsumexp_bounds, smooth_max

X, P, Y = [1.0, 2, 3], [0.2, 0.3, 0.5], [0.0, 2.5, 2]


def test_the_numbers():
    found = logsumexp_bounds(X, P, y=Y, t=1.5, tau=0.1, share=0.3)
    expected = {
        "lse": 3.40760596444438,
        "upper": 4.09861228866811,
        "mean": 3.09861228866811,
        "collision": 3.2675840262617055,
        "renyi": 3.2974223454116247,
        "entropy": 3.3296530140645735,
        "gap": 0.07795295037980665,
        "difference": 0.38369690826447256,
        "difference_bound": 1.0,
        "smooth": 3.000004540096028,
        "smooth_upper": 3.1098612,
        "mixture_bound": 3.1390181,
        "mixture": 3.0823507,
    }
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, abs=1e-7), name
    assert float(logsumexp_bounds(X, P, t=3.0)["renyi"]) == pytest.approx(3.216290731874155)


def test_they_hold_for_random_numbers():
    rng = np.random.RandomState(0)
    n = 7
    x, y = rng.randn(2, 20000, n) * rng.choice([0.01, 1, 20], (2, 20000, 1))
    p = rng.dirichlet(np.ones(n), 20000)
    f = logsumexp_bounds(x, p, y=y, t=1.0 + rng.rand() * 3, tau=0.3, share=0.7)
    eps = 1e-10
    for low, high in (
        ("max", "lse"),
        ("lse", "upper"),
        ("max", "smooth"),
        ("smooth", "smooth_upper"),
        ("mean", "lse"),
        ("collision", "lse"),
        ("renyi", "lse"),
        ("entropy", "lse"),
        ("difference", "difference_bound"),
        ("mixture", "mixture_bound"),
    ):
        assert (f[low] <= f[high] + eps).all(), (low, high)
    softmax = special.softmax(x, axis=1)
    np.testing.assert_allclose(f["gap"], np.sum(p * np.log(p / softmax), axis=1), atol=1e-9)
    renyi = [logsumexp_bounds(x, p, t=t)["renyi"] for t in (1.0001, 1.5, 2.0, 4.0)]
    assert all((a >= b - eps).all() for a, b in zip(renyi, renyi[1:]))
    np.testing.assert_allclose(renyi[0], f["entropy"], atol=1e-3)
    np.testing.assert_allclose(renyi[2], f["collision"])


def test_where_they_are_equalities():
    equal = logsumexp_bounds(np.full(5, 2.0), tau=0.5)
    for a, b in (("lse", "upper"), ("smooth", "smooth_upper"), ("mean", "lse"), ("collision", "lse")):
        assert float(equal[a]) == pytest.approx(float(equal[b]))
    x = np.array([1.0, 4, -2])
    assert float(logsumexp_bounds(x, special.softmax(x))["gap"]) == pytest.approx(0, abs=1e-12)
    shifted = logsumexp_bounds(x, y=x + 3, share=0.25)
    assert float(shifted["difference"]) == pytest.approx(float(shifted["difference_bound"]))
    assert float(shifted["mixture"]) == pytest.approx(float(shifted["mixture_bound"]))


def test_masked_entries_are_not_there():
    x, p = np.array([1.0, -np.inf, 3]), np.array([0.4, 0, 0.6])
    masked, plain = logsumexp_bounds(x, p, y=x + 1), logsumexp_bounds(x[[0, 2]], p[[0, 2]], y=x[[0, 2]] + 1)
    for name in plain:
        assert float(masked[name]) == pytest.approx(float(plain[name])), name


def test_the_smooth_maximum_tends_to_the_maximum():
    x = np.random.RandomState(0).randn(4, 6)
    values = [smooth_max(x, tau) for tau in (1.0, 0.1, 1e-3, 1e-6)]
    assert all((a >= b).all() for a, b in zip(values, values[1:]))
    np.testing.assert_allclose(values[-1], x.max(1), atol=1e-5)
    np.testing.assert_allclose(smooth_max(x, 0.5, axis=0), smooth_max(x.T, 0.5))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(t=1.0), "t must be a number > 1, but is 1.0"),
        (dict(tau=0.0), "tau must be a number > 0, but is 0.0"),
        (dict(share=2), "share must be a number in .0, 1., but is 2"),
        (dict(p=[0.5, 0.6, 0]), "p must be probabilities"),
        (dict(y=[0, -np.inf, 1]), "y must be -inf where x is"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match="logsumexp_bounds: " + message):
        logsumexp_bounds(X, **options)
    with pytest.raises(ValueError, match="a row of x has no entry"):
        logsumexp_bounds([-np.inf, -np.inf])
    with pytest.raises(ValueError, match="smooth_max: tau must be a number > 0, but is -1"):
        smooth_max(X, -1)
