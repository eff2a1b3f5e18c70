"""Constants of DeepNorm against the tables of paper and article; the residual; initializers; the depth test."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.layers import DeepNormAdd, DeepNormAttention, GainInitializer, deepnorm_constants
from kexue_keras.models import update_magnitude


def test_oracles():
    for arguments, expected in [
        ((12,), (2.213364, 0.319472)),
        ((100,), (3.760603, 0.188030)),
        ((1000,), (6.687403, 0.105737)),
        ((12, "decoder"), (2.213364, 0.319472)),
        ((12, "encoder", None, "adam"), (4.898979, 0.204124)),
        ((12, "encoder", None, "sgd"), (2.213364, 0.451801)),
        ((12, "encoder", None, "lamb"), (1, 0.204124)),
    ]:
        np.testing.assert_allclose(deepnorm_constants(*arguments), expected, atol=5e-7)
    for layers, encoder, decoder in [
        (6, (1.417938, 0.496989), (2.059767, 0.343295)),
        (18, (1.998746, 0.352571), (2.710806, 0.260847)),
    ]:
        constants = deepnorm_constants(layers, "encdec", layers)
        np.testing.assert_allclose(constants.encoder, encoder, atol=5e-7)
        np.testing.assert_allclose(constants.decoder, decoder, atol=5e-7)


def test_pre_norm_has_alpha_one_and_the_beta_of_the_article():
    for rule, beta in [("sgd", 24**-0.5), ("adam", 1 / 24), ("lamb", 24**-0.5)]:
        assert deepnorm_constants(12, rule=rule, norm="pre") == (1, pytest.approx(beta))
        both = deepnorm_constants(12, "encdec", 6, rule=rule, norm="pre")
        assert both.encoder == (1, pytest.approx(beta)) and both.decoder.alpha == 1
        # The three branches of a decoder's layer count as those of one and a half layers.
        assert both.decoder.beta == pytest.approx(deepnorm_constants(9, rule=rule, norm="pre").beta)


@pytest.mark.parametrize("n, stream", [(1, 1.0), (7, 0.025), (160, 3.0)])
def test_the_conditions_of_the_article_hold_in_pre_norm_relative_to_the_stream(n, stream):
    for rule, condition in [
        ("sgd", lambda b: b / stream * (2 * n) ** 0.5),
        ("adam", lambda b: b / stream * 2 * n),
        ("lamb", lambda b: b**2 / stream * 2 * n),
    ]:
        constants = deepnorm_constants(n, rule=rule, norm="pre", stream=stream)
        assert constants.alpha == 1 and condition(constants.beta) == pytest.approx(1)


@pytest.mark.parametrize("n", [1, 7, 160])
def test_the_conditions_of_the_article_hold(n):
    for rule, condition in [
        ("sgd", lambda a, b: b / a * (2 * n) ** 0.5),
        ("adam", lambda a, b: b / a * 2 * n),
        ("lamb", lambda a, b: b**2 / a * 2 * n),
        ("paper", lambda a, b: b / a * (4 * n) ** 0.5),
    ]:
        assert condition(*deepnorm_constants(n, rule=rule)) == pytest.approx(1)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number >= 1, but is 0"),
        ({"num_hidden_layers": 2.5}, "num_hidden_layers must be a whole number >= 1, but is 2.5"),
        (
            {"num_hidden_layers": 2, "architecture": "both"},
            "architecture must be one of 'encoder', 'decoder', 'encdec', but is 'both'",
        ),
        ({"num_hidden_layers": 2, "rule": "lion"}, "rule must be one of .* but is 'lion'"),
        ({"num_hidden_layers": 2, "architecture": "encdec"}, "needs num_decoder_layers"),
        (
            {"num_hidden_layers": 2, "architecture": "encdec", "num_decoder_layers": 2, "rule": "adam"},
            "only rule='paper' knows",
        ),
        ({"num_hidden_layers": 2, "num_decoder_layers": 2}, "num_decoder_layers=2 is for architecture='encdec'"),
        ({"num_hidden_layers": 2, "norm": "pre"}, "rule='paper' is for post-norm models; give rule='adam'"),
        ({"num_hidden_layers": 2, "norm": "sandwich"}, "norm must be one of 'post', 'pre', but is 'sandwich'"),
        ({"num_hidden_layers": 2, "stream": 0.5}, "stream=0.5 is for norm='pre'"),
        ({"num_hidden_layers": 2, "norm": "pre", "rule": "sgd", "stream": 0}, "stream must be a number > 0, but is 0"),
    ],
)
def test_errors_of_the_constants(arguments, words):
    with pytest.raises(ValueError, match=words):
        deepnorm_constants(**arguments)


def test_residual_masks_shapes_and_half_precision():
    x = keras.layers.Input((None, 3))
    masked = keras.layers.Masking()(x)
    layer = DeepNormAdd(2.5)
    y = layer([masked, x])
    assert layer.output_mask is not None and K.int_shape(y) == (None, None, 3)
    both = DeepNormAdd(2.5)
    both([masked, masked])
    mask = K.function([x], [both.output_mask])([np.array([[[1.0, 1, 1], [0, 0, 0]]])])[0]
    assert mask.tolist() == [[True, False]]
    static = DeepNormAdd()([keras.layers.Input((4, 2)), keras.layers.Input((4, 2))])
    assert K.int_shape(static) == (None, 4, 2)
    half = K.eval(DeepNormAdd(6.7)([K.constant([[2.0]], "float16"), K.constant([[1.0]], "float16")]))
    assert half.dtype == np.float16 and half[0, 0] == pytest.approx(14.4, rel=1e-3)
    assert DeepNormAdd.from_config(layer.get_config()).alpha == 2.5
    for wrong in (-1, "big", None, float("nan"), True):
        with pytest.raises(ValueError, match="alpha must be a number >= 0, but is"):
            DeepNormAdd(wrong)
    with pytest.raises(ValueError, match="list of two tensors"):
        DeepNormAdd(1.0)(keras.layers.Input((4, 2)))


def test_gain_initializer():
    # Keras 2.3.1 counts a seed up at each use, so each has its own.
    one, other = [GainInitializer(g, base=keras.initializers.glorot_normal(seed=3)) for g in (0.3, 1.0)]
    small, large = get_session().run([one((50, 60)), other((50, 60))])
    np.testing.assert_allclose(small, np.float32(0.3) * large, rtol=1e-6)
    assert large.std() == pytest.approx(np.sqrt(2 / 110), rel=0.05)
    fresh = GainInitializer(0.3, base=keras.initializers.glorot_normal(seed=3))
    again = keras.initializers.deserialize(keras.initializers.serialize(fresh))
    assert again.gain == 0.3 and again.base.seed == 3
    dense = keras.layers.Dense(2, kernel_initializer=GainInitializer(2.0, base="ones"), input_dim=3)
    model = keras.models.Sequential([dense])
    assert (model.get_weights()[0] == 2).all()
    assert keras.models.Sequential.from_config(model.get_config()).get_weights()[0].tolist() == [[2, 2]] * 3
    with pytest.raises(ValueError, match="gain must be a number >= 0, but is -2"):
        GainInitializer(-2)


def test_attention_that_does_not_scale_its_scores_starts_with_a_smaller_query():
    layer = DeepNormAttention(2, 8, gain=0.5, kernel_initializer="ones", attention_scale=False, key_size=4)
    x = keras.layers.Input((None, 16))
    layer([x, x, x])
    q, _, k, _, v, _, o, _ = layer.get_weights()
    assert (q == 0.5).all() and (k == 1).all() and (v == 0.5).all() and (o == 0.5).all()  # q: 4 ** -0.5


def test_attention_keeps_its_gain_in_its_configuration():
    layer = DeepNormAttention(2, 8, gain=0.5, kernel_initializer="ones")
    x = keras.layers.Input((None, 16))
    layer([x, x, x])
    q, _, k, _, v, _, o, _ = layer.get_weights()
    assert (q == 1).all() and (k == 1).all() and (v == 0.5).all() and (o == 0.5).all()
    again = DeepNormAttention.from_config(layer.get_config())
    again([x, x, x])
    np.testing.assert_array_equal(again.get_weights()[6], o)


WIDTH, INNER = 16, 32


def transformer(order):
    """A post- or pre-norm transformer with one head and any number of layers: placeholders, logits [8, 16], gradients.

    The layers run in a loop over stacked kernels, so that one small graph does for all depths.
    """
    shapes = [(WIDTH, WIDTH)] * 4 + [(WIDTH, INNER), (INNER, WIDTH)]
    stacks = [tf1.placeholder(tf.float64, (None,) + shape) for shape in shapes]
    x, head = tf1.placeholder(tf.float64, [8, WIDTH]), tf1.placeholder(tf.float64, [WIDTH, WIDTH])
    labels, alpha = tf1.placeholder(tf.int32, [8]), tf1.placeholder(tf.float64, [])

    def norm(v):
        v = v - tf.reduce_mean(v, -1, keepdims=True)
        return v * tf.math.rsqrt(tf.reduce_mean(tf.square(v), -1, keepdims=True) + 1e-6)

    before, after = (tf.identity, norm) if order == "post" else (norm, tf.identity)

    def layer(i, x):
        q, k, v, o, inner, outer = [stack[i] for stack in stacks]
        y = before(x)
        scores = tf.matmul(tf.matmul(y, q), tf.matmul(y, k), transpose_b=True) / WIDTH**0.5
        x = after(alpha * x + tf.matmul(tf.matmul(tf.nn.softmax(scores), tf.matmul(y, v)), o))
        return i + 1, after(alpha * x + tf.matmul(tf.nn.relu(tf.matmul(before(x), inner)), outer))

    logits = tf.matmul(before(tf.while_loop(lambda i, _: i < tf.shape(stacks[0])[0], layer, (0, x))[1]), head)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, stacks)]
    return stacks, [x, labels, alpha, head], logits, gradients


STEPS = {
    "sgd": lambda w, g: 0.1 * g,
    "adam": lambda w, g: 1e-3 * np.sign(g),
    "lamb": lambda w, g: 1e-2 * g * np.sqrt(np.sum(w * w, (-2, -1)) / np.sum(g * g, (-2, -1)))[..., None, None],
}


def changes(order):
    """Function (rule or None, name of a step, stream of the model and the rule) -> medians for 4, 16 and 64 layers."""
    kernels, others, logits, gradients = transformer(order)
    session = get_session()

    def change(layers, rule, step, seed, stream, counted):
        alpha, beta = deepnorm_constants(layers, rule=rule, norm=order, stream=counted) if rule else (1.0, 1.0)
        rng, values = np.random.RandomState(seed), []
        for kernel, gain in zip(kernels, (1, 1, beta, beta, beta, beta)):
            shape = [layers if n is None else n for n in kernel.shape.as_list()]
            values.append(gain * np.sqrt(2 / sum(shape[-2:])) * rng.standard_normal(shape))
        head = rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5
        x = stream * rng.standard_normal((8, WIDTH))
        feed = dict(zip(others, (x, rng.randint(0, WIDTH, 8), alpha, head)))
        before, slopes = session.run([logits, gradients], {**feed, **dict(zip(kernels, values))})
        moved = [w - STEPS[step](w, g) for w, g in zip(values, slopes)]
        after = session.run(logits, {**feed, **dict(zip(kernels, moved))})
        return np.sqrt(np.mean((after - before) ** 2))

    def medians(rule, step, stream=1.0, counted=1.0):
        each = [[change(n, rule, step, seed, stream, counted) for seed in range(5)] for n in (4, 16, 64)]
        return np.median(each, axis=1)

    return medians


def test_one_step_moves_deep_and_shallow_models_alike_where_the_rule_fits_the_optimizer():
    medians = changes("post")
    flat = {
        rule + "/" + step: medians(rule, step)
        for rule, step in [("paper", "sgd"), ("sgd", "sgd"), ("adam", "adam"), ("lamb", "lamb")]
    }
    for name, values in flat.items():
        assert values.max() / values.min() < 1.5, flat
    assert (medians(None, "sgd") > 5 * flat["paper/sgd"]).all(), flat
    wrong = medians("paper", "adam")
    assert wrong[2] > 2 * wrong[0], "with steps of one size the paper's rule grows as the root of the depth"


def test_so_it_is_in_pre_norm():
    medians = changes("pre")
    flat = {rule: medians(rule, rule) for rule in ("sgd", "adam", "lamb")}
    small = {rule: medians(rule, rule, 0.03, 0.03) for rule in ("sgd", "lamb")}
    for values in list(flat.values()) + list(small.values()):
        assert values.max() / values.min() < 1.5, (flat, small)
    plain = {rule: medians(None, rule) for rule in flat}
    for rule in flat:
        assert plain[rule][2] > 1.5 * plain[rule][0] and (plain[rule] > 5 * flat[rule]).all(), (plain, flat)
    wrong = medians("sgd", "adam")
    assert wrong[2] > 2 * wrong[0], "with steps of one size the rule for gradient descent grows with the depth"
    # A small stream that the rule does not count with: no better than the plain model.
    assert (medians("sgd", "sgd", 0.03) > 10 * small["sgd"]).all()


def test_update_magnitude_measures_and_puts_everything_back():
    x = keras.layers.Input((3,))
    y = keras.layers.Dense(2, use_bias=False)(x)
    model = keras.models.Model(x, y)
    model.compile(keras.optimizers.Adam(0.1), "mse")
    rng = np.random.RandomState(0)
    inputs, targets = rng.randn(4, 3), rng.randn(4, 2)
    w = model.get_weights()[0].astype("float64")
    gradient = inputs.T @ (inputs @ w - targets) * 2 / targets.size
    change = update_magnitude(model, (inputs, targets), keras.optimizers.SGD(0.5))
    assert change.output_change == pytest.approx(np.sqrt(np.mean((inputs @ gradient * 0.5) ** 2)), rel=1e-5)
    assert change.loss_before == pytest.approx(np.mean((inputs @ w - targets) ** 2), rel=1e-5)
    after = inputs @ (w - 0.5 * gradient)
    assert change.loss_after == pytest.approx(np.mean((after - targets) ** 2), rel=1e-5)
    np.testing.assert_array_equal(model.get_weights()[0], w.astype("float32"))
    own = update_magnitude(model, (inputs, targets))
    assert own.output_change == pytest.approx(np.sqrt(np.mean((inputs @ np.sign(gradient) * 0.1) ** 2)), rel=0.5)
    assert int(K.get_value(model.optimizer.iterations)) == 0
    with pytest.raises(ValueError, match="not compiled; give optimizer"):
        update_magnitude(keras.models.Model(x, y), (inputs, targets))
    with pytest.raises(ValueError, match="batch must be a pair"):
        update_magnitude(model, inputs)
