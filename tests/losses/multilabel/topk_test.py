"""ZLPR's relatives: a known number of classes, scale and margin, a learned threshold; against sums in float64 numpy."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from loss_graphs import evaluator, oracles, slope

from kexue_keras import losses
from kexue_keras.backend import K, keras

INF = float("inf")
ORACLES = oracles("zlpr", "pairwise_unified", "combinatorial_softmax", "hard")


def pairwise(t, s, gamma=1.0, margin=0.0):
    """The double sum, pair by pair."""
    t, s = np.asarray(t, "float64"), np.asarray(s, "float64")
    terms = [0.0]
    for i, j in itertools.product(range(len(s)), repeat=2):
        weight = (1 - t[i]) * t[j]
        if weight > 0 and s[i] > -INF and s[j] > -INF:
            terms.append(np.log(weight) + gamma * (s[i] - s[j] + margin))
    return np.logaddexp.reduce(terms)


def combination(t, s, k, padding=None):
    """All sets, one by one; with a padding class that may repeat, all that have at most k."""
    totals = []
    for j in [k] if padding is None else range(k + 1):
        for chosen in itertools.combinations(range(len(s)), j):
            totals.append(sum(s[i] for i in chosen) + (0 if padding is None else (k - j) * padding))
    right = float(np.sum(np.asarray(s)[np.asarray(t) > 0]))
    return np.logaddexp.reduce(totals) - right - (0 if padding is None else (k - np.sum(t)) * padding)


def with_threshold(t, s, s0=0.0, gamma=1.0, margin=0.0):
    """The article's form: log(e^s0 + sum e^s) + log(e^-s0 + sum e^-s), with the scale and margin of Circle loss."""
    t, s = np.asarray(t, "float64"), np.asarray(s, "float64")
    keep = s > -INF
    with np.errstate(divide="ignore"):
        below = np.logaddexp.reduce(np.append(gamma * (s + margin) + np.log1p(-t), gamma * s0)[np.append(keep, True)])
        above = np.logaddexp.reduce(np.append(-gamma * (s - margin) + np.log(t), -gamma * s0)[np.append(keep, True)])
    return below + above


def run(loss, *inputs, wrt=1, **arguments):
    return evaluator(lambda t, s: loss(t, s, **arguments), *inputs, wrt=wrt)


BOTH = ("float32", [None, None]), ("float64", [None, None])
logits = st.lists(st.floats(-60, 60, width=32), min_size=5, max_size=5)
labels = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=5, max_size=5)


def test_oracles():
    entry = ORACLES["pairwise_unified"]
    found = losses.pairwise_multilabel_crossentropy([entry["inputs"]["t"]], [entry["inputs"]["s"]])
    np.testing.assert_allclose(K.eval(found), [entry["expected"]], 1e-6)
    entry = ORACLES["combinatorial_softmax"]
    t = np.eye(4)[entry["inputs"]["targets"]].sum(0)
    found = losses.combination_crossentropy(t[None], tf.constant([entry["inputs"]["s"]], tf.float64), k=2)
    np.testing.assert_allclose(K.eval(found), [entry["expected"]["loss"]], 1e-12)


@pytest.mark.parametrize("gamma, margin", [(1.0, 0.0), (2.5, 0.5), (0.3, -1.0)])
def test_pairwise_and_threshold_forms_against_the_sums(gamma, margin):
    arguments = dict(gamma=gamma, margin=margin)
    pairs = run(losses.pairwise_multilabel_crossentropy, *BOTH, **arguments)
    zlpr = run(losses.multilabel_crossentropy, *BOTH, learned_threshold=True, **arguments)

    @given(labels, logits, st.floats(-20, 20, width=32))
    def check(t, s, s0):
        value, gradient = pairs([t], [s])
        np.testing.assert_allclose(value, [pairwise(t, s, **arguments)], 1e-7, 1e-9)
        wanted = slope(lambda x: pairwise(t, x, **arguments), s)
        np.testing.assert_allclose(gradient, [wanted], 1e-4, 1e-6)
        np.testing.assert_allclose(gradient.sum(), 0, atol=1e-6)
        value, gradient = zlpr([t], [[s0] + s])
        np.testing.assert_allclose(value, [with_threshold(t, s, s0, **arguments)], 1e-7, 1e-7)
        wanted = slope(lambda x: with_threshold(t, x[1:], x[0], **arguments), [s0] + s)
        np.testing.assert_allclose(gradient, [wanted], 1e-4, 1e-5)

    check()


