"""The penalty on outputs: all its random values against the exact Jacobian in numpy, and its gradient."""

import numpy as np
import pytest
from loss_graphs import evaluator, slope

from kexue_keras import losses
from kexue_keras.backend import K, keras
from kexue_keras.training import rdrop
from kexue_keras.training._randomness import repeatable_dropout
from kexue_keras.training.adversarial import GradientPenalty
from kexue_keras.training.adversarial._output_penalty import _ROOTS

SGD = keras.optimizers.SGD


@pytest.fixture
def float64():
    K.set_floatx("float64")
    yield
    K.set_floatx("float32")


ACTIVATIONS = {"squared": "linear", "kl": "softmax", "multilabel": "sigmoid"}
LAMBDAS = {"squared": lambda f: 2.0 + 0 * f, "kl": lambda f: 1 / f, "multilabel": lambda f: 1 / (f * (1 - f))}


def answers(x, weights, activation):
    z = np.tanh(x @ weights[0] + weights[1]) @ weights[2] + weights[3]
    if activation == "softmax":
        return np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    return z if activation == "linear" else 1 / (1 + np.exp(-z))


def exact(x, weights, kind):
    """Mean over the rows of sum_j lambda_j |df_j / dx|^2, by finite differences."""
    total = 0.0
    for row in x:
        f = answers(row, weights, ACTIVATIONS[kind])
        for j, factor in enumerate(LAMBDAS[kind](f)):
            total += factor * (slope(lambda v: answers(v, weights, ACTIVATIONS[kind])[j], row) ** 2).sum() / len(x)
    return total


