"""TeaForN's loss against loops in float64: weights, masks, repeated targets, dtypes; saving and loading."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import K, get_session, keras
from kexue_keras.losses import MaskedCrossentropy, TeaForN, masked_crossentropy, teaforn_crossentropy

RANDOM = np.random.RandomState(0)
B, N, V, ORDER = 3, 5, 7, 3
LOGITS = RANDOM.randn(B, N, ORDER * V)
LABELS = RANDOM.randint(1, V, (B, N))
LABELS[0, 3:] = 0
LABELS[1, :2] = 0
LABELS[2] = 0


def twin(labels, logits, weights, normalization="batch", skip=False):
    """Values a sample, by loops."""
    total = np.zeros(len(labels))
    for i, weight in enumerate(weights):
        part = logits[:, :, i * V : (i + 1) * V]
        sums, counts = np.zeros(len(labels)), np.zeros(len(labels))
        for b in range(len(labels)):
            for place, t in enumerate(np.nonzero(labels[b])[0]):
                if skip and place < i:
                    continue
                row = part[b, t] - part[b, t].max()
                sums[b] += np.log(np.exp(row).sum()) - row[labels[b, t]]
                counts[b] += 1
        if normalization == "batch":
            sums *= len(labels) / max(counts.sum(), 1)
        elif normalization == "sample":
            sums /= np.maximum(counts, 1)
        total += weight * sums
    return total


def value(tensor):
    return get_session().run(tensor)


@pytest.mark.parametrize("normalization", ["batch", "sample", "sum"])
@pytest.mark.parametrize("skip", [False, True])
def test_values(normalization, skip):
    how = dict(normalization=normalization, skip_repeated=skip)
    for options, weights in [
        (dict(gamma=0.5), (1, 0.5, 0.25)),
        (dict(gamma=0), (1, 0, 0)),
        (dict(weights=[0.2, 0, 1.5]), (0.2, 0, 1.5)),
    ]:
        wanted = twin(LABELS, LOGITS, weights, normalization, skip)
        options.update(how)
        function = teaforn_crossentropy(LABELS, tf.constant(LOGITS), order=ORDER, **options)
        tokens = TeaForN(ORDER, **options).call(LABELS[:, :, None].astype("float32"), tf.constant(LOGITS))
        function, tokens = value([function, tokens])
        np.testing.assert_allclose(function, wanted, rtol=1e-10)
        assert tokens.shape == (B, N)
        np.testing.assert_allclose(tokens.mean(), wanted.mean(), rtol=1e-10)


def test_one_order_and_gamma_0_are_teacher_forcing():
    logits = tf.constant(LOGITS)
    plain = masked_crossentropy(LABELS, logits[:, :, :V])
    one = teaforn_crossentropy(LABELS, logits[:, :, :V], order=1)
    none = teaforn_crossentropy(LABELS, logits, order=ORDER, gamma=0)
    plain, one, none, gradient = value([plain, one, none, tf.gradients(none, logits)[0]])
    np.testing.assert_array_equal(one, plain)
    np.testing.assert_array_equal(none, plain)
    assert (gradient[:, :, V:] == 0).all() and np.abs(gradient[:, :, :V]).max() > 0


def test_the_loss_sums_over_orders():
    """The same predictions at every order: 1 + gamma + gamma^2 times the loss of one."""
    logits = tf.constant(np.tile(LOGITS[:, :, :V], ORDER))
    one, all_ = value(
        [masked_crossentropy(LABELS, logits[:, :, :V]), teaforn_crossentropy(LABELS, logits, order=ORDER)]
    )
    np.testing.assert_allclose(all_, 1.75 * one)


def test_a_mask_says_what_is_counted():
    mask = RANDOM.rand(B, N) < 0.5
    masked, wanted = value(
        [
            teaforn_crossentropy(LABELS, tf.constant(LOGITS), order=ORDER, mask=mask, normalization="sum"),
            teaforn_crossentropy(
                np.where(mask, LABELS, -1), tf.constant(LOGITS), order=ORDER, ignore=-1, normalization="sum"
            ),
        ]
    )
    np.testing.assert_allclose(masked, wanted)


def test_half_precision_and_infinite_logits():
    logits = LOGITS.copy()
    logits[0, 0, LABELS[0, 0] - 1] = -np.inf
    single = tf.constant(logits, "float32")
    loss = teaforn_crossentropy(LABELS, single, order=ORDER)
    half, whole, gradient = value(
        [
            teaforn_crossentropy(LABELS, tf.constant(logits, "float16"), order=ORDER),
            teaforn_crossentropy(LABELS, tf.constant(logits), order=ORDER),
            tf.gradients(loss, single)[0],
        ]
    )
    assert np.isfinite(gradient).all()
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, whole, rtol=5e-3)


def test_gradient_by_finite_differences():
    logits = tf.constant(LOGITS)
    loss = tf.reduce_sum(teaforn_crossentropy(LABELS, logits, order=ORDER, skip_repeated=True))
    found, step = value(tf.gradients(loss, logits)[0]), 1e-6
    for place in [(0, 0, 1), (0, 1, V + 2), (1, 3, 2 * V), (1, 4, 3 * V - 1), (2, 0, 0)]:
        moved = LOGITS.copy()
        moved[place] += step
        weights = (1, 0.5, 0.25)
        slope = (twin(LABELS, moved, weights, skip=True) - twin(LABELS, LOGITS, weights, skip=True)).sum() / step
        np.testing.assert_allclose(found[place], slope, atol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(order=0), "order"),
        (dict(order=2.5), "order"),
        (dict(gamma=-1), "gamma"),
        (dict(order=2, weights=[1]), "1 weights for order=2"),
        (dict(order=2, weights=[1, float("nan")]), "weights"),
        (dict(normalization="rows"), "normalization"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        TeaForN(**options)


def test_logits_of_another_order_are_refused():
    with pytest.raises(ValueError, match="no multiple of order=2"):
        teaforn_crossentropy(LABELS, tf.constant(LOGITS), order=2)


@pytest.mark.all_stacks
def test_saved_and_loaded(tmp_path):
    K.clear_session()
    x = keras.layers.Input((N, 2))
    model = keras.models.Model(x, keras.layers.Dense(ORDER * V)(x))
    model.compile("sgd", TeaForN(ORDER, weights=[1, 0.5, 0.1], skip_repeated=True))
    inputs, path = RANDOM.randn(B, N, 2), str(tmp_path / "model.h5")
    wanted = model.test_on_batch(inputs, LABELS[:, :, None])
    np.testing.assert_allclose(wanted, twin(LABELS, model.predict(inputs), (1, 0.5, 0.1), skip=True).mean(), rtol=1e-4)
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_allclose(loaded.test_on_batch(inputs, LABELS[:, :, None]), wanted, rtol=1e-6)
    config = TeaForN(2, gamma=0.3).get_config()
    assert (config["order"], config["gamma"], config["weights"]) == (2, 0.3, None)
    assert TeaForN.from_config(config).get_config() == config


def test_goes_with_masked_crossentropy_in_keras():
    """Order 1 alone, compiled: the same number as `MaskedCrossentropy`."""
    a, b = value(
        [
            MaskedCrossentropy()(K.constant(LABELS), tf.constant(LOGITS[:, :, :V], "float32")),
            TeaForN(1)(K.constant(LABELS), tf.constant(LOGITS[:, :, :V], "float32")),
        ]
    )
    np.testing.assert_allclose(a, b, rtol=1e-6)
