"""Dimensions: the lemmas' exact values and bounds, the entropy rule, low rank, attention of some head size, search."""

import numpy as np
import pytest

from kexue_keras.analysis import dimensions as dims


def test_the_lemmas():
    found = dims.length_failure(64, 0.5)
    assert found.exact == pytest.approx(0.0062016, abs=1e-7) and found.chernoff == pytest.approx(0.05062, abs=1e-5)
    assert found.bound == pytest.approx(0.27067, abs=1e-5)
    product = dims.product_failure(64, 0.5)
    assert product.exact == pytest.approx(1.2435e-4, rel=1e-4) and product.bound == pytest.approx(0.54134, abs=1e-5)
    for n in (4, 30, 200):
        for eps in (0.1, 0.5, 0.9):
            for failure in (dims.length_failure(n, eps), dims.product_failure(n, eps)):
                assert failure.exact <= failure.chernoff <= failure.bound


def test_failures_are_those_of_random_vectors():
    u, v = np.random.RandomState(0).standard_normal((2, 100000, 16)) / 4
    assert np.mean(np.abs(np.sum(u**2, 1) - 1) >= 0.5) == pytest.approx(dims.length_failure(16, 0.5).exact, rel=0.03)
    assert np.mean(np.abs(np.sum(u * v, 1)) >= 0.5) == pytest.approx(dims.product_failure(16, 0.5).exact, rel=0.05)


def test_johnson_lindenstrauss():
    assert dims.jl_dimension(10**5, 0.1) == pytest.approx(27631.02, abs=0.01)
    assert np.ceil(dims.jl_dimension(50, 0.5)) == 376
    assert dims.jl_success_probability(50, 376, 0.5) == pytest.approx(0.98067, abs=1e-5)
    n = dims.jl_dimension(50, 0.5)
    assert dims.jl_success_probability(50, n, 0.5) == pytest.approx(1 - 49 / 50**2)
    assert dims.jl_success_probability(50, n, 0.5, quantity="product") >= 48 / 50
    assert dims.jl_success_probability(50, dims.jl_dimension(50, 0.5, constant=16), 0.5) == pytest.approx(1 / 50)
    assert dims.jl_success_probability(50, 10, 0.5) == 0
    from sklearn.random_projection import johnson_lindenstrauss_min_dim

    assert int(johnson_lindenstrauss_min_dim(50, eps=0.5)) == 187


def test_the_entropy_term():
    expected = [-7.774705130667, -15.473400160234, -23.172559352410]
    expected += [-30.871833832284, -61.669218922632, -123.264246843522]
    for n, value in zip((32, 64, 96, 128, 256, 512), expected):
        assert dims.sphere_term(n) == pytest.approx(value, abs=1e-9)
        assert abs(dims.sphere_term(n) / n + 0.2406) < 0.003 or n < 64
    assert dims.pair_entropy(10**5, 64) == pytest.approx(7.55245, abs=1e-5)
    constants = dims.laplace_constants()
    assert constants.angle == pytest.approx(0.9045568943) and constants.cosine == pytest.approx(0.618034, abs=1e-6)
    assert constants.slope == pytest.approx(0.2406059125) and constants.coefficient == pytest.approx(8.3123, abs=1e-4)


def test_the_entropy_term_by_integration():
    from scipy import integrate

    n = 20

    def moment(power):
        def density(t):
            return np.exp(n * np.cos(t) - n) * np.sin(t) ** (n - 2) * (n * np.cos(t)) ** power

        return integrate.quad(density, 0, np.pi, epsabs=1e-14)[0]

    area = integrate.quad(lambda t: np.sin(t) ** (n - 2), 0, np.pi)[0]
    assert dims.sphere_term(n) == pytest.approx(np.log(moment(0) / area) + n - moment(1) / moment(0), abs=1e-10)


def test_the_rules():
    for count, rule, root in ((512, 51.965, 51.544), (10**5, 95.90, 95.390), (5 * 10**6, 128.49, 127.909)):
        assert dims.embedding_dimension(count) == pytest.approx(rule, abs=0.01)
        assert dims.embedding_dimension(count, coefficient=None) == pytest.approx(root, abs=1e-3)
        assert dims.smallest_dimension(count) == pytest.approx(root, abs=1e-3)
    assert dims.embedding_dimension(10**5, coefficient=8) == pytest.approx(92.10, abs=0.01)
    assert dims.head_size(512, coefficient=8) == pytest.approx(49.907, abs=1e-3)