@pytest.mark.parametrize("learned_threshold", [False, True])
def test_class_numbers_are_the_same_as_multi_hot_rows(learned_threshold, rng):
    arguments = dict(gamma=3.0, margin=0.4, learned_threshold=learned_threshold)
    s, numbers = rng.randn(4, 6), np.array([[3, 1], [2, 2], [5, 0], [0, 0]])
    s[0, 5] = -INF
    for mask_zero in (False, True):
        sparse = run(
            losses.sparse_multilabel_crossentropy, ("int32", [None, 2]), BOTH[1], mask_zero=mask_zero, **arguments
        )
        columns = np.concatenate([np.zeros([4, 1]) + 0.3, s], 1) if learned_threshold else s
        hot = np.array([np.eye(6)[row].max(0) for row in numbers])
        value, gradient = sparse(numbers, columns)
        keep = slice(1, None) if mask_zero else slice(None)
        wanted = [with_threshold(t[keep], x[keep], 0.3 if learned_threshold else 0.0, 3.0, 0.4) for t, x in zip(hot, s)]
        np.testing.assert_allclose(value, wanted, 1e-7)
        dense = run(losses.multilabel_crossentropy, *BOTH, from_sparse=False, **arguments)
        if not mask_zero:
            np.testing.assert_allclose(dense(hot, columns)[1], gradient, 1e-6, 1e-9)
    pairs = losses.pairwise_multilabel_crossentropy(numbers, tf.constant(s), from_sparse=True, mask_zero=True)
    wanted = [pairwise(t[1:], x[1:]) for t, x in zip(hot, s)]
    np.testing.assert_allclose(K.eval(pairs), wanted, 1e-7)
    assert wanted[3] == 0  # nothing but padding


def test_what_the_parts_reduce_to(rng):
    s, one = rng.randn(3, 5), np.eye(5)[[0, 3, 2]]
    ce = -(s - np.logaddexp.reduce(s, 1)[:, None])[one > 0]
    for found in (
        losses.pairwise_multilabel_crossentropy(one, tf.constant(s)),
        losses.combination_crossentropy(one, tf.constant(s), k=1),
    ):
        np.testing.assert_allclose(K.eval(found), ce, 1e-7)
    hard = ORACLES["hard"]["inputs"]
    scaled = losses.multilabel_crossentropy([hard["t"]], [[0.25 * x for x in hard["s"]]], gamma=4.0)
    np.testing.assert_allclose(K.eval(scaled), [ORACLES["hard"]["expected"]], 1e-6)
    probabilities = losses.multilabel_probabilities(s, gamma=2.0, learned_threshold=True)
    np.testing.assert_allclose(probabilities, 1 / (1 + np.exp(-4 * (s[:, 1:] - s[:, :1]))))
    tensor = losses.multilabel_probabilities(tf.constant(s), gamma=2.0, learned_threshold=True)
    np.testing.assert_allclose(K.eval(tensor), probabilities, 1e-7)
    # Where the label is the probability, the gradient is 0, whatever the margin.
    zlpr = run(losses.multilabel_crossentropy, *BOTH, gamma=2.0, margin=0.0, learned_threshold=True)
    assert abs(zlpr(probabilities, s)[1]).max() < 1e-6


