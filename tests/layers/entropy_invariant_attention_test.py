"""EntropyInvariantAttention and its scale against float64 numpy, bert4keras, and the numbers of the articles."""

import math

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import MultiHeadAttention
from hypothesis import given
from hypothesis import strategies as st
from layer_checks import assert_gradients, build, causal, floatx, padded, randomize, unilm

from kexue_keras.backend import K, keras
from kexue_keras.layers import EntropyInvariantAttention, attention_entropy, entropy_invariant_scale

HEADS, SIZE, WIDTH = 2, 4, 8


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def factor(length, base=512, min_length=16):
    return np.log(np.maximum(length, min_length)) / np.log(base)


def oracle(layer, x, visible, kappa=None, bias=0.0):
    """The formula in float64, row by row; `visible [b, q, k]`."""
    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = (
        [np.float64(w) for w in dense.get_weights()]
        for dense in (layer.q_dense, layer.k_dense, layer.v_dense, layer.o_dense)
    )
    b, n, _ = x.shape
    q, k, v = ((x @ w + c).reshape(b, n, HEADS, SIZE) for w, c in ((wq, bq), (wk, bk), (wv, bv)))
    out = np.zeros((b, n, HEADS, SIZE))
    for s in range(b):
        for h in range(HEADS):
            for i in range(n):
                keys = np.flatnonzero(visible[s, i])
                if len(keys):
                    scale = factor(len(keys)) if kappa is None else kappa * np.log(max(len(keys), 16)) / math.sqrt(SIZE)
                    logits = k[s, keys, h] @ q[s, i, h] / math.sqrt(SIZE)
                    if np.ndim(bias):
                        logits = logits + bias[s, i, keys]
                    out[s, i, h] = softmax(scale * logits) @ v[s, keys, h]
    return out.reshape(b, n, -1) @ wo + bo


def test_the_scale_has_the_numbers_of_the_specification():
    lengths = np.array([1, 16, 64, 128, 256, 512, 1024, 2048])
    mask = np.arange(2048)[None] < lengths[:, None]
    scale = K.eval(entropy_invariant_scale(mask))[:, 0]
    expected = [0.4444444444, 0.4444444444, 0.6666666667, 0.7777777778, 0.8888888889, 1, 1.1111111111, 1.2222222222]
    np.testing.assert_allclose(scale, expected, rtol=1e-6)
    rows = {
        4: [0.11382111, 0.17751807, 0.27686135, 0.43179947],
        20: [0.10579049, 0.17100193, 0.27641105, 0.44679653],
        600: [0.03008403, 0.08388264, 0.23388813, 0.6521452],
    }
    mask = np.arange(600)[None] < np.array([[4], [20], [600]])
    for s, expected in zip(
        K.eval(entropy_invariant_scale(np.where(mask, 0.0, -1e12).astype("float32"))), rows.values()
    ):
        np.testing.assert_allclose(softmax(np.array([1.0, 2, 3, 4]) * s), expected, atol=1e-7)


def test_entropy_grows_less():
    planted = {16: (0.0450732877, 1.4231244444), 64: (0.1864878185, 1.5094180306)}
    planted.update({512: (1.3289078010, 1.3289078010), 4096: (5.4942199197, 1.0205929544)})
    logits = K.placeholder((None, None), dtype="float64")
    entropy = K.function([logits], [attention_entropy(logits, from_logits=True)])
    for n, expected in planted.items():
        row = np.zeros((1, n))
        row[0, 0] = 8
        rows = np.concatenate([row, row * factor(n)])
        np.testing.assert_allclose(entropy([rows])[0], expected, rtol=1e-8)
    rng, growth = np.random.RandomState(0), {}
    for multiplier in (1, 4):
        means = []
        for n in (64, 2048):
            q, k = rng.randn(64, 64), rng.randn(n, 64)
            q, k = (8 * a / np.linalg.norm(a, axis=1, keepdims=True) for a in (q, k))
            rows = multiplier * q @ k.T / 8
            means.append([entropy([rows * s])[0].mean() for s in (1.0, factor(n))])
        growth[multiplier] = np.subtract(means[1], means[0])
    assert growth[4][1] < 0.5 * growth[4][0]
    assert growth[1][1] < growth[1][0]