def test_the_articles_criterion():
    roots = [dims.smallest_dimension(10**4, h) for h in (0, 5, 10, 15, 18)]
    assert roots == sorted(roots, reverse=True)
    for h, n in zip((0, 5, 10), roots):
        low, high = int(n), int(n) + 1
        assert dims.pair_entropy(10**4, low) >= h >= dims.pair_entropy(10**4, high)
    assert dims.smallest_dimension(10**4, 2 * np.log(10**4) - 1e-6) == 2.0
    with pytest.raises(ValueError, match="entropy must be less than 2 log N = 18.42, but is 19"):
        dims.smallest_dimension(10**4, 19)


def test_cooccurrence_entropy():
    rng = np.random.RandomState(0)
    p = rng.dirichlet(np.ones(300))
    true = -(p * np.log(p)).sum()
    plain, corrected = dims.cooccurrence_entropy(rng.multinomial(1500, p))
    assert plain < corrected and abs(corrected - true) < abs(plain - true)
    for wrong in ([0, 0], [-1, 3]):
        with pytest.raises(ValueError, match="counts must be >= 0 and not all 0"):
            dims.cooccurrence_entropy(wrong)


@pytest.mark.parametrize("k", [15, 50, 100])
def test_low_rank(k):
    rng = np.random.RandomState(0)
    M = rng.randn(200, 5) @ rng.randn(5, 150) + 1e-3 * rng.randn(200, 150)

    def error(**options):
        U, S, V = dims.randomized_svd(M, k, **options)
        assert U.shape == (200, k) and S.shape == (k,) and V.shape == (k, 150)
        return np.linalg.norm(U * S @ V - M) / np.linalg.norm(M)

    values = np.linalg.svd(M)[1]
    optimum = np.linalg.norm(values[k:]) / np.linalg.norm(values)
    assert error() <= 2 * optimum and error(power=0) <= 2 * optimum and error(method="row range") <= 2 * optimum
    for orthonormal in (True, False):
        found = [error(method="projection", orthonormal=orthonormal, seed=seed) for seed in range(8)]
        theory = dims.project_rank(k, 150, orthonormal=orthonormal)
        assert np.sqrt(np.mean(np.square(found))) == pytest.approx(theory, rel=0.12)
        assert np.mean(found) > 1000 * optimum


def test_theory_of_the_projection():
    expected = {True: (0.949, 0.816, 0.577), False: (3.17, 1.74, 1.23)}
    for orthonormal, values in expected.items():
        for k, value in zip((15, 50, 100), values):
            assert dims.project_rank(k, 150, orthonormal=orthonormal) == pytest.approx(value, abs=0.005)


def test_attention_of_a_head_size():
    target = np.random.RandomState(0).dirichlet(np.ones(64), 64)
    left = [dims.fit_attention(target, size) for size in (16, 32, 64)]
    assert left[0].start == pytest.approx(0.429, abs=0.02)
    assert [f.divergence for f in left] == pytest.approx([0.133, 0.026, 0.0], abs=0.01)
    np.testing.assert_allclose(left[2].attention.sum(1), 1)
    kl = np.sum(target * np.log(target / left[0].attention), axis=1).mean()
    assert left[0].divergence == pytest.approx(kl, rel=1e-6)
    with pytest.raises(ValueError, match=r"target must be \[L, L\] with rows that sum to 1"):
        dims.fit_attention(np.ones((3, 3)), 2)


def test_search_by_codes_and_dimensions():
    rng = np.random.RandomState(0)
    vectors = rng.randn(300, 16) @ rng.randn(16, 32)
    found = [dims.search_recall(vectors[20:], vectors[:20], bits) for bits in (16, 64, 512)]
    assert found[0].recall < found[1].recall < found[2].recall and found[2].recall > 0.6
    assert found[2].angle_error < 0.05
    both = dims.pca_and_projection(vectors, 16)
    assert both["pca"]["error"] == pytest.approx(0, abs=1e-9) and both["pca"]["recall"] == 1
    assert 0.1 < both["projection"]["error"] < 0.5
    with pytest.raises(ValueError, match="distribution must be one of 'gaussian', 'sparse', but is 'dct'"):
        dims.pca_and_projection(vectors, 4, distribution="dct")


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dims.jl_dimension(50, 1.5), "jl_dimension: eps must be a number in .0, 1., but is 1.5"),
        (lambda: dims.jl_dimension(1, 0.5), "count must be a whole number >= 2, but is 1"),
        (
            lambda: dims.jl_success_probability(5, 9, 0.5, quantity="angle"),
            "quantity must be one of 'distance', 'product'",
        ),
        (lambda: dims.embedding_dimension(1), "count must be a number > 1, but is 1"),
        (lambda: dims.randomized_svd(np.ones((3, 4)), 5), r"k must be a whole number in \[1, 3\], but is 5"),
        (lambda: dims.randomized_svd(np.ones((3, 4)), 1, method="x"), "method must be one of 'range', .* but is 'x'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