@pytest.mark.parametrize("function", ["pairwise", "zlpr", "combination"])
def test_masks_infinity_and_half_precision(function, rng):
    s, t = np.float32([[1, -INF, 0.5, -2, 30]]), np.float32([[1, 0, 0, 0, 1]])
    keep = np.array([0, 2, 3, 4])
    loss, arguments = {
        "pairwise": (losses.pairwise_multilabel_crossentropy, dict(gamma=2.0, margin=0.1)),
        "zlpr": (losses.multilabel_crossentropy, dict(gamma=2.0, margin=0.1)),
        "combination": (losses.combination_crossentropy, dict(k=2)),
    }[function]
    evaluate = evaluator(
        lambda t, s: loss(t, s, **arguments), ("float32", [None, 5]), ("float32", [None, 5]), wrt=1, second=True
    )
    value, gradient, second = evaluate(t, s)
    twin = {
        "pairwise": lambda x: pairwise(t[0][keep], x, 2.0, 0.1),
        "zlpr": lambda x: with_threshold(t[0][keep], x, 0.0, 2.0, 0.1),
        "combination": lambda x: combination(t[0][keep], x, 2),
    }[function]
    np.testing.assert_allclose(value, [twin(s[0][keep])], 1e-5)
    np.testing.assert_allclose(gradient[0][keep], slope(twin, s[0][keep]), 1e-3, 1e-6)
    assert gradient[0, 1] == 0 and np.isfinite(second).all()
    half = loss(tf.constant(t, tf.float16), tf.constant(s, tf.float16), **arguments)
    assert half.dtype == tf.float32
    np.testing.assert_allclose(K.eval(half), value, 1e-3)
    assert np.isnan(evaluate(t, np.where(np.isfinite(s), s, np.nan))[0]).all()  # NaN is not hidden
    if function != "combination":
        masked = loss(t, np.where(np.isfinite(s), s, 9), mask=tf.constant([True, False, True, True, True]), **arguments)
        np.testing.assert_allclose(K.eval(masked), value, 1e-6)
        np.testing.assert_allclose(K.eval(loss(t, np.where(np.isfinite(s), s, -1e12), **arguments)), value, 1e-6)


@pytest.mark.parametrize("classes, k", [(2, 1), (5, 2), (5, 5), (7, 4)])
def test_all_sets_of_k_classes(classes, k, rng):
    double = ("float64", [None, classes])
    plain = evaluator(lambda t, s: losses.combination_crossentropy(t, s, k=k), double, double, wrt=1)
    padded = evaluator(
        lambda t, s: losses.combination_crossentropy(t, s, k=k, padding_first=True),
        double,
        ("float64", [None, classes + 1]),
        wrt=1,
    )
    s, t = 3 * rng.randn(4, classes + 1), np.zeros([4, classes])
    for row in t:
        row[rng.permutation(classes)[:k]] = 1
    value, gradient = plain(t, s[:, 1:])
    for i in range(4):
        np.testing.assert_allclose(value[i], combination(t[i], s[i, 1:], k), 1e-9, 1e-9)
        np.testing.assert_allclose(gradient[i], slope(lambda x: combination(t[i], x, k), s[i, 1:]), 1e-4, 1e-6)
    t[1:] *= rng.rand(3, classes) > 0.5  # fewer than k: the padding class fills up
    value, gradient = padded(t, s)
    for i in range(4):
        np.testing.assert_allclose(value[i], combination(t[i], s[i, 1:], k, s[i, 0]), 1e-9, 1e-9)
        twin = lambda x: combination(t[i], x[1:], k, x[0])  # noqa: E731
        np.testing.assert_allclose(gradient[i], slope(twin, s[i]), 1e-4, 1e-6)