@pytest.mark.parametrize("kappa", [None, 0.7])
def test_the_layer_against_numpy(rng, kappa):
    layer = EntropyInvariantAttention(HEADS, SIZE, kappa=kappa)
    run, _ = build(layer, WIDTH, "xxx+")
    randomize(layer, rng)
    n = 24
    x = 2 * rng.randn(3, n, WIDTH)
    mask = (np.arange(n) < np.array([[n], [19], [5]])).astype(float)
    mask[1, 2] = 0
    segments = (np.arange(n) >= np.array([[4], [9], [20]])).astype(int)
    for allowed in (np.ones((3, n, n)), np.stack([causal(n)] * 3), unilm(segments)):
        visible = (allowed > 0) & (mask[:, None] > 0)
        out = run(x, mask, allowed)
        np.testing.assert_allclose(out, oracle(layer, x, visible, kappa), atol=2e-5)
    nothing = np.ones((3, n, n))
    nothing[:, 3] = 0
    out = run(x, mask, nothing)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[:, 3], np.tile(layer.o_dense.get_weights()[1], (3, 1)), atol=1e-6)
    # All padding, so that no row sees anything.
    out = run(x, np.zeros((3, n)), np.ones((3, n, n)))
    np.testing.assert_allclose(out, np.tile(layer.o_dense.get_weights()[1], (3, n, 1)), atol=1e-6)


def test_padding_and_the_order_of_keys_change_nothing(rng):
    layer = EntropyInvariantAttention(HEADS, SIZE)
    run, _ = build(layer, WIDTH, "xxx")
    randomize(layer, rng)
    x, mask = rng.randn(2, 20, WIDTH), np.ones((2, 20))
    before = run(x, mask)
    more = run(*padded(x, mask, 13, rng))
    np.testing.assert_allclose(more[:, :20], before, atol=2e-6)
    order = rng.permutation(20)
    np.testing.assert_allclose(run(x[:, order], mask), before[:, order], atol=2e-6)
    # Longer than the 16 from which the factor moves, another factor must show.
    longer = np.concatenate([x, rng.randn(2, 40, WIDTH)], 1)
    assert np.abs(run(longer)[:, :20] - before).max() > 1e-3


def test_it_is_softmax_at_the_base_and_bert4keras_softmax_plus_elsewhere(rng):
    n = 18
    x, p = keras.layers.Input((n, WIDTH)), keras.layers.Input((n, SIZE))
    mask = keras.layers.Lambda(lambda x: tf.cast(tf.linalg.band_part(tf.ones((n, n)), -1, 0), tf.bool))(x)
    relative = keras.layers.Lambda(lambda x: K.constant(np.random.RandomState(1).randn(n, n, SIZE)))(x)
    t5 = keras.layers.Lambda(lambda x: K.constant(np.random.RandomState(2).randn(n, n, HEADS)))(x)
    scores = keras.layers.Lambda(lambda x: K.constant(np.random.RandomState(3).randn(1, n, n)))(x)
    cases = [
        (dict(a_bias=True, p_bias="rotary"), [mask, p], "softmax_plus", {}),
        (dict(p_bias="typical_relative"), [relative], "softmax_plus", {}),
        (dict(p_bias="t5_relative"), [t5], "softmax_plus", {}),
        (dict(a_bias=True), [scores], "softmax", dict(base=n)),
        (dict(a_bias=None, p_bias=None), [], "softmax", dict(base=n)),
    ]
    outputs, layers = [], []
    for arguments, inputs, normalization, options in cases:
        ours = EntropyInvariantAttention(HEADS, SIZE, return_attention_scores=True, **options)
        theirs = MultiHeadAttention(HEADS, SIZE, normalization=normalization, return_attention_scores=True)
        layers.append((ours, theirs))
        for layer in (ours, theirs):
            outputs += layer([x, x, x] + inputs, **arguments)
    model = keras.models.Model([x, p], outputs)
    for ours, theirs in layers:
        randomize(theirs, rng)
        ours.set_weights(theirs.get_weights())
    # bert4keras has no word for the float bias that only hides, so a bias that hides nothing is compared.
    values = model.predict_on_batch([rng.randn(2, n, WIDTH), rng.randn(2, n, SIZE)])
    for i in range(len(cases)):
        for j in (0, 1):
            np.testing.assert_allclose(values[4 * i + j], values[4 * i + 2 + j], atol=1e-5, err_msg=str((cases[i], j)))


def test_a_float_bias_counts_like_a_mask(rng):
    n = 40
    x, b = keras.layers.Input((None, WIDTH)), keras.layers.Input((None, None))
    layer = EntropyInvariantAttention(HEADS, SIZE)
    theirs = MultiHeadAttention(HEADS, SIZE, normalization="softmax_plus")
    boolean = keras.layers.Lambda(lambda b: K.greater(b, -1.0))(b)
    outputs = [layer([x, x, x, b], a_bias=True), layer([x, x, x, boolean], a_bias=True)]
    outputs.append(theirs([x, x, x, b], a_bias=True))
    model = keras.models.Model([x, b], outputs)
    randomize(layer, rng)
    theirs.set_weights(layer.get_weights())
    data, visible = rng.randn(2, n, WIDTH), np.arange(n) < np.array([[[3]], [[30]]])
    visible = np.tile(visible, (1, n, 1))
    for hides in (-1e4, -1e12, -3e38):
        ours, masked, other = model.predict_on_batch([data, np.where(visible, 0.0, hides)])
        np.testing.assert_allclose(ours, masked, atol=1e-5)
        np.testing.assert_allclose(masked, oracle(layer, data, visible), atol=2e-5)
    # The fault of bert4keras that this closes: it takes the full length.
    assert np.abs(ours - other).max() > 1e-3


