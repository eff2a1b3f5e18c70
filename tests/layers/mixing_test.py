"""Token mixers against float64 numpy and the numbers of the specification; padding, leaks, lengths, gradients."""

import math

import numpy as np
import pytest
from layer_checks import assert_gradients, build, causal, floatx, padded, randomize, unilm

from kexue_keras.backend import K, keras
from kexue_keras.layers import mixing
from kexue_keras.layers.mixing._external import cumulative_logsumexp

WIDTH, LONGEST, FFN = 6, 10, 12
NAMES = sorted(mixing.MIXERS)
DIRECTED = [name for name in NAMES if name != "fnet"]
SPEC_Z = np.array([[[1.0, 2, 3, 4], [0, 1, -1, 2], [2, 2, 0, 1]]])
SPEC_W = np.array([[0.1, 0.2, 0], [0, 0.3, 0.1], [0.2, 0, 0.1]])


def erf(x):
    return np.vectorize(math.erf)(x)


def gelu(x):
    return 0.5 * x * (1 + erf(x / math.sqrt(2)))


def layer_norm(x, epsilon=1e-6):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + epsilon)


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def make(name, **options):
    if name == "conv":
        options = dict(dict(kernel_size=3, heads=2), **options)
    return mixing.make_mixer(name, max_length=LONGEST, ffn_units=FFN, **options)


def convolution(w, h, visible, variant, offsets):
    """`h [n, u]` in float64, a loop over tokens, window and channels; heads are 2."""
    n, u = h.shape
    k = len(offsets)
    out = np.zeros((n, u))
    for i in range(n):
        for j, offset in enumerate(offsets):
            at = i + offset
            if not (0 <= at < n and visible[i, at]):
                continue
            if variant == "full":
                out[i] += h[at] @ w[j]
                continue
            for c in range(u):
                head = c // (u // 2)
                if variant == "light":
                    weight = softmax(w[:, head])[j]
                elif variant == "dynamic":
                    weight = softmax((h[i] @ w).reshape(k, 2)[:, head])[j]
                else:
                    weight = w[j, c]
                out[i, c] += weight * h[at, c]
    return out


