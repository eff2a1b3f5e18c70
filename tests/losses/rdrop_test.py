"""R-Drop on pairs in the batch: against float64 numpy, the oracles, and the properties of the spec."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from loss_graphs import evaluator, oracles, slope

from kexue_keras import losses
from kexue_keras.backend import K, keras, tf1
from kexue_keras.losses._rdrop import make_pair, pair_of

INF = float("inf")
ORACLES = oracles("rdrop")
FACTOR = {"article": 0.25, "mean": 0.5}


def log_softmax(s):
    s = np.asarray(s, "float64")
    return s - np.logaddexp.reduce(s, -1)[..., None]


def kl(a, b):
    """KL(p, q) + KL(q, p) by the definition, from log-probabilities."""
    return np.sum(np.exp(a) * (a - b), -1) + np.sum(np.exp(b) * (b - a), -1)


def twin(y, log_p, alpha=4.0, convention="article"):
    """Values of the rows."""
    ce = -log_p[np.arange(len(y)), y]
    return ce + alpha * FACTOR[convention] * np.repeat(kl(log_p[::2], log_p[1::2]), 2)


def runner(dtype="float32", **kwargs):
    kwargs.setdefault("from_logits", True)
    return evaluator(
        lambda y, s: losses.rdrop_crossentropy(y, s, **kwargs), ("int32", [None]), (dtype, [None, 3]), wrt=1
    )


def test_oracles():
    entry = ORACLES["ce_rows"]
    p, y = np.array(entry["inputs"]["pred"]), np.array(entry["inputs"]["labels"])
    log_p, article = np.log(p), ORACLES["article_loss_alpha4"]["expected"]
    np.testing.assert_allclose(twin(y, log_p, 0.0), entry["expected"], atol=1e-10)
    np.testing.assert_allclose(kl(log_p[::2], log_p[1::2]), ORACLES["kl_pair_sums"]["expected"], atol=1e-10)
    rows = {}
    for alpha in (0.0, 1.0, 4.0):
        rows[alpha] = runner(alpha=alpha, from_logits=False)(y, p)[0]
        np.testing.assert_allclose(rows[alpha], twin(y, log_p, alpha), rtol=1e-6)
    np.testing.assert_allclose(rows[0.0], entry["expected"], rtol=1e-6)
    for alpha in (1.0, 4.0):
        wanted = ORACLES["keras_loss_alpha%d" % alpha]["expected"]
        np.testing.assert_allclose(twin(y, log_p, alpha).mean(), wanted, atol=1e-10)
        np.testing.assert_allclose(rows[alpha].mean(), wanted, rtol=1e-6)
    # the article's formula is the sum of the two rows of a pair: twice the mean
    np.testing.assert_allclose(rows[4.0].reshape(2, 2).sum(1), article["rows"], rtol=1e-6)
    np.testing.assert_allclose(2 * rows[4.0].mean(), article["mean"], rtol=1e-6)
    # the repository's alpha is half of the article's
    np.testing.assert_allclose(runner(alpha=2.0, from_logits=False, convention="mean")(y, p)[0], rows[4.0], rtol=1e-6)
    entry = ORACLES["symmetric_kl_logits"]
    a, b = [entry["inputs"]["a"]], [entry["inputs"]["b"]]
    np.testing.assert_allclose(kl(log_softmax(a), log_softmax(b)), entry["expected"], atol=1e-12)
    run = evaluator(losses.rdrop_divergence, ("float32", [None, 3]), ("float32", [None, 3]))
    np.testing.assert_allclose(run(a, b), [entry["expected"]], rtol=1e-6)


def test_no_clipped_logarithm():
    # Keras' kld says 16.118 here, with no gradient.
    run = runner(alpha=4.0)
    value, gradient = run([0, 0], [[100.0, 0.0, 0.0], [-100.0, 0.0, 0.0]])
    wanted = twin(np.array([0, 0]), log_softmax([[100.0, 0.0, 0.0], [-100.0, 0.0, 0.0]]))
    np.testing.assert_allclose(value, wanted, rtol=1e-6)
    assert abs(gradient).max() > 1
    # A softmax op is seen through, so probabilities that have rounded to 0 do no harm.
    seen = evaluator(
        lambda y, s: losses.rdrop_crossentropy(y, tf.nn.softmax(s), from_logits=False),
        ("int32", [None]),
        ("float32", [None, 3]),
    )
    np.testing.assert_allclose(seen([0, 0], [[100.0, 0.0, 0.0], [-100.0, 0.0, 0.0]]), wanted, rtol=1e-6)
    blind = runner(from_logits=False)([0, 0], [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    assert np.isfinite(blind[0]).all() and np.isfinite(blind[1]).all() and blind[0].max() > 80


rows = st.lists(st.floats(-30, 30, width=32), min_size=12, max_size=12).map(lambda x: np.float32(x).reshape(4, 3))
labels = st.lists(st.integers(0, 2), min_size=2, max_size=2).map(lambda y: np.repeat(y, 2))


def test_properties():
    run, plain, exact = runner(), runner(alpha=0.0), runner("float64")
    seconds = evaluator(
        lambda y, s: losses.rdrop_crossentropy(y, s, from_logits=True),
        ("int32", [None]),
        ("float32", [None, 3]),
        wrt=1,
        second=True,
    )

    @given(labels, rows)
    def check(y, s):
        value, gradient = run(y, s)
        np.testing.assert_allclose(value, twin(y, log_softmax(s)), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(run(y, s[[1, 0, 3, 2]])[0][[1, 0, 3, 2]], value, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(run(y[[2, 3, 0, 1]], s[[2, 3, 0, 1]])[0][[2, 3, 0, 1]], value, rtol=1e-6)
        ce = plain(y, s)[0]
        assert (value - ce >= -1e-4).all()
        equal = np.repeat(s[::2], 2, 0)
        np.testing.assert_allclose(run(y, equal)[0], plain(y, equal)[0], rtol=1e-6, atol=1e-6)
        value, gradient = exact(y, s)
        np.testing.assert_allclose(value, twin(y, log_softmax(s)), rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(gradient, slope(lambda x: twin(y, log_softmax(x)), s), atol=1e-4)
        assert np.isfinite(seconds(y, s)[2]).all()

    check()
    p = np.log([[0.5, 0.2, 0.3], [0.5, 0.3, 0.2]])
    assert np.ptp(plain([0, 0], p)[0]) < 1e-6 and run([0, 0], p)[0][0] > plain([0, 0], p)[0][0]


def test_masks_half_precision_and_sequences(rng):
    s = rng.randn(4, 3)
    s[:, 2] = -INF
    y = np.array([0, 0, 1, 1])
    value, gradient = runner()(y, s)
    np.testing.assert_allclose(value, twin(y, log_softmax(s[:, :2])), rtol=1e-5)
    assert np.isfinite(gradient).all() and (gradient[:, 2] == 0).all()
    half = (20 * rng.randn(4, 3)).astype("float16")
    value, _ = runner("float16")(y, half)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, twin(y, log_softmax(half)), rtol=1e-4)
    s, y = rng.randn(4, 5, 3), np.repeat(rng.randint(0, 3, (2, 5)), 2, 0)
    value = K.eval(losses.rdrop_crossentropy(y, tf.constant(s), from_logits=True))
    wanted = np.stack([twin(y[:, t], log_softmax(s[:, t])) for t in range(5)], 1)
    np.testing.assert_allclose(value, wanted, rtol=1e-9)


def test_regression_and_multilabel(rng):
    s, y = rng.randn(6, 4), np.repeat(rng.rand(3, 4) > 0.5, 2, 0).astype(float)
    value = K.eval(losses.rdrop_crossentropy(y, tf.constant(s), divergence="mse", alpha=3.0))
    mse = ((y - s) ** 2).mean(-1)
    article = (mse[::2] + mse[1::2]) + 3.0 * ((s[::2] - s[1::2]) ** 2).mean(-1)
    np.testing.assert_allclose(value.reshape(3, 2).sum(1), article, rtol=1e-9)
    value = K.eval(losses.rdrop_crossentropy(y, tf.constant(s), divergence="multilabel", alpha=3.0))
    p = 1 / (1 + np.exp(-s))
    d = ((p[::2] - p[1::2]) * (s[::2] - s[1::2])).sum(-1)
    supervised = K.eval(losses.multilabel_crossentropy(y, tf.constant(s)))
    np.testing.assert_allclose(value, supervised + 0.75 * np.repeat(d, 2), rtol=1e-9)
    one_hot = np.eye(3)[[0, 0, 2, 2]]
    value = K.eval(losses.rdrop_crossentropy(one_hot, tf.constant(s[:4, :3]), sparse=False, from_logits=True))
    np.testing.assert_allclose(value, twin(np.array([0, 0, 2, 2]), log_softmax(s[:4, :3])), rtol=1e-9)


def test_errors():
    s = tf.zeros([3, 3])
    for call, message in [
        (lambda: losses.rdrop_crossentropy([0, 0, 1], s, from_logits=True), "rdrop_crossentropy.*must be even.* 3"),
        (lambda: losses.rdrop_crossentropy([0, 0, 3, 3], tf.zeros([4, 3])), "labels"),
        (
            lambda: losses.RDropCrossentropy(divergence="js"),
            "divergence must be one of 'kl', 'mse', 'multilabel', but is 'js'",
        ),
        (
            lambda: losses.RDropCrossentropy(convention="sum"),
            "convention must be one of 'article', 'mean', but is 'sum'",
        ),
        (lambda: losses.RDropCrossentropy(alpha=-1.0), "alpha"),
        (lambda: losses.rdrop_divergence(s, tf.zeros([3, 2])), "same shape"),
        (lambda: losses.rdrop_crossentropy(tf.zeros([2, 2]), tf.zeros([2, 3]), divergence="mse"), "same shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(tf.errors.InvalidArgumentError, match="rdrop_crossentropy: the batch must hold pairs"):
        runner()([0, 0, 1], np.zeros((3, 3)))
    with pytest.warns(UserWarning, match="takes logits"):
        losses.rdrop_crossentropy([0, 0], tf.nn.softmax(tf1.placeholder("float32", [2, 3])), from_logits=True)


def test_pairs_are_found_again():
    a, b = tf.constant([1.0]), tf.constant([2.0])
    assert pair_of(a) is None
    first = make_pair(a, b)
    assert K.eval(first) == 1.0
    assert [K.eval(x)[0] for x in pair_of(tf.identity(first))] == [1.0, 2.0]


def model_with_dropout(rate=0.5, classes=3):
    x = keras.layers.Input([4])
    return keras.models.Model(x, keras.layers.Dense(classes)(keras.layers.Dropout(rate)(x)))


def test_no_dropout_is_warned_of():
    with pytest.warns(UserWarning, match="nothing random feeds.*dropout_rate=0.3"):
        losses.rdrop_crossentropy([0, 0], model_with_dropout(0.0)(tf1.placeholder("float32", [2, 4])), from_logits=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        model = model_with_dropout()
        model.compile("sgd", losses.RDropCrossentropy(from_logits=True))
        losses.rdrop_crossentropy([0, 0], tf1.placeholder("float32", [2, 3]), from_logits=True)


def test_compile_validates_without_pairs_weights_save_and_load(rng, tmp_path, run_python):
    model = model_with_dropout()
    model.compile("sgd", losses.RDropCrossentropy(alpha=2.0, from_logits=True, convention="mean"))
    x, y, weights = rng.randn(7, 4).astype("f"), rng.randint(0, 3, 7), rng.rand(7)
    ce = -log_softmax(model.predict(x))[np.arange(7), y]
    np.testing.assert_allclose(model.evaluate(x, y, verbose=0), ce.mean(), rtol=1e-5)
    np.testing.assert_allclose(model.test_on_batch(x, y, sample_weight=weights), (ce * weights).mean(), rtol=1e-5)
    pairs, targets = np.repeat(x, 2, 0), np.repeat(y, 2)
    zeros = model.train_on_batch(pairs, targets, sample_weight=np.zeros(14))
    assert zeros == 0
    more = np.mean([model.train_on_batch(pairs, targets) for _ in range(20)])
    assert more > 1.2 * model.evaluate(pairs, targets, verbose=0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="rdrop_crossentropy: the batch must hold pairs"):
        model.train_on_batch(x, y)
    model.save(str(tmp_path / "model.h5"))
    np.savez(str(tmp_path / "data.npz"), x=x, y=y)
    said = run_python(
        "import sys, numpy as np, kexue_keras\n"
        "from kexue_keras.backend import keras\n"
        "model, data = keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])\n"
        "print(model.evaluate(data['x'], data['y'], verbose=0), model.loss.get_config()['convention'])",
        tmp_path / "model.h5",
        tmp_path / "data.npz",
    ).split()
    np.testing.assert_allclose(float(said[-2]), model.evaluate(x, y, verbose=0), rtol=1e-5)
    assert said[-1] == "mean"


def test_as_a_bert4keras_loss_layer(rng):
    from bert4keras.layers import Loss

    class RDropLoss(Loss):
        """Sequence to sequence: values a token, masked, pairs in the batch."""

        def compute_loss(self, inputs, mask=None):
            y_true, y_mask, y_pred = inputs
            values = losses.rdrop_crossentropy(y_true, y_pred, from_logits=True)
            return K.sum(values * y_mask) / K.sum(y_mask)

    y, m, s = keras.layers.Input([5]), keras.layers.Input([5]), keras.layers.Input([5, 3])
    scaled = keras.layers.Dense(3, kernel_initializer="identity")(keras.layers.Dropout(0.5)(s))
    model = keras.models.Model([y, m, s], RDropLoss(output_axis=2)([y, m, scaled]))
    model.compile("sgd")
    logits, targets = rng.randn(4, 5, 3), np.repeat(rng.randint(0, 3, (2, 5)), 2, 0)
    mask = np.repeat((rng.rand(2, 5) > 0.3).astype(float), 2, 0)
    values = np.stack([twin(targets[:, t], log_softmax(logits[:, t])) for t in range(5)], 1)
    found = model.test_on_batch([targets, mask, logits], None)
    np.testing.assert_allclose(found, (values * mask).sum() / mask.sum(), rtol=1e-5)


@pytest.mark.parametrize("convention", ["article", "mean"])
def test_rows_of_weight_zero_count_by_their_divergence(convention, rng):
    s, y, weights = rng.randn(8, 3), np.repeat(rng.randint(0, 3, 4), 2), np.repeat([1.0, 0, 2.5, 0], 2)

    def semi(s, y=y):
        log_p = log_softmax(s)
        return weights * twin(y, log_p, 0.0) + twin(y, log_p, 4.0, convention) - twin(y, log_p, 0.0)

    run = evaluator(
        lambda y, s, w: losses.rdrop_crossentropy(y, s, from_logits=True, convention=convention, sample_weight=w),
        ("float32", [None]),
        ("float64", [None, 3]),
        ("float32", [None]),
        wrt=1,
    )
    value, gradient = run(y, s, weights)
    np.testing.assert_allclose(value, semi(s), 1e-9)
    np.testing.assert_allclose(gradient, slope(semi, s), 1e-4, 1e-8)
    assert abs(gradient[2:4]).min() > 1e-4  # weight 0: only today do they train anything
    # A label of a row of weight 0 may be none at all; one weight may stand for all.
    np.testing.assert_allclose(run(np.where(weights > 0, y, -1), s, weights)[0], value)
    np.testing.assert_allclose(run(np.where(weights > 0, y, np.nan), s, weights)[1], gradient)
    np.testing.assert_allclose(run(y, s, [1.0])[0], twin(y, log_softmax(s), 4.0, convention), 1e-9)


def test_unlabelled_rows_with_masked_classes_other_divergences_and_half_precision(rng):
    s = np.float32([[1, -INF, 0.5], [2, -INF, 0], [0.3, 0.1, -2], [1, 0, -1]])
    run = evaluator(
        lambda y, s, w: losses.rdrop_crossentropy(y, s, from_logits=True, sample_weight=w),
        ("float32", [None]),
        ("float32", [None, 3]),
        ("float32", [None]),
        wrt=1,
    )
    value, gradient = run([1, 1, 0, 0], s, [0, 0, 1, 1])  # label 1 is masked in the first two rows
    apart = log_softmax(s[:2][:, [0, 2]])
    np.testing.assert_allclose(value[:2], [kl(apart[0], apart[1])] * 2, 1e-5)
    assert np.isfinite(value).all() and np.isfinite(gradient).all()
    half = losses.rdrop_crossentropy(
        tf.constant([1.0, 1, 0, 0], tf.float16),
        tf.constant(s, tf.float16),
        from_logits=True,
        sample_weight=[0, 0, 1, 1],
    )
    assert half.dtype == tf.float32
    np.testing.assert_allclose(K.eval(half), value, 2e-3)
    logits, targets = rng.randn(4, 3), np.full([4, 3], np.nan)
    for kind in ("mse", "multilabel"):
        found = losses.rdrop_crossentropy(
            tf.constant(targets), tf.constant(logits), divergence=kind, sample_weight=[0.0, 0, 0, 0]
        )
        pairs = K.eval(losses.rdrop_divergence(logits[::2], logits[1::2], divergence=kind))
        np.testing.assert_allclose(K.eval(found), np.repeat(pairs, 2), 1e-6)
        wanted = losses.rdrop_crossentropy(
            tf.constant(np.ones([4, 3])), tf.constant(logits), divergence=kind, sample_weight=[2.0, 2, 2, 2], alpha=0.0
        )
        plain = losses.rdrop_crossentropy(tf.constant(np.ones([4, 3])), tf.constant(logits), divergence=kind, alpha=0.0)
        np.testing.assert_allclose(K.eval(wanted), 2 * K.eval(plain), 1e-6)
    with pytest.raises(ValueError, match="one sample weight per row.*padding"):
        losses.rdrop_crossentropy(
            tf.zeros([2, 5]), tf.zeros([2, 5, 3]), from_logits=True, sample_weight=tf.ones([2, 5])
        )


@pytest.mark.all_stacks
def test_semi_supervised_in_the_config():
    loss = losses.RDropCrossentropy(alpha=2.0, semi_supervised=True, reduction="sum")
    config = loss.get_config()
    assert config["semi_supervised"] is True and config["reduction"] == "sum" and config["alpha"] == 2.0
    again = losses.RDropCrossentropy.from_config(config)
    assert again.get_config() == config
