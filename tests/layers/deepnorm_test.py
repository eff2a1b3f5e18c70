"""Constants of DeepNorm against the tables of paper and article; the residual; initializers; the depth test."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras import models
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
    assert models.deepnorm_constants is deepnorm_constants


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
        ({"num_layers": 0}, "num_layers must be a whole number >= 1, but is 0"),
        ({"num_layers": 2.5}, "num_layers must be a whole number >= 1, but is 2.5"),
        ({"num_layers": 2, "kind": "both"}, "kind must be one of 'encoder', 'decoder', 'encdec', but is 'both'"),
        ({"num_layers": 2, "rule": "lion"}, "rule must be one of .* but is 'lion'"),
        ({"num_layers": 2, "kind": "encdec"}, "needs decoder_layers"),
        ({"num_layers": 2, "kind": "encdec", "decoder_layers": 2, "rule": "adam"}, "only rule='paper' knows"),
        ({"num_layers": 2, "decoder_layers": 2}, "decoder_layers=2 is for kind='encdec'"),
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


def post_norm():
    """A post-norm transformer with one head and any number of layers: placeholders, logits [8, 16], gradients.

    The layers run in a loop over stacked kernels, so that one small graph does for all depths.
    """
    shapes = [(WIDTH, WIDTH)] * 4 + [(WIDTH, INNER), (INNER, WIDTH)]
    stacks = [tf1.placeholder(tf.float64, (None,) + shape) for shape in shapes]
    x, head = tf1.placeholder(tf.float64, [8, WIDTH]), tf1.placeholder(tf.float64, [WIDTH, WIDTH])
    labels, alpha = tf1.placeholder(tf.int32, [8]), tf1.placeholder(tf.float64, [])

    def norm(v):
        v = v - tf.reduce_mean(v, -1, keepdims=True)
        return v * tf.math.rsqrt(tf.reduce_mean(tf.square(v), -1, keepdims=True) + 1e-6)

    def layer(i, x):
        q, k, v, o, inner, outer = [stack[i] for stack in stacks]
        scores = tf.matmul(tf.matmul(x, q), tf.matmul(x, k), transpose_b=True) / WIDTH**0.5
        x = norm(alpha * x + tf.matmul(tf.matmul(tf.nn.softmax(scores), tf.matmul(x, v)), o))
        return i + 1, norm(alpha * x + tf.matmul(tf.nn.relu(tf.matmul(x, inner)), outer))

    logits = tf.matmul(tf.while_loop(lambda i, _: i < tf.shape(stacks[0])[0], layer, (0, x))[1], head)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, stacks)]
    return stacks, [x, labels, alpha, head], logits, gradients


@pytest.mark.spread
def test_one_step_moves_deep_and_shallow_models_alike_where_the_rule_fits_the_optimizer():
    kernels, others, logits, gradients = post_norm()
    session = get_session()
    steps = {
        "sgd": lambda w, g: 0.1 * g,
        "adam": lambda w, g: 1e-3 * np.sign(g),
        "lamb": lambda w, g: 1e-2 * g * np.sqrt(np.sum(w * w, (-2, -1)) / np.sum(g * g, (-2, -1)))[..., None, None],
    }

    def change(layers, rule, step, seed):
        alpha, beta = deepnorm_constants(layers, rule=rule) if rule else (1.0, 1.0)
        rng, values = np.random.RandomState(seed), []
        for kernel, gain in zip(kernels, (1, 1, beta, beta, beta, beta)):
            shape = [layers if n is None else n for n in kernel.shape.as_list()]
            values.append(gain * np.sqrt(2 / sum(shape[-2:])) * rng.standard_normal(shape))
        head = rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5
        feed = dict(zip(others, (rng.standard_normal((8, WIDTH)), rng.randint(0, WIDTH, 8), alpha, head)))
        before, slopes = session.run([logits, gradients], {**feed, **dict(zip(kernels, values))})
        moved = [w - steps[step](w, g) for w, g in zip(values, slopes)]
        after = session.run(logits, {**feed, **dict(zip(kernels, moved))})
        return np.sqrt(np.mean((after - before) ** 2))

    def medians(rule, step):
        return np.array([np.median([change(n, rule, step, seed) for seed in range(5)]) for n in (4, 16, 64)])

    flat = {
        rule + "/" + step: medians(rule, step)
        for rule, step in [("paper", "sgd"), ("sgd", "sgd"), ("adam", "adam"), ("lamb", "lamb")]
    }
    for name, changes in flat.items():
        assert changes.max() / changes.min() < 1.5, flat
    assert (medians(None, "sgd") > 5 * flat["paper/sgd"]).all(), flat
    wrong = medians("paper", "adam")
    assert wrong[2] > 2 * wrong[0], "with steps of one size the paper's rule grows as the root of the depth"


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