def oracle(name, w, x, visible, mask, variant="light", offsets=(-1, 0, 1)):
    """One sample `[n, d]` in float64, loops over the tokens where they matter; `visible [n, n]` without padding."""
    n, d = x.shape
    x = x * mask[:, None]

    def token_sum(matrix, y):
        return np.where(visible, matrix[:n, :n], 0) @ y

    if name in ("mlp", "ffstack"):
        units = w["kernel_1"].shape[1]
        place = [s * LONGEST // units for s in range(units)]
        everything = (visible == mask[None].astype(bool)).all()
        hidden = np.zeros((units, d))
        for s in range(units):
            if everything or place[s] < n:
                row = mask.astype(bool) if everything else visible[place[s]]
                hidden[s] = gelu(
                    sum((w["kernel_1"][j, s] * x[j] for j in np.flatnonzero(row)), np.zeros(d)) + w["bias_1"][s]
                )
        out = np.repeat(w["bias_2"][:n, None], d, 1)
        for i in range(n):
            for s in range(units):
                if everything or (place[s] < n and visible[i, place[s]]):
                    out[i] += w["kernel_2"][s, i] * hidden[s]
        return out
    if name == "resmlp":
        return token_sum(w["kernel"], x) + w["bias"][:n, None]
    if name in ("gmlp", "amlp"):
        u, v = np.split(gelu(x @ w["in_kernel"] + w["in_bias"]), 2, -1)
        v = (layer_norm(v) * w["gate_gamma"] + w["gate_beta"]) * mask[:, None]
        gate = token_sum(w["spatial_kernel"], v) + w["spatial_bias"][:n, None]
        if name == "amlp":
            q, k, value = np.split(x @ w["attention_in_kernel"] + w["attention_in_bias"], 3, -1)
            a = np.zeros((n, value.shape[1]))
            for i in range(n):
                keys = np.flatnonzero(visible[i])
                if len(keys):
                    a[i] = softmax(k[keys] @ q[i] / math.sqrt(q.shape[1])) @ value[keys]
            gate = gate + a @ w["attention_out_kernel"] + w["attention_out_bias"]
        return (u * gate) @ w["out_kernel"] + w["out_bias"]
    if name == "conv":
        values, gates = np.split(x @ w["in_kernel"] + w["in_bias"], 2, -1)
        h = values / (1 + np.exp(-gates)) * mask[:, None]
        return convolution(w["kernel"], h, visible, variant, offsets) @ w["out_kernel"] + w["out_bias"]
    if name == "external":
        logits = x @ w["memory_key"]
        out = np.zeros((n, d))
        for i in range(n):
            keys = np.flatnonzero(visible[i])
            if mask[i] and len(keys):
                a = np.exp(logits[i] - np.log(np.exp(logits[keys]).sum(0)))
                out[i] = a / a.sum() @ w["memory_value"]
        return out
    if name == "fnet":
        real = np.flatnonzero(mask)
        out = np.zeros((n, d))
        out[real] = np.fft.fft(np.fft.fft(x[real], axis=1), axis=0).real
        return out
    q, k, v = np.split(x @ w["in_kernel"] + w["in_bias"], 3, -1)
    out = np.zeros_like(q)
    for i in range(n):
        keys = np.flatnonzero(visible[i])
        if len(keys):
            weights = np.exp(w["positions"][i, keys][:, None] + k[keys])
            out[i] = (weights * v[keys]).sum(0) / weights.sum(0)
    return (out / (1 + np.exp(-q))) @ w["out_kernel"] + w["out_bias"]


@pytest.mark.parametrize("name", NAMES)
def test_against_numpy_with_masks_and_without_leaks(rng, name):
    layer = make(name)
    directed = name in DIRECTED
    run, _ = build(layer, WIDTH, "x+" if directed else "x")
    w = randomize(layer, rng) if layer.weights else {}
    n = 7
    x, mask = rng.randn(3, n, WIDTH), (np.arange(n) < [[n], [5], [3]]).astype(float)
    segments = (np.arange(n) >= [[2], [3], [1]]).astype(int)
    full, lower, seq2seq = np.ones((3, n, n)), np.stack([causal(n)] * 3), unilm(segments)
    for allowed in (lower, seq2seq) if directed else (full,):
        out = run(x, mask, allowed)
        for s in range(3):
            visible = (allowed[s] > 0) & (mask[s] > 0)
            rows = mask[s] > 0
            expected = oracle(name, w, x[s], visible, mask[s])
            np.testing.assert_allclose(out[s][rows], expected[rows], atol=3e-5, err_msg=str(s))
    longer, more = padded(x, mask, 3, rng)
    for allowed, wide in (
        (full, np.ones((3, n + 3, n + 3))),
        (seq2seq, unilm(np.pad(segments, [(0, 0), (0, 3)], "constant"))),
    ):
        short = run(x, mask, allowed)
        np.testing.assert_allclose(run(longer, more, wide)[:, :n][mask > 0], short[mask > 0], atol=3e-5)
    if directed:
        later = np.array(x)
        later[:, 5:] += 5
        for allowed in (lower, seq2seq):
            ones = np.ones_like(mask)
            np.testing.assert_array_equal(run(x, ones, allowed)[:, :5], run(later, ones, allowed)[:, :5])
    assert np.isfinite(run(x, 0 * mask, full)).all()
    if directed:
        assert np.isfinite(run(x, mask, 0 * full)).all()


@pytest.mark.parametrize("name", NAMES)
def test_all_see_all_causal_and_rescaled(rng, name):
    n = 7
    x, mask = rng.randn(2, n, WIDTH), (np.arange(n) < [[n], [4]]).astype(float)
    layer = make(name)
    run, model = build(layer, WIDTH, "x")
    w = randomize(layer, rng) if layer.weights else {}
    out = run(x, mask)
    for s in range(2):
        rows = mask[s] > 0
        expected = oracle(name, w, x[s], np.repeat(rows[None], n, 0), mask[s])
        np.testing.assert_allclose(out[s][rows], expected[rows], atol=3e-5)
    assert model.output_shape == (None, None, WIDTH)
    if name in DIRECTED:
        lower = make(name, causal=True)
        run_lower, _ = build(lower, WIDTH, "x")
        lower.set_weights(layer.get_weights())
        out = run_lower(x, mask)
        window = {"offsets": (-2, -1, 0)} if name == "conv" else {}
        expected = oracle(name, w, x[0], causal(n) > 0, mask[0], **window)
        np.testing.assert_allclose(out[0], expected, atol=3e-5)
    if name in ("resmlp", "gmlp"):
        scaled = make(name, rescale="mean")
        run_scaled, _ = build(scaled, WIDTH, "x")
        scaled.set_weights(layer.get_weights())
        key = "kernel" if name == "resmlp" else "spatial_kernel"
        for s in range(2):
            rows = mask[s] > 0
            larger = dict(w, **{key: w[key] * LONGEST / rows.sum()})
            expected = oracle(name, larger, x[s], np.repeat(rows[None], n, 0), mask[s])
            np.testing.assert_allclose(run_scaled(x, mask)[s][rows], expected[rows], atol=5e-5)


@pytest.mark.parametrize("variant", ["light", "dynamic", "depthwise", "full"])
@pytest.mark.parametrize("size, dilation, is_causal", [(3, 2, False), (4, 1, False), (3, 2, True), (1, 1, False)])
def test_convolutions(rng, variant, size, dilation, is_causal):
    n, u = 9, 4
    options = dict(variant=variant, kernel_size=size, dilation=dilation, causal=is_causal, units=u)
    layer = make("conv", **options)
    run, _ = build(layer, WIDTH, "x+")
    w = randomize(layer, rng)
    first = 1 - size if is_causal else -(size // 2)
    offsets = [dilation * (first + j) for j in range(size)]
    x, mask = rng.randn(2, n, WIDTH), (np.arange(n) < [[n], [6]]).astype(float)
    for allowed in (np.ones((2, n, n)), unilm((np.arange(n) >= [[4], [3]]).astype(int)), rng.rand(2, n, n) > 0.5):
        out = run(x, mask, allowed.astype(float))
        for s in range(2):
            visible = (allowed[s] > 0) & (mask[s] > 0)
            if is_causal:
                visible &= causal(n) > 0
            rows = mask[s] > 0
            expected = oracle("conv", w, x[s], visible, mask[s], variant, offsets)
            np.testing.assert_allclose(out[s][rows], expected[rows], atol=3e-5)


def test_a_light_convolution_by_hand():
    layer = mixing.ConvMixer1D(3, heads=1, units=1)
    x = K.constant([[[1.0], [2.0], [4.0]]])
    layer(x)
    # Gates of 1/2, weights 1/4, 1/2, 1/4, no bias: h = .5, 1, 2.
    weights = [[[1.0, 0.0]], [0.0, 0.0], [[0.0], [math.log(2)], [0.0]], [[1.0]], [0.0]]
    layer.set_weights([np.array(w) for w in weights])
    np.testing.assert_allclose(K.eval(layer(x))[0, :, 0], [0.5, 1.125, 1.25], rtol=1e-6)
    dilated = mixing.ConvMixer1D(3, heads=1, units=1, dilation=2)
    dilated(x)
    dilated.set_weights(layer.get_weights())
    np.testing.assert_allclose(K.eval(dilated(x))[0, :, 0], [0.75, 0.5, 1.125], rtol=1e-6)


def test_the_numbers_of_the_specification():
    fnet = np.array([[[0.0, 1], [2, 3], [4, 5]]])
    expected = [[15, -3], [-6, 0], [-6, 0]]
    for mode in ("padded", "masked_dft"):
        for method in ("matmul", "fft"):
            out = K.eval(mixing.FNet(mode=mode, method=method)(K.constant(fnet)))
            np.testing.assert_allclose(out[0], expected, atol=1e-5)
    long = K.constant(np.pad(fnet, [(0, 0), (0, 2), (0, 0)], "constant"))
    changed = K.eval(mixing.FNet(mode="padded")(long))[0, :3] - expected
    np.testing.assert_allclose(np.abs(changed).max(), 5.736, atol=1e-3)
    mask = K.constant(np.array([[1, 1, 1, 0, 0]]) > 0, dtype="bool")
    np.testing.assert_allclose(K.eval(mixing.FNet()(long, mask=mask))[0], expected + [[0, 0]] * 2, atol=1e-5)

    layer = mixing.ExternalAttention(4)
    x = K.constant([[[1.0, 0], [0, 1], [1, 1]]])
    layer(x)
    layer.set_weights([np.array([[1, 0], [0, 1], [1, -1], [0.5, 0.5]]).T, np.arange(8).reshape(4, 2)])
    expected = [[3.0429323736, 4.0429323736], [3.0253035864, 4.0253035864], [2.9422808381, 3.9422808381]]
    np.testing.assert_allclose(K.eval(layer(x))[0], expected, rtol=1e-6)

    layer = mixing.SpatialGatingUnit(3, epsilon=0)
    z = K.constant(SPEC_Z)
    layer(z)
    np.testing.assert_allclose(K.eval(layer(z))[0], SPEC_Z[0, :, :2])
    layer.set_weights([np.ones(2), np.zeros(2), SPEC_W, np.ones(3)])
    np.testing.assert_allclose(K.eval(layer(z))[0], [[0.7, 2.6], [0, 1.4], [1.4, 2.6]], rtol=1e-5, atol=1e-6)

    layer = mixing.AFT(3, units=1)
    layer.build((None, 3, 3))
    K.set_value(layer.positions, [[0, 0.1, 0.2], [0.3, 0, -0.1], [0, 0, 0]])
    q, k, v = (K.constant(np.reshape(a, (1, 3, 1))) for a in ([0, 1, -1], [0.1, 0.2, -0.3], [1, 2, 3]))
    tokens = layer.tokens(K.zeros((1, 3, 3)), None)
    out = K.eval(layer.attend(tokens, q, k, v)).ravel()
    np.testing.assert_allclose(out, [0.9701872884, 1.2846206029, 0.5059372891], rtol=1e-6)


def test_fnet_modes_agree_and_apply_twice(rng):
    x = rng.randn(2, 12, 5)
    outputs = [mixing.FNet(mode="padded", method=m)(K.constant(x)) for m in ("matmul", "fft")]
    outputs.append(mixing.FNet()(K.constant(x)))
    twice = mixing.FNet()(outputs[2])
    a, b, c, d = K.batch_get_value(outputs + [twice])
    np.testing.assert_allclose(a, b, atol=2e-4)
    np.testing.assert_allclose(a, c, atol=2e-4)
    # Twice: n d times the mean of x and of x with both axes turned round.
    turned = np.roll(x[:, ::-1, ::-1], 1, axis=(1, 2))
    np.testing.assert_allclose(d, 60 * (x + turned) / 2, atol=2e-3)


def test_padding_in_front_and_between(rng):
    x = rng.randn(1, 5, WIDTH)
    mask = K.constant(np.array([[0, 1, 1, 0, 1]]) > 0, dtype="bool")
    out, alone = K.batch_get_value(
        [mixing.FNet()(K.constant(x), mask=mask), mixing.FNet()(K.constant(x[:, [1, 2, 4]]))]
    )
    np.testing.assert_allclose(out[:, [1, 2, 4]], alone, atol=1e-5)


def test_running_logsumexp_does_not_leak(rng):
    x = 30 * rng.randn(2, 9, 3)
    x[0, 7] = 1e4
    out = K.eval(cumulative_logsumexp(K.constant(x)))
    expected = np.logaddexp.accumulate(x, axis=1)
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(rng, name):
    with floatx("float64"):
        x = K.variable(rng.randn(2, 5, WIDTH))
        mask = K.constant(np.arange(5) < [[5], [3]], dtype="bool")
        layer = make(name)
        inputs = [x, K.constant(causal(5) > 0, dtype="bool")] if name in DIRECTED else x
        y = layer(inputs, mask=[mask, None] if name in DIRECTED else mask)
        if layer.weights:
            randomize(layer, rng)
        assert_gradients(y, [x] + layer.trainable_weights, rng)


def test_float16(rng):
    x, mask = rng.randn(2, 6, WIDTH), np.arange(6) < [[6], [4]]
    with floatx("float16"):
        inputs, mask_16 = K.constant(30 * x), K.constant(mask, dtype="bool")
        outputs = [make(name)(inputs, mask=mask_16) for name in NAMES]
        assert all(K.dtype(y) == "float16" for y in outputs)
        assert all(np.isfinite(v).all() for v in K.batch_get_value(outputs))


@pytest.mark.parametrize("name", ["mlp", "resmlp", "gmlp", "amlp", "external", "fnet", "conv"])
def test_blocks(rng, name):
    given = {"options": {"heads": 2}} if name == "conv" else {}
    block = mixing.MixerBlock(name, FFN, max_length=LONGEST, dropout_rate=0.1, **given)
    run, model = build(block, WIDTH, "x")
    x, mask = rng.randn(2, 6, WIDTH), (np.arange(6) < [[6], [4]]).astype(float)
    out = run(x, mask)
    np.testing.assert_allclose(run(*padded(x, mask, 2, rng))[:, :6][mask > 0], out[mask > 0], atol=1e-5)
    assert mixing.MixerBlock.from_config(block.get_config()).get_config() == block.get_config()
    trainable = sum(int(np.prod(K.int_shape(w))) for w in block.trainable_weights)
    mixer = sum(int(np.prod(K.int_shape(w))) for w in block.mixing.trainable_weights)
    gmlp = WIDTH * FFN + FFN + 2 * FFN // 2 + LONGEST**2 + LONGEST + FFN // 2 * WIDTH + WIDTH
    expected = {
        "mlp": 2 * LONGEST**2 + 2 * LONGEST,
        "resmlp": LONGEST**2 + LONGEST,
        "gmlp": gmlp,
        "amlp": gmlp + 3 * 64 * (WIDTH + 1) + (64 + 1) * FFN // 2,
        "external": 2 * 64 * WIDTH,
        "fnet": 0,
        "conv": 2 * WIDTH * (WIDTH + 1) + 7 * 2 + WIDTH * (WIDTH + 1),
    }
    assert mixer == expected[name]
    ffn = 2 * WIDTH * FFN + FFN + WIDTH
    norms = {"gmlp": 2 * WIDTH, "amlp": 2 * WIDTH, "resmlp": 8 * WIDTH}.get(name, 4 * WIDTH)
    assert trainable == mixer + norms + (0 if name in ("gmlp", "amlp") else ffn)
    assert len(model.trainable_weights) == len(block.trainable_weights)
    if name == "gmlp":
        # W = 0 and b = 1 at the start: half of a feed-forward layer, token by token.
        w = {v.name.split("/")[-1].split(":")[0]: a for v, a in zip(block.mixing.weights, block.mixing.get_weights())}
        u = gelu(layer_norm(x) @ w["in_kernel"] + w["in_bias"])[..., : FFN // 2]
        expected = x + u @ w["out_kernel"] + w["out_bias"]
        np.testing.assert_allclose(out[mask > 0], expected[mask > 0], atol=1e-5)
    if name == "resmlp":
        np.testing.assert_array_equal(block.scale_0.get_weights()[0], np.full(WIDTH, np.float32(0.1)))


def test_a_res_mlp_layer_of_scale_zero_is_the_identity(rng):
    x = rng.randn(2, 6, WIDTH)
    layer = mixing.ResMLP(FFN, max_length=LONGEST, scale=0)
    np.testing.assert_allclose(K.eval(layer(K.constant(x))), x, rtol=1e-6)
    assert mixing.ResMLP.from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_goes_round(name):
    layer = make(name, **({"causal": True} if name in DIRECTED else {}))
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize(
    "build_it, message",
    [
        (lambda: make("unknown"), "mixer must be one of 'aft'.*but is 'unknown'"),
        (lambda: mixing.make_mixer("gmlp", max_length=None, ffn_units=4), "weights for each position; give max_length"),
        (lambda: mixing.GMLP(7, 10), "must be even; got 7"),
        (lambda: mixing.FNet(mode="fast"), "mode must be one of 'padded', 'masked_dft', but is 'fast'"),
        (lambda: mixing.FNet(causal=True), "no causal form"),
        (lambda: mixing.TokenMixingMLP(4, 0), "max_length must be a whole number >= 1, but is 0"),
        (lambda: mixing.TokenMixingMLP(4, 8, rescale="sum"), "rescale must be one of"),
        (lambda: mixing.ExternalAttention(0), "memory must be a whole number >= 1, but is 0"),
        (lambda: mixing.ConvMixer1D(0), "kernel_size must be a whole number >= 1, but is 0"),
        (lambda: mixing.ConvMixer1D(variant="fast"), "variant must be one of 'light', 'dynamic', 'depthwise', 'full'"),
        (
            lambda: mixing.ConvMixer1D(name="conv")(K.zeros((1, 4, 6))),
            "conv: heads=4 do not divide the 6 units; channels of a head share their weights",
        ),
        (lambda: mixing.AFT(8, limit=50), r"limit must be a number in \(0, 40\], but is 50; above 40"),
        (
            lambda: mixing.MixerBlock("gmlp", 8, max_length=4, dropout_rate=1),
            r"dropout_rate must be a number in \[0, 1\), but is 1",
        ),
        (lambda: mixing.SpatialGatingUnit(8)(K.zeros((1, 4, 3))), "split in two halves, but there are 3"),
        (
            lambda: make("mlp")(K.zeros((1, LONGEST + 1, 4))),
            "must have at most max_length=10 tokens; build it with a larger max_length .* Its length: 11",
        ),
        (lambda: mixing.FNet()([K.zeros((1, 4, 4)), K.ones((4, 4))]), "mixes all tokens with all"),
        (
            lambda: make("resmlp")(K.zeros((1, 4, 4)), mask=K.ones((1, 4, 4))),
            "mask must be .batch, tokens., but it has 3",
        ),
        (lambda: make("resmlp")([K.zeros((1, 4, 4)), K.ones((1, 1, 4, 4))]), "who sees whom must be .* it has 4 axes"),
        (lambda: make("gmlp").size((None, 4, None)), "last axis of its input must have a known size"),
    ],
)
def test_errors(build_it, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build_it()


def test_a_sequence_that_turns_out_too_long():
    run, _ = build(make("resmlp"), WIDTH, "x")
    with pytest.raises(Exception, match="must have at most max_length=10 tokens"):
        run(np.zeros((1, 11, WIDTH)))
    assert keras.utils.get_custom_objects()["MixerBlock"] is mixing.MixerBlock
