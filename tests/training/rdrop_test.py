"""R-Drop in the graph: the batch is repeated inside the training model."""

import warnings

import numpy as np
import pytest
from loss_graphs import slope

from kexue_keras import losses
from kexue_keras.backend import K, is_tf_keras, keras
from kexue_keras.training import TwoViewLoss, rdrop


def noisy_model(noise=True, classes=3):
    """Rows get reproducible "dropout": in the training phase even rows are doubled, odd ones halved."""
    x = keras.layers.Input([4], name="x")
    factor = lambda t: K.cast(2 - 3 * (K.cumsum(K.ones_like(t), 0) - 1) % 2, "float32")  # noqa: E731
    h = keras.layers.Lambda(lambda t: K.in_train_phase(lambda: t * (0.5 + factor(t) % 2), lambda: t * 1.0))(x)
    out = keras.layers.Dense(classes, name="logits")(h if noise else x)
    return keras.models.Model(x, out, name="base")


def dropout_model(rate=0.5, classes=3):
    x = keras.layers.Input([4], name="x")
    out = keras.layers.Dense(classes, name="logits")(keras.layers.Dropout(rate)(x))
    return keras.models.Model(x, out, name="base")


def log_softmax(s):
    s = np.asarray(s, "float64")
    return s - np.logaddexp.reduce(s, -1)[..., None]


