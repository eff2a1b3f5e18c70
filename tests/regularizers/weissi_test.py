"""WEISSI: the spec's numbers, invariance under shifts of scale, what it leaves alone, saving."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.models import build_transformer_model
from helpers import tiny_config
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.regularizers import WEISSI, add_weissi

W = np.array([[3.0, 4.0], [0.0, 0.0]])


def numpy_penalty(w, lambda1, lambda2):
    norm = np.sqrt(np.sum(w * w))
    return lambda1 * np.log(norm) + lambda2 * np.sum(np.abs(w)) / norm


def shifted(weights, gammas, cumulative=True):
    """(kernel, bias) pairs with the kernels scaled; biases by the product so far, or as the article has it."""
    result, product = [], 1.0
    for (w, b), gamma in zip(weights, gammas):
        product *= gamma
        result.append((gamma * w, (product if cumulative else gamma) * b))
    return result


def relu_net(weights, x):
    for w, b in weights:
        x = np.maximum(x @ w + b, 0)
    return x


def test_oracle():
    w = K.constant(W, dtype="float64")
    log, one = WEISSI(1, 0)(w), WEISSI(0, 1)(w)
    gradient = tf1.gradients(WEISSI(1, 1)(w), w)[0]
    log, one, gradient = get_session().run([log, one, gradient])
    assert abs(log - 1.6094379124) < 1e-10 and abs(one - 1.4) < 1e-12
    np.testing.assert_allclose(gradient, [[0.152, 0.136], [0, 0]], atol=1e-12)


def test_gradient_by_finite_differences_and_its_two_identities(rng):
    w = rng.randn(2, 3, 2)
    x = tf1.placeholder("float64", w.shape)
    both, log, one = (WEISSI(a, b)(x) for a, b in ((0.3, 0.7), (0.3, 0), (0, 0.7)))
    of_log, of_one, of_both = (tf1.gradients(y, x)[0] for y in (log, one, both))
    session = get_session()
    g_log, g_one, g = session.run([of_log, of_one, of_both], {x: w})
    for i in range(w.size):
        delta = np.zeros(w.size)
        delta[i] = 1e-6
        high, low = (numpy_penalty(w + s * delta.reshape(w.shape), 0.3, 0.7) for s in (1, -1))
        assert abs((high - low) / 2e-6 - g.ravel()[i]) < 1e-8
    assert abs(np.sum(w * g_log) - 0.3) < 1e-10 and abs(np.sum(w * g_one)) < 1e-10
    np.testing.assert_allclose(session.run(of_both, {x: 4 * w}), g / 4, atol=1e-10)


@given(st.integers(0, 10**6), st.floats(0.1, 10), st.floats(0.1, 10))
def test_shifts_of_scale_change_l2_but_not_the_penalty_nor_the_network(seed, first, second):
    rng = np.random.RandomState(seed)
    weights = [(rng.randn(4, 4), rng.randn(4)) for _ in range(3)]
    moved = shifted(weights, (first, second, 1 / (first * second)))
    x = rng.randn(5, 4)
    np.testing.assert_allclose(relu_net(moved, x), relu_net(weights, x), rtol=1e-6, atol=1e-9)
    total = [sum(numpy_penalty(w, 0.3, 0.7) for w, _ in net) for net in (weights, moved)]
    assert abs(total[0] - total[1]) < 1e-9
    least = 3 * np.prod([np.linalg.norm(w) for w, _ in weights]) ** (2 / 3.0)
    assert sum(np.sum(w * w) for w, _ in moved) >= least - 1e-9


def test_the_bias_rule_of_the_article_is_wrong():
    net, x = [(np.ones((1, 1)), np.ones(1))] * 2, np.ones((1, 1))
    assert relu_net(net, x) == 3
    assert relu_net(shifted(net, (2, 0.5), cumulative=False), x) == 2.5
    assert relu_net(shifted(net, (2, 0.5)), x) == 3


def test_zeros_half_precision_and_unknown_shapes():
    x = tf1.placeholder("float16", (None, None))
    penalty = WEISSI(1, 1)(x)
    gradient = tf1.gradients(penalty, x)[0]
    assert penalty.dtype == tf.float32
    session = get_session()
    assert (session.run(gradient, {x: np.zeros((2, 2))}) == 0).all()
    # 300^2 is infinite in float16
    assert abs(session.run(penalty, {x: np.full((2, 2), 300.0)}) - (np.log(600) + 2)) < 1e-5


def test_as_kernel_regularizer_saved_and_loaded_elsewhere(rng, tmp_path, run_python):
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,), kernel_regularizer=WEISSI(0.5, 0.25))])
    model.compile("sgd", lambda y_true, y_pred: 0.0 * y_pred)
    x, y = rng.randn(2, 3), rng.randn(2, 4)
    kernel = model.get_weights()[0].astype("float64")
    assert abs(model.evaluate(x, y, verbose=0) - numpy_penalty(kernel, 0.5, 0.25)) < 1e-5
    model.compile("sgd", "mse")
    model.save(str(tmp_path / "model.h5"))
    source = "import sys, kexue_keras.regularizers\nfrom kexue_keras.backend import K, keras\n"
    source += "model = keras.models.load_model(sys.argv[1])\nprint(repr(float(K.eval(model.losses[0]))))"
    assert abs(float(run_python(source, tmp_path / "model.h5")) - numpy_penalty(kernel, 0.5, 0.25)) < 1e-5


def test_add_weissi_to_a_model_of_bert4keras(rng):
    config = dict(tiny_config(), num_hidden_layers=1)
    bert = build_transformer_model(config_path=None, model="bert", with_pool=True, **config)
    model = keras.models.Model(bert.inputs, keras.layers.Dense(2, name="classifier")(bert.output))
    names = add_weissi(model, lambda1=1e-3, lambda2=1e-4)
    # 4 of attention + 2 of the feed-forward + pooler + classifier
    assert len(names) == 8 and len(set(names)) == 8
    assert not [n for n in names if "Embedding" in n or "bias" in n or "Norm" in n]
    model.compile("sgd", lambda y_true, y_pred: 0.0 * y_pred)
    kernels = [K.get_value(w).astype("float64") for w in model.trainable_weights if w.name in names]
    expected = sum(numpy_penalty(w, 1e-3, 1e-4) for w in kernels)
    x = [rng.randint(1, 40, (2, 5)), np.zeros((2, 5))]
    np.testing.assert_allclose(model.test_on_batch(x, np.zeros((2, 2))), expected, rtol=1e-4)
    with pytest.raises(ValueError, match="compiled already, so that its loss is fixed"):
        add_weissi(model)


def test_product_form(rng):
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,)), keras.layers.Dense(2)])
    add_weissi(model, lambda1=0.5, lambda2=0.25, form="prod")
    model.compile("sgd", lambda y_true, y_pred: 0.0 * y_pred)
    kernels = [w.astype("float64") for w in model.get_weights()[::2]]
    expected = 0.5 * np.prod([np.linalg.norm(w) for w in kernels]) + sum(numpy_penalty(w, 0, 0.25) for w in kernels)
    np.testing.assert_allclose(model.test_on_batch(rng.randn(2, 3), np.zeros((2, 2))), expected, rtol=1e-5)


def test_the_step_is_the_gradient_of_the_penalty(rng):
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,)), keras.layers.Dense(2)])
    add_weissi(model, lambda1=0.5)
    model.compile(keras.optimizers.SGD(1.0), lambda y_true, y_pred: 0.0 * y_pred)
    before = model.get_weights()
    model.train_on_batch(rng.randn(2, 3), np.zeros((2, 2)))
    for old, new in zip(before[::2], model.get_weights()[::2]):
        np.testing.assert_allclose(old - new, 0.5 * old / np.sum(old.astype("float64") ** 2), atol=1e-6)


def test_bad_input():
    for arguments, message in (
        ((-1, 0), "WEISSI: lambda1 must be a number >= 0, but is -1"),
        ((0, float("inf")), "lambda2 must be a number >= 0, but is inf"),
        ((0, 0, 0), "epsilon must be a number > 0, but is 0; without it the logarithm"),
    ):
        with pytest.raises(ValueError, match=message):
            WEISSI(*arguments)
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,))])
    for arguments, message in (
        ({"form": "sum"}, "form must be one of 'log', 'prod', but is 'sum'"),
        ({"exclude": "("}, "no regular expression"),
        ({"exclude": "kernel"}, "no kernel is left of 2 trainable variables by exclude='kernel'"),
        ({"lambda1": -1}, "add_weissi: lambda1 must be a number >= 0, but is -1"),
    ):
        with pytest.raises(ValueError, match=message):
            add_weissi(model, **arguments)
