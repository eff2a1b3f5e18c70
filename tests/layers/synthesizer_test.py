"""SynthesizerAttention against float64 numpy, variant by variant, alone and mixed."""

import numpy as np
import pytest
from layer_checks import assert_gradients, build, causal, floatx, padded, randomize, unilm

from kexue_keras.backend import K, keras, tf1
from kexue_keras.layers import SynthesizerAttention
from kexue_keras.layers._synthesizer import VARIANTS

HEADS, SIZE, WIDTH, LONGEST = 2, 4, 8, 12
FACTORS = (3, 4)


def make(variants, **options):
    options.setdefault("max_length", LONGEST)
    return SynthesizerAttention(
        HEADS, SIZE, variants=variants, rank=3, factors=options.pop("factors", FACTORS), **options
    )


def heads(x, size):
    return x.reshape(x.shape[0], x.shape[1], HEADS, size)


def logits_of(layer, variant, x):
    """`[b, h, n, n]` of one variant, from the layer's weights, in float64."""
    n = x.shape[1]
    w = {
        w.name.split("/")[-1].split(":")[0].replace("synthesizer_", ""): v
        for w, v in zip(layer.weights, layer.get_weights())
    }
    w = {k: np.float64(v) for k, v in w.items()}
    if variant == "dense":
        hidden = heads(np.maximum(x @ w["w1"] + w["b1"], 0), SIZE)
        return (np.einsum("bihd,hdj->bhij", hidden, w["w2"]) + w["b2"][None, :, None])[..., :n]
    if variant == "random":
        return np.repeat(w["r"][None, :, :n, :n], len(x), 0)
    if variant == "fixed_random":
        return np.repeat(w["fixed"][None, :, :n, :n], len(x), 0)
    if variant == "factorized_dense":
        f = heads(x @ w["f_kernel"] + w["f_bias"], FACTORS[0])
        g = heads(x @ w["g_kernel"] + w["g_bias"], FACTORS[1])
        out = np.zeros((len(x), HEADS, n, LONGEST))
        for p in range(FACTORS[0]):
            for q in range(FACTORS[1]):
                out[..., p * FACTORS[1] + q] = (f[..., p] * g[..., q]).transpose(0, 2, 1)
        return out[..., :n]
    if variant == "factorized_random":
        return np.repeat(np.einsum("hir,hjr->hij", w["r1"], w["r2"])[None, :, :n, :n], len(x), 0)
    (wq, bq), (wk, bk) = layer.q_dense.get_weights(), layer.k_dense.get_weights()
    return np.einsum("bihd,bjhd->bhij", heads(x @ wq + bq, SIZE), heads(x @ wk + bk, SIZE)) / SIZE**0.5


def oracle(layer, x, visible):
    """Output in float64; `visible [b, n, n]`."""
    parts = [logits_of(layer, variant, x) for variant in layer.variants]
    alpha = np.ones(1)
    if len(parts) > 1:
        alpha = np.exp(np.float64(K.get_value(layer.synthesizer_mixture)))
        alpha /= alpha.sum()
    b = sum(a * p for a, p in zip(alpha, parts))
    weights = np.where(visible[:, None], np.exp(b - b.max()), 0)
    weights /= np.maximum(weights.sum(-1, keepdims=True), 1e-300)
    (wv, bv), (wo, bo) = layer.v_dense.get_weights(), layer.o_dense.get_weights()
    o = np.einsum("bhij,bjhd->bihd", weights, heads(x @ wv + bv, SIZE))
    return o.reshape(x.shape[0], x.shape[1], -1) @ wo + bo


SETS = [(variant,) for variant in VARIANTS] + [("dense", "vanilla"), ("random", "factorized_random", "fixed_random")]


@pytest.mark.parametrize("variants", SETS, ids="+".join)
def test_each_kind_against_numpy_with_masks_and_without_leaks(rng, variants):
    layer = make(variants)
    run, _ = build(layer, WIDTH, "xxx+")
    randomize(layer, rng)
    n = 7
    x, mask = rng.randn(3, n, WIDTH), (np.arange(n) < [[n], [5], [3]]).astype(float)
    segments = (np.arange(n) >= [[2], [3], [1]]).astype(int)
    full = np.ones((3, n, n))
    for allowed in (full, np.stack([causal(n)] * 3), unilm(segments)):
        visible = (allowed > 0) & (mask[:, None] > 0)
        np.testing.assert_allclose(run(x, mask, allowed), oracle(layer, x, visible), atol=2e-5)
    # Padding of any content and length changes nothing.
    longer, more = padded(x, mask, 4, rng)
    out = run(longer, more, np.ones((3, n + 4, n + 4)))
    np.testing.assert_allclose(out[:, :n][mask > 0], run(x, mask, full)[mask > 0], atol=2e-6)
    # What comes later is not seen: in a language model, and in the target of a UniLM.
    later = np.array(x)
    later[:, 5:] += 5
    for allowed, end in ((np.stack([causal(n)] * 3), 5), (unilm(segments), 5)):
        ones = np.ones_like(mask)
        np.testing.assert_array_equal(run(x, ones, allowed)[:, :end], run(later, ones, allowed)[:, :end])
    blind = np.array(full)
    blind[:, 2] = 0
    out = run(x, mask, blind)
    assert np.isfinite(out).all()
    np.testing.assert_allclose(out[:, 2], np.tile(layer.o_dense.get_weights()[1], (3, 1)), atol=1e-6)


