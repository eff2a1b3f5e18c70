"""The gradient penalty: values by hand, its gradient by finite differences, kernels without a second derivative."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras import losses, optimizers
from kexue_keras.backend import K, keras
from kexue_keras.training import rdrop
from kexue_keras.training.adversarial import FGM, GradientPenalty
from kexue_keras.training.precision import LossScale

SGD = keras.optimizers.SGD
E = np.array([[0.1, -0.2], [0.3, 0.4], [-0.5, 0.2]])
W = np.array([[0.7], [-1.1]])


@pytest.fixture
def float64():
    K.set_floatx("float64")
    yield
    K.set_floatx("float32")


@pytest.mark.parametrize("reduction", ["author", "per_sample"])
def test_the_example_of_the_specification(float64, reduction):
    ids = keras.layers.Input([None])
    x = keras.layers.Lambda(lambda t: K.sum(t, 1))(keras.layers.Embedding(3, 2)(ids))
    model = keras.models.Model(ids, keras.layers.Dense(1, use_bias=False)(x))
    model.set_weights([E, W])
    model.compile(SGD(0.0), lambda y_true, y_pred: K.softplus(-y_true * y_pred))
    GradientPenalty(model, epsilon=0.4, reduction=reduction)
    for rows in (1, 4):
        loss, clean = model.train_on_batch(np.array([[1, 2, 1]] * rows), np.ones((rows, 1)))
        # Each of the three positions by itself: 2.77, while the gradient of the matrix would give 4.62.
        penalty = 2.7695296914 / (rows if reduction == "author" else 1)
        np.testing.assert_allclose(clean, 1.335281510219936, rtol=1e-6)
        np.testing.assert_allclose(loss, 1.335281510219936 + 0.5 * 0.4 * penalty, rtol=1e-6)


def classifier():
    tokens = keras.layers.Input([None])
    x = keras.layers.Embedding(9, 4, name="Embedding-Token", mask_zero=True)(tokens)
    x = keras.layers.Dense(5, activation="tanh")(x)
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.models.Model(tokens, keras.layers.Dense(3, activation="softmax")(x))


def start(model, rng):
    model.set_weights([rng.randn(*w.shape) for w in model.get_weights()])
    return model.get_weights()


def test_its_gradient_is_that_of_finite_differences(float64, rng):
    model = classifier()
    weights = start(model, rng)
    x, y = rng.randint(1, 9, (5, 4)), rng.randint(0, 3, 5)
    x[::2, 2:] = 0
    model.compile(SGD(1.0), "sparse_categorical_crossentropy")
    GradientPenalty(model, epsilon=2.0, reduction="per_sample")
    loss, clean = model.train_on_batch(x, y, sample_weight=np.arange(1, 6) / 3.0)
    assert loss > clean + 0.05
    gradients = [w - v for w, v in zip(weights, model.get_weights())]
    K.set_value(model.optimizer.lr, 0.0)

    def value(i, place, step):
        moved = [w.copy() for w in weights]
        moved[i][place] += step
        model.set_weights(moved)
        return model.train_on_batch(x, y, sample_weight=np.arange(1, 6) / 3.0)[0]

    for i, gradient in enumerate(gradients):
        for place in {tuple(rng.randint(n) for n in gradient.shape) for _ in range(3)}:
            wanted = (value(i, place, 1e-3) - value(i, place, -1e-3)) / 2e-3
            np.testing.assert_allclose(gradient[place], wanted, rtol=2e-3, atol=2e-4)


def test_the_sparse_kernel_is_replaced_and_nothing_else_changes(rng):
    x, y = rng.randint(1, 9, (6, 4)), rng.randint(0, 3, 6)
    hot = np.eye(3)[y]
    found = []
    for loss, targets in [
        ("sparse_categorical_crossentropy", y),
        ("categorical_crossentropy", hot),
    ]:
        K.clear_session()
        model = classifier()
        start(model, np.random.RandomState(3))
        model.compile(optimizers.GradientAccumulation(optimizers.AdamW(1e-2), 2), loss, metrics=["accuracy"])
        GradientPenalty(model)
        found.append([model.train_on_batch(x, targets) for _ in range(3)])
        found[-1].append(model.test_on_batch(x, targets))
    np.testing.assert_allclose(found[1][:3], found[0][:3], rtol=1e-4)
    before, same, after, evaluated = found[0]
    assert before[0] == same[0] != after[0] and before[0] > before[2]
    np.testing.assert_allclose(evaluated[0], evaluated[2], rtol=1e-5)


def test_a_scaled_loss_does_not_scale_the_penalty(rng):
    x, y = rng.randint(1, 9, (6, 4)), rng.randint(0, 3, 6)
    ends = []
    for wrap in (lambda o: o, lambda o: LossScale(o, 1024.0)):
        K.clear_session()
        model = classifier()
        start(model, np.random.RandomState(3))
        model.compile(wrap(SGD(0.1)), "sparse_categorical_crossentropy")
        GradientPenalty(model)
        model.train_on_batch(x, y)
        ends.append(model.get_weights())
    for a, b in zip(*ends):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_number_of_samples_with_rdrop_and_dropout_at_choice(rng):
    x, y = rng.randint(1, 9, (6, 4)), rng.randint(0, 3, 6)
    tokens = keras.layers.Input([4])
    h = keras.layers.Dropout(0.5)(keras.layers.Flatten()(keras.layers.Embedding(9, 4)(tokens)))
    model = keras.models.Model(tokens, keras.layers.Dense(3)(h))
    start(model, rng)
    trained = rdrop(model)
    trained.compile(SGD(0.0), losses.RDropCrossentropy(from_logits=True, alpha=0.0))
    penalties = {}
    for reduction in ("author", "per_sample"):
        with GradientPenalty(trained, reduction=reduction, dropout=False):
            loss, clean = np.mean([trained.train_on_batch(x, y) for _ in range(3)], 0)
            penalties[reduction] = loss - clean
    # The loss shown has dropout, the penalty has none.
    np.testing.assert_allclose(penalties["per_sample"], 6 * penalties["author"], rtol=1e-3)


def test_any_layer_also_the_input(rng):
    inputs = keras.layers.Input([3], name="pixels")
    model = keras.models.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    model.compile(SGD(0.0), "mse")
    GradientPenalty(model, layer="pixels", epsilon=0.5)
    x, y = rng.randn(4, 3), rng.randn(4, 1)
    w = model.get_weights()[0].astype("float64")
    residual = x @ w - y
    loss, clean = model.train_on_batch(x, y)
    np.testing.assert_allclose(clean, (residual**2).mean(), rtol=1e-5)
    np.testing.assert_allclose(loss - clean, 0.25 * ((2 * residual * w.T / 4) ** 2).sum(), rtol=1e-4)


def test_what_is_wrong_is_said(rng):
    model = classifier()
    with pytest.raises(ValueError, match="reduction must be one of 'author', 'per_sample', but is 'mean'"):
        GradientPenalty(model, reduction="mean")
    with pytest.raises(ValueError, match="epsilon must be a number >= 0, but is inf"):
        GradientPenalty(model, epsilon=float("inf"))
    with FGM(model), pytest.raises(ValueError, match="already trains with FGM"):
        GradientPenalty(model)
    inputs = keras.layers.Input([3])
    x = keras.layers.Lambda(lambda t: tf.nn.local_response_normalization(t[:, None, None])[:, 0, 0])(inputs)
    model = keras.models.Model(inputs, keras.layers.Dense(1)(x))
    model.compile("sgd", "mse")
    GradientPenalty(model, layer=model.layers[0])
    with pytest.raises(ValueError, match="LRNGrad.* has no second derivative"):
        model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    source = keras.layers.Input([3])
    recurrent = keras.layers.GRU(2)(keras.layers.Embedding(9, 4)(source))
    model = keras.models.Model(source, keras.layers.Dense(1)(recurrent))
    model.compile("sgd", "mse")
    with GradientPenalty(model), pytest.raises(ValueError, match="belongs to a tf.while_loop.* unroll=True"):
        model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