def test_training_value_is_the_formula_on_two_passes(rng):
    model = noisy_model()
    x, y, weights = rng.randn(5, 4).astype("f"), rng.randint(0, 3, 5), rng.rand(5)
    phase = (
        K.learning_phase() if not callable(getattr(K, "symbolic_learning_phase", None)) else K.symbolic_learning_phase()
    )
    rows = K.function([model.input, phase], [model.output])([np.repeat(x, 2, 0), 1])[0]
    a, b = log_softmax(rows[::2]), log_softmax(rows[1::2])
    assert abs(a - b).max() > 0.1
    ce = -0.5 * (a + b)[np.arange(5), y]
    kl = ((np.exp(a) - np.exp(b)) * (a - b)).sum(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the noise here is none that could be seen
        trained = rdrop(model)
    trained.compile(
        keras.optimizers.SGD(0.0),
        losses.RDropCrossentropy(alpha=4.0, from_logits=True),
        metrics=["sparse_categorical_accuracy"],
    )
    loss, accuracy = trained.train_on_batch(x, y)
    np.testing.assert_allclose(loss, (ce + kl).mean(), rtol=1e-5)
    np.testing.assert_allclose(accuracy, (a.argmax(-1) == y).mean(), rtol=1e-6)
    loss, _ = trained.train_on_batch(x, y, sample_weight=weights)
    np.testing.assert_allclose(loss, ((ce + kl) * weights).mean(), rtol=1e-5)


def test_rows_of_weight_zero_train_by_their_divergence(rng):
    """The article's semi-supervised experiment: unlabelled texts among the labelled ones."""
    model = noisy_model()
    x, y = rng.randn(6, 4).astype("f"), np.array([0, -1, 2, -1, -1, 1])
    weights = (y >= 0).astype("float64") * [1, 1, 2, 1, 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the noise here is none that could be seen
        trained = rdrop(model)
    kernel, bias = [w.astype("float64") for w in model.get_weights()]
    factors = [noise_factor(model, row) for row in (0, 1)]
    assert factors[0] != factors[1]

    def value(kernel):
        a, b = (log_softmax(f * x.astype("float64") @ kernel + bias) for f in factors)
        ce = -0.5 * (a + b)[np.arange(6), np.maximum(y, 0)]
        return weights * ce + ((np.exp(a) - np.exp(b)) * (a - b)).sum(-1)

    trained.compile(
        keras.optimizers.SGD(0.1), losses.RDropCrossentropy(alpha=4.0, from_logits=True, semi_supervised=True)
    )
    found = trained.train_on_batch(x, y, sample_weight=weights)
    np.testing.assert_allclose(found, value(kernel).mean(), rtol=1e-5)
    stepped = kernel - 0.1 * slope(lambda k: value(k).mean(), kernel)
    np.testing.assert_allclose(model.get_weights()[0], stepped, rtol=1e-4, atol=1e-6)
    # A batch without any label trains too, with validation the plain cross-entropy of the labelled rows.
    before = model.get_weights()[0]
    trained.fit(x, y, sample_weight=np.zeros(6), batch_size=5, verbose=0)
    assert abs(model.get_weights()[0] - before).max() > 1e-4
    ce = -log_softmax(model.predict(x))[np.arange(6), np.maximum(y, 0)]
    np.testing.assert_allclose(trained.test_on_batch(x, y, sample_weight=weights), (weights * ce).mean(), rtol=1e-5)


def noise_factor(model, row):
    """By what `noisy_model` multiplies the rows of pass 0 or 1 in the training phase."""
    phase = (
        K.learning_phase() if not callable(getattr(K, "symbolic_learning_phase", None)) else K.symbolic_learning_phase()
    )
    inner = model.layers[1].get_output_at(0)
    return float(K.function([model.inputs[0], phase], [inner])([np.ones((2, 4)), 1])[0][row, 0])


def test_two_views_hand_weights_to_the_loss_that_takes_them(rng):
    logits, weights = rng.randn(3, 2, 4), np.array([0.0, 1.0, 3.0])
    inner = losses.RDropCrossentropy(from_logits=True, semi_supervised=True, train_only=False)
    outer = TwoViewLoss(inner)
    found = outer(K.constant([[9], [1], [2]]), K.constant(logits), sample_weight=K.constant(weights))
    a, b = log_softmax(logits[:, 0]), log_softmax(logits[:, 1])
    ce = -0.5 * (a + b)[np.arange(3), [0, 1, 2]]
    wanted = weights * ce + ((np.exp(a) - np.exp(b)) * (a - b)).sum(-1)
    np.testing.assert_allclose(K.eval(found), wanted.mean(), rtol=1e-5)
    again = TwoViewLoss.from_config(outer.get_config())
    assert again.loss.semi_supervised and again.get_config() == outer.get_config()


def test_fit_with_shuffling_odd_batches_and_validation(rng, tmp_path, run_python):
    model = dropout_model()
    trained = rdrop(model)
    trained.compile(
        keras.optimizers.SGD(0.1),
        losses.RDropCrossentropy(from_logits=True),
        metrics=["sparse_categorical_accuracy"],
    )
    x, y = rng.randn(11, 4).astype("f"), rng.randint(0, 3, 11)
    before = model.get_weights()
    history = trained.fit(x, y, batch_size=3, epochs=2, verbose=0, validation_data=(x, y)).history
    assert not np.allclose(before[0], model.get_weights()[0])
    log_p = log_softmax(model.predict(x))
    plain = -log_p[np.arange(11), y].mean()
    np.testing.assert_allclose(history["val_loss"][-1], plain, rtol=1e-5)
    np.testing.assert_allclose(history["val_sparse_categorical_accuracy"][-1], (log_p.argmax(-1) == y).mean())
    np.testing.assert_allclose(trained.predict(x), model.predict(x), rtol=1e-6)
    assert trained.count_params() == model.count_params()
    assert trained.output_names == model.output_names and trained.input_names == model.input_names
    trained.save(str(tmp_path / "model.h5"))
    np.savez(str(tmp_path / "data.npz"), x=x, y=y)
    said = run_python(
        "import sys, numpy as np, kexue_keras, kexue_keras.training\n"
        "from kexue_keras.backend import keras\n"
        "model, data = keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])\n"
        "loss = model.evaluate(data['x'], data['y'], verbose=0)[0]\n"
        "same = np.allclose(model.get_layer('base').predict(data['x']), model.predict(data['x']))\n"
        "keras.backend.set_value(model.optimizer.lr, 0.0)\n"
        "model.set_weights([3 * np.eye(4, 3), np.zeros(3)])\n"
        "plain = model.evaluate(data['x'], data['y'], verbose=0)[0]\n"
        "many = np.mean([model.train_on_batch(data['x'], data['y'])[0] for _ in range(20)])\n"
        "print(loss, same, many / plain)",
        tmp_path / "model.h5",
        tmp_path / "data.npz",
    ).split()
    np.testing.assert_allclose(float(said[-3]), plain, rtol=1e-5)
    assert said[-2] == "True"
    assert float(said[-1]) > 1.5  # it still is R-Drop


def test_bert_with_two_inputs_and_masks(rng):
    from bert4keras.models import build_transformer_model
    from helpers import tiny_config

    config = dict(tiny_config(), num_hidden_layers=1)
    bert = build_transformer_model(config_path=None, model="bert", return_keras_model=False, **config)
    output = keras.layers.Dense(3, name="tags")(bert.model.output)
    model = keras.models.Model(bert.model.inputs, output)
    trained = rdrop(model)
    trained.compile("sgd", losses.RDropCrossentropy(from_logits=True))
    tokens = rng.randint(5, 20, (3, 6))
    tokens[:, 4:] = 0
    segments, y = np.zeros_like(tokens), rng.randint(0, 3, (3, 6, 1))
    log_p = log_softmax(model.predict([tokens, segments]))
    ce = -np.take_along_axis(log_p, y, -1)[..., 0]
    found = trained.test_on_batch([tokens, segments], y)
    ce[:, 4:] = 0  # Keras weights the values by the mask
    np.testing.assert_allclose(found, ce.mean(), rtol=1e-4)
    assert np.isfinite(trained.train_on_batch([tokens, segments], y))


def test_two_outputs_regression_and_multilabel(rng):
    x = keras.layers.Input([4])
    h = keras.layers.Dropout(0.5)(x)
    model = keras.models.Model(x, [keras.layers.Dense(1, name="score")(h), keras.layers.Dense(5, name="tags")(h)])
    trained = rdrop(model)
    trained.compile(
        "sgd",
        {
            "score": losses.RDropCrossentropy(divergence="mse", alpha=1.0),
            "tags": losses.RDropCrossentropy(divergence="multilabel"),
        },
    )
    data, score, tags = rng.randn(5, 4), rng.randn(5, 1), (rng.rand(5, 5) > 0.5).astype("f")
    found = trained.evaluate(data, [score, tags], verbose=0)
    a, b = model.predict(data)
    wanted = [((a - score) ** 2).mean(), K.eval(losses.multilabel_crossentropy(tags, K.constant(b))).mean()]
    np.testing.assert_allclose(found[1:], wanted, rtol=1e-4)
    assert np.isfinite(trained.train_on_batch(data, [score, tags])).all()


def test_no_dropout_is_warned_of_and_inputs_are_needed():
    with pytest.warns(UserWarning, match="training.rdrop: nothing random feeds"):
        rdrop(dropout_model(0.0))
    with pytest.raises(ValueError, match="symbolic inputs"):
        rdrop(keras.models.Sequential())
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        rdrop(dropout_model())


@pytest.mark.all_stacks
@pytest.mark.parametrize("kind", ["functional", "sequential"])
def test_the_model_stays_usable_beside_its_training_model(kind, rng, tmp_path):
    if kind == "functional":
        model = dropout_model()
    else:
        parts = [keras.layers.Dropout(0.5, input_shape=(4,)), keras.layers.Dense(3, name="logits")]
        model = keras.models.Sequential(parts, name="base")
    before = {name: getattr(model, name) for name in ("input", "output", "inputs", "outputs", "output_shape")}
    trained = rdrop(model)
    trained.compile("sgd", losses.RDropCrossentropy(from_logits=True))
    x = rng.randn(6, 4)
    trained.train_on_batch(x, rng.randint(0, 3, 6))
    for name, value in before.items():
        assert getattr(model, name) is value or getattr(model, name) == value, name
    assert model.get_layer("logits").output is before["output"]
    # Further layers, a second training model, and files, of either.
    more = keras.models.Model(model.input, keras.layers.Dense(2)(model.output))
    assert more.predict(x).shape == (6, 2)
    expected = model.predict(x)
    np.testing.assert_allclose(rdrop(model, name="again").predict(x), expected, rtol=1e-6)
    for name, one in (("model", model), ("trained", trained)):
        one.save(str(tmp_path / name) + ".h5", include_optimizer=False)
        loaded = keras.models.load_model(str(tmp_path / name) + ".h5", compile=False)
        np.testing.assert_allclose(loaded.predict(x), expected, rtol=1e-6)
    np.testing.assert_allclose(trained.get_layer("base").predict(x), expected, rtol=1e-6)


@pytest.mark.all_stacks
def test_a_loss_of_the_models_own_is_used_or_refused():
    model = dropout_model()
    model.add_loss(K.sum(model.outputs[0]))
    if is_tf_keras:
        trained = rdrop(model)
        trained.compile("sgd", losses.RDropCrossentropy(from_logits=True))
        assert np.isfinite(trained.train_on_batch(np.ones([2, 4]), np.zeros(2)))
    else:
        with pytest.raises(ValueError, match="'base' has a loss that was added with model.add_loss"):
            rdrop(model)