def test_factors_are_an_outer_product():
    layer = SynthesizerAttention(
        1, 2, variants="factorized_dense", max_length=6, factors=(2, 3), return_attention_scores=True
    )
    x = keras.layers.Input((None, 4))
    model = keras.models.Model(x, layer([x, x, x])[1])
    layer.set_weights([0 * w for w in layer.get_weights()])
    K.set_value(layer.synthesizer_f_bias, [2, 3])
    K.set_value(layer.synthesizer_g_bias, [0.3, 0.4, 0.5])
    row = np.asarray(model.predict_on_batch(np.zeros((1, 6, 4))))[0, 0, 0]
    np.testing.assert_allclose(row, [0.6, 0.8, 1.0, 0.9, 1.2, 1.5], rtol=1e-6)
    assert SynthesizerAttention(1, 2, variants="factorized_dense", max_length=10).factors == (4, 3)


def test_scores_parameters_and_static_lengths(rng):
    x, y = keras.layers.Input((5, WIDTH)), keras.layers.Input((3, WIDTH))
    outputs, layers = [], {}
    for variants in SETS:
        layers[variants] = make(variants, return_attention_scores=True)
        outputs += layers[variants]([y, x, x])
    model = keras.models.Model([x, y], outputs)
    values = model.predict_on_batch([rng.randn(2, 5, WIDTH), rng.randn(2, 3, WIDTH)])
    assert all(np.shape(v) == (2, 3, 8) for v in values[::2]) and all(
        np.shape(v) == (2, HEADS, 3, 5) for v in values[1::2]
    )
    common = 2 * (WIDTH * HEADS * SIZE + 8)
    count = {k: sum(int(np.prod(K.int_shape(w))) for w in layer.trainable_weights) for k, layer in layers.items()}
    n = LONGEST
    assert count[("dense",)] == common + HEADS * (WIDTH * SIZE + SIZE + SIZE * n + n)
    assert count[("random",)] == common + HEADS * n * n
    assert count[("fixed_random",)] == common and len(layers[("fixed_random",)].non_trainable_weights) == 1
    assert count[("factorized_dense",)] == common + HEADS * (WIDTH + 1) * sum(FACTORS)
    assert count[("factorized_random",)] == common + 2 * HEADS * n * 3
    assert count[("vanilla",)] == 2 * common
    assert count[("dense", "vanilla")] == count[("dense",)] + common + 2


def test_the_fixed_matrix_comes_from_the_seed_alone():
    first = make("fixed_random", seed=5)
    x = K.zeros((1, 4, WIDTH))
    first([x, x, x])
    value = K.get_value(first.synthesizer_fixed)
    assert abs(value.std() - 1) < 0.15
    K.clear_session()
    tf1.set_random_seed(99)
    again, other = SynthesizerAttention.from_config(first.get_config()), make("fixed_random", seed=6)
    x = K.zeros((1, 4, WIDTH))
    again([x, x, x]), other([x, x, x])
    np.testing.assert_array_equal(K.get_value(again.synthesizer_fixed), value)
    assert np.abs(K.get_value(other.synthesizer_fixed) - value).max() > 0.1
    assert make("fixed_random").seed != make("fixed_random").seed


def test_gradients(rng):
    with floatx("float64"):
        x = K.variable(rng.randn(2, 5, WIDTH))
        mask = K.constant(np.arange(5) < [[5], [3]], dtype="bool")
        layer = make(VARIANTS)
        y = layer([x, x, x], mask=[mask, mask, mask])
        randomize(layer, rng)
        assert_gradients(y, [x] + layer.trainable_weights, rng)


def test_float16(rng):
    x, mask = rng.randn(2, 6, WIDTH), (np.arange(6) < [[6], [4]]).astype(float)
    with floatx("float16"):
        layer = make(("dense", "vanilla", "random"))
        run, _ = build(layer, WIDTH, "xxx")
        randomize(layer, rng, 0.3)
        half = run(x, mask)
        assert half.dtype == np.float16
        np.testing.assert_allclose(half, oracle(layer, x, np.repeat(mask[:, None] > 0, 6, 1)), atol=1e-2)


def test_sequences_longer_than_max_length():
    with pytest.raises(
        ValueError, match="must have at most max_length=4 tokens; build it with a larger max_length .* Its length: 6"
    ):
        x = keras.layers.Input((6, WIDTH))
        make("random", max_length=4, factors=None)([x, x, x])
    run, _ = build(make("random", max_length=4, factors=None), WIDTH, "xxx")
    with pytest.raises(Exception, match="must have at most max_length=4 tokens"):
        run(np.zeros((1, 6, WIDTH)))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(variants="fancy"), "a variant must be one of 'dense'.*but is 'fancy'"),
        (dict(variants=()), "give one or more of"),
        (dict(variants=("dense", "dense")), "each once"),
        (dict(variants="dense", max_length=0), "max_length must be a whole number >= 1, but is 0"),
        (dict(variants="factorized_dense", factors=(2, 2)), "product is at least max_length=12"),
        (dict(variants="dense", normalization="squared_relu"), "only softmax"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


def test_position_biases_without_products():
    x = K.zeros((1, 4, WIDTH))
    layer = make("random")
    with pytest.raises(ValueError, match="p_bias='rotary' acts on products"):
        layer([x, x, x, K.zeros((1, 4, SIZE))], p_bias="rotary")
    with pytest.raises(ValueError, match="only 'rotary' and 't5_relative' are known"):
        make("vanilla")([x, x, x, K.zeros((4, 4, SIZE))], p_bias="typical_relative")