def test_decoding_by_number_and_by_a_learned_threshold():
    logits = np.array([[0.5, 3, -1, 0.7], [2.0, -3, 1, -INF]])
    decode = losses.decode_multilabel
    assert decode(logits, k=2) == [[1, 3], [0, 2]] and decode(logits[0], k=3) == [1, 3, 0]
    assert decode(logits, k=[1, 4]) == [[1], [0, 2, 1]]  # a masked class never
    assert decode(logits, learned_threshold=True) == [[0, 2], []]
    assert decode(logits, learned_threshold=True, k=1, labels=["a", "b", "c"]) == [["a"], ["b"]]
    for arguments, message in (
        (dict(k=1, threshold=0.5), "threshold=0.5 does nothing where k=1"),
        (dict(k=[1]), "1 counts k for 2 rows"),
        (dict(k=-1), "k must be a whole number >= 0, but is -1"),
        (dict(learned_threshold=True, labels=["a"] * 4), "4 names for 3 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            decode(logits, **arguments)


@pytest.mark.all_stacks
def test_compile_save_and_load(rng, tmp_path, run_python):
    """Both losses and the metric, with all parameters, come back in a fresh process."""
    x, y = rng.randn(6, 3), (rng.rand(6, 4) < 0.4).astype("f")
    model = keras.models.Sequential([keras.layers.Dense(5, input_shape=(3,), name="out")])
    model.compile("sgd", losses.MultilabelCrossentropy(gamma=2.0, margin=0.5, learned_threshold=True))
    model.fit(x, y, verbose=0)
    model.save(str(tmp_path / "threshold.h5"))
    np.savez(str(tmp_path / "data.npz"), x=x, y=y)
    s = model.predict(x)
    wanted = np.mean([with_threshold(t, row[1:], row[0], 2.0, 0.5) for t, row in zip(y, s)])
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), wanted, 1e-4)
    pairs = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,))])
    metric = losses.MultilabelF1(k=2)
    pairs.compile("sgd", losses.PairwiseMultilabelCrossentropy(gamma=2.0, margin=0.5), metrics=[metric])
    found, f1 = pairs.evaluate(x, y, verbose=0)
    s = pairs.predict(x)
    np.testing.assert_allclose(found, np.mean([pairwise(t, row, 2.0, 0.5) for t, row in zip(y, s)]), 1e-4)
    predicted = np.array([np.eye(4)[losses.decode_multilabel(row, k=2)].sum(0) for row in s])
    hits = (predicted * y).sum()
    np.testing.assert_allclose(f1, 2 * hits / (predicted.sum() + y.sum()), 1e-5)
    assert losses.MultilabelF1(**metric.get_config()).get_config() == metric.get_config()
    by_threshold = losses.MultilabelF1(learned_threshold=True)
    assert by_threshold.get_config()["learned_threshold"] is True
    pairs.compile("sgd", losses.PairwiseMultilabelCrossentropy(gamma=2.0, margin=0.5))
    pairs.save(str(tmp_path / "pairs.h5"))
    said = run_python(
        "import sys, numpy as np, kexue_keras\n"
        "from kexue_keras.backend import keras\n"
        "data = np.load(sys.argv[1])\n"
        "for path in sys.argv[2:]:\n"
        "    print(keras.models.load_model(path).evaluate(data['x'], data['y'], verbose=0))",
        tmp_path / "data.npz",
        tmp_path / "threshold.h5",
        tmp_path / "pairs.h5",
    ).split()
    np.testing.assert_allclose([float(v) for v in said[-2:]], [wanted, found], 1e-4)


def test_errors():
    s = tf.zeros([2, 4])
    cases = [
        (lambda: losses.pairwise_multilabel_crossentropy(s, s, gamma=0.0), "gamma must be a number > 0, but is 0.0"),
        (lambda: losses.multilabel_crossentropy(s, s, margin=INF), "margin must be a number, but is inf"),
        (lambda: losses.MultilabelCrossentropy(gamma=-1), "MultilabelCrossentropy: gamma"),
        (lambda: losses.PairwiseMultilabelCrossentropy(mask_zero=True), "mask_zero=True is for class numbers"),
        (lambda: losses.multilabel_crossentropy(s, s, learned_threshold=True), r"same shape.*\(2, 4\).*\(2, 3\)"),
        (
            lambda: losses.multilabel_crossentropy(s, s[:, :1], learned_threshold=True),
            r"y_pred is \[..., 1 \+ classes\]",
        ),
        (
            lambda: losses.combination_crossentropy(s, s, k=5),
            r"k must be a whole number in \[1, 4\], but is 5; y_pred has 4 classes",
        ),
        (lambda: losses.combination_crossentropy([[1.0, 1, 0, 0]], s[:1], k=1), "exactly k right classes"),
        (lambda: losses.MultilabelF1(k=0), "k must be a whole number >= 1, but is 0"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