def mlp(kind):
    inputs = keras.layers.Input([3], name="pixels")
    hidden = keras.layers.Dense(4, activation="tanh")(inputs)
    model = keras.models.Model(inputs, keras.layers.Dense(2, activation=ACTIVATIONS[kind])(hidden))
    random = np.random.RandomState(3)
    model.set_weights([random.randn(*w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("kind", sorted(ACTIVATIONS))
def test_the_mean_over_all_signs_is_the_exact_jacobian(float64, kind, rng):
    model = mlp(kind)
    model.compile(SGD(0.0), "mse")
    GradientPenalty(model, layer="pixels", of="outputs", divergence=kind, epsilon=0.5)
    x, y = rng.randn(2, 3), rng.rand(2, 2)
    # Two rows of two outputs: the signs of a row agree or differ, so there are four values, all of the same chance.
    steps = np.array([model.train_on_batch(x, y, sample_weight=np.zeros(2)) for _ in range(48)])
    np.testing.assert_allclose(steps[:, 1], 0, atol=1e-12)  # no label counts
    values = np.unique(steps[:, 0].round(9))
    assert len(values) == 4
    np.testing.assert_allclose(values.mean(), 0.25 * exact(x, model.get_weights(), kind), rtol=1e-5)


def test_it_is_what_gaussian_noise_adds(float64, rng):
    """The article's derivation: E KL(f(x), f(x + noise)) for a small variance, which is epsilon."""
    weights, x, variance = mlp("kl").get_weights(), rng.randn(1, 3), 1e-4
    f = answers(x, weights, "softmax")
    noise = np.sqrt(variance) * rng.randn(100000, 3)
    moved = answers(x + np.concatenate([noise, -noise]), weights, "softmax")
    divergence = (f * np.log(f / moved)).sum(-1).mean()
    np.testing.assert_allclose(divergence, 0.5 * variance * exact(x, weights, "kl"), rtol=2e-2)


def test_signs_repeat_with_the_step_and_the_gradient_is_right(float64, rng):
    x, y = rng.randn(4, 3), rng.randint(0, 2, 4)
    with repeatable_dropout(1) as step:
        model = mlp("kl")
        model.compile(SGD(1.0), "sparse_categorical_crossentropy")
        GradientPenalty(model, layer="pixels", of="outputs", divergence="kl", epsilon=2.0, draws=2)
        model._make_train_function()
    weights = model.get_weights()
    step.set(3)
    model.train_on_batch(x, y)
    gradients = [w - v for w, v in zip(weights, model.get_weights())]
    K.set_value(model.optimizer.lr, 0.0)

    def value(moved, at=3):
        model.set_weights(moved)
        step.set(at)
        return model.train_on_batch(x, y)[0]

    assert value(weights) == value(weights)
    assert len({value(weights, at) for at in range(6)}) > 1
    for i, gradient in enumerate(gradients):
        for place in {tuple(rng.randint(n) for n in gradient.shape) for _ in range(3)}:
            up, down = ([w.copy() for w in weights] for _ in range(2))
            up[i][place] += 1e-3
            down[i][place] -= 1e-3
            np.testing.assert_allclose(gradient[place], (value(up) - value(down)) / 2e-3, rtol=2e-3, atol=2e-4)


def test_positions_that_a_mask_hides_do_not_count(rng):
    tokens = keras.layers.Input([None])
    x = keras.layers.Embedding(9, 4, name="Embedding-Token", mask_zero=True)(tokens)
    model = keras.models.Model(tokens, keras.layers.Dense(1, use_bias=False)(x))
    model.compile(SGD(0.0), "mse")
    GradientPenalty(model, of="outputs", divergence="squared")
    ids = rng.randint(1, 9, (3, 5))
    ids[1, 2:] = ids[2] = 0
    loss, clean = model.train_on_batch(ids, np.ones((3, 5, 1)))
    # Each position depends on its own embedding, so the signs do not matter: 2 |w|^2 everywhere.
    np.testing.assert_allclose(loss - clean, (model.get_weights()[1].astype("float64") ** 2).sum(), rtol=1e-4)


def test_with_rdrop_without_dropout_and_for_one_of_two_outputs(rng):
    tokens = keras.layers.Input([4])
    h = keras.layers.Dropout(0.5)(keras.layers.Flatten()(keras.layers.Embedding(9, 4)(tokens)))
    outputs = [keras.layers.Dense(3, name="topic")(h), keras.layers.Dense(1, use_bias=False, name="score")(h)]
    model = keras.models.Model(tokens, outputs)
    trained = rdrop(model)
    trained.compile(SGD(0.0), [losses.RDropCrossentropy(from_logits=True), "mse"])
    GradientPenalty(trained, of="outputs", divergence={"score": "squared"}, dropout=False, epsilon=0.5)
    x, y = rng.randint(1, 9, (6, 4)), [rng.randint(0, 3, 6), rng.randn(6, 1)]
    found = trained.train_on_batch(x, y)
    kernel = model.get_layer("score").get_weights()[0].astype("float64")
    np.testing.assert_allclose(found[0] - found[-1], 0.5 * (kernel**2).sum(), rtol=1e-3)


@pytest.mark.parametrize("kind", ["kl", "multilabel"])
def test_roots_far_out_and_of_masked_classes(kind):
    z = np.array([[-np.inf, 1, 2, 0], [90, -90, -30, 0]])
    values, slopes, second = evaluator(_ROOTS[kind], ("float32", [None, 4]), wrt=0, second=True)(z)
    p = 1 / (1 + np.exp(-z)) if kind == "multilabel" else np.exp(z - np.logaddexp.reduce(z, -1)[:, None])
    if kind == "kl":
        np.testing.assert_allclose(values, 2 * np.sqrt(p), 1e-5, 1e-30)
    else:
        np.testing.assert_allclose(slopes, np.sqrt(p) * np.sqrt(1 / (1 + np.exp(z))), rtol=1e-5)
    assert np.isfinite(slopes).all() and np.isfinite(second).all()


def test_what_is_wrong_is_said():
    model = mlp("kl")
    cases = [
        (dict(of="answers"), "of must be one of 'loss', 'outputs', but is 'answers'"),
        (dict(of="outputs"), "of='outputs' needs divergence=, one of 'squared', 'kl', 'multilabel'"),
        (dict(of="outputs", divergence="mse"), "divergence must be one of 'squared', .*but is 'mse'"),
        (dict(of="outputs", divergence="kl", reduction="author"), "reduction='author' does nothing with of='outputs'"),
        (dict(divergence="kl"), "divergence='kl' does nothing with of='loss'"),
        (dict(of="outputs", divergence="kl", draws=0), "draws must be a whole number >= 1, but is 0"),
        (dict(of="outputs", divergence={"no": "kl"}), "GradientPenalty: the model has no output no"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            GradientPenalty(model, layer="pixels", **arguments)
    assert not hasattr(model, "kexue_training_loss")