@pytest.mark.parametrize("wrong", ["rank 1", "integers"])
def test_wrong_biases_are_named(wrong):
    x = keras.layers.Input((4, WIDTH))
    bias = K.ones((4,)) if wrong == "rank 1" else K.ones((4, 4), dtype="int32")
    message = "but it has 1 axes" if wrong == "rank 1" else "int32; cast a 0/1 mask to bool"
    layer = EntropyInvariantAttention(HEADS, SIZE)
    with pytest.raises(ValueError, match=message):
        layer.build([(None, 4, WIDTH)] * 3)
        layer.call([x, x, x, bias], a_bias=True)


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(base=1), "base must be a number > 1, but is 1; it is the length"),
        (dict(min_length=1), "min_length must be a number >= 2, but is 1; below 2"),
        (dict(kappa=0), "kappa must be a number > 0, but is 0"),
        (dict(kappa=0.2, attention_scale=False), "attention_scale=False"),
        (dict(normalization="squared_relu"), "squared_relu"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        EntropyInvariantAttention(HEADS, SIZE, **options)


def test_a_mask_of_the_wrong_rank_is_named():
    x = keras.layers.Input((4, WIDTH))
    layer = EntropyInvariantAttention(HEADS, SIZE)
    layer.build([(None, 4, WIDTH)] * 3)
    with pytest.raises(ValueError, match=r"the mask must be \[batch, tokens\], but it has 3 axes"):
        layer.call([x, x, x], mask=[None, None, K.ones((2, 4, 4))])
    with pytest.raises(ValueError, match="the mask has 1 axes and the attention 2"):
        attention_entropy(np.ones((2, 4)), mask=np.ones(4, bool))


def test_float16(rng):
    x = 0.5 * rng.randn(2, 30, WIDTH)
    mask = (np.arange(30) < [[30], [7]]).astype(float)
    with floatx("float16"):
        layer = EntropyInvariantAttention(HEADS, SIZE)
        run, _ = build(layer, WIDTH, "xxx")
        randomize(layer, rng, 0.3)
        half = run(x, mask)
        assert half.dtype == np.float16
        np.testing.assert_allclose(half, oracle(layer, x, np.repeat(mask[:, None] > 0, 30, 1)), atol=4e-3)
        assert np.isfinite(run(50 * x, mask)).all()


def test_gradients(rng):
    with floatx("float64"):
        x = K.variable(rng.randn(2, 20, WIDTH))
        mask = K.constant(np.arange(20) < [[18], [3]], dtype="bool")
        allowed = np.tril(np.ones((20, 20), bool))
        allowed[2] = False
        layer = EntropyInvariantAttention(HEADS, SIZE)
        y = layer([x, x, x, K.constant(allowed, dtype="bool")], mask=[mask, mask, mask, None], a_bias=True)
        assert_gradients(y, [x] + layer.trainable_weights, rng)


@given(st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12), st.integers(0, 11))
def test_more_keys_sharpen_and_hidden_ones_do_not(logits, hidden):
    logits = np.array(logits)
    few, many = (
        -(p * np.log(np.maximum(p, 1e-300))).sum() for p in (softmax(factor(length) * logits) for length in (40, 400))
    )
    assert many <= few + 1e-12
    mask = np.arange(len(logits)) != hidden % len(logits)
    p = softmax(np.where(mask, logits, -np.inf))
    expected = -(p[mask] * np.log(np.maximum(p[mask], 1e-300))).sum()
    np.testing.assert_allclose(ENTROPY(logits[None], mask[None]), [expected], atol=1e-10)


class _Entropy(object):
    """attention_entropy of rows of any length, in a graph and session of its own."""

    def __init__(self):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.logits = tf.compat.v1.placeholder(tf.float64, (None, None))
            self.mask = tf.compat.v1.placeholder(tf.bool, (None, None))
            self.entropy = attention_entropy(self.logits, mask=self.mask, from_logits=True)
            self.session = tf.compat.v1.Session()

    def __call__(self, logits, mask):
        return self.session.run(self.entropy, {self.logits: logits, self.mask: mask})


ENTROPY = _Entropy()
