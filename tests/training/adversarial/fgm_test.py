"""FGM: values against the perturbed weights put in by hand, what it composes with, what it refuses."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import ConditionalRandomField
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras import losses, optimizers
from kexue_keras.backend import K, keras, set_seed
from kexue_keras.training import rdrop
from kexue_keras.training.adversarial import FGM
from kexue_keras.training.recompute._recompute import recompute

SGD = keras.optimizers.SGD
E = np.array([[0.1, -0.2], [0.3, 0.4], [-0.5, 0.2]])
W = np.array([[0.7], [-1.1]])


def softplus(x):
    return np.logaddexp(0, x)


def spec_model(bias=False):
    """L = softplus(-w . sum E[ids]), of the specification."""
    ids = keras.layers.Input([None])
    x = keras.layers.Embedding(3, 2, name="tokens")(ids)
    x = keras.layers.Lambda(lambda t: K.sum(t, 1))(x)
    model = keras.models.Model(ids, keras.layers.Dense(1, use_bias=False)(x))
    model.set_weights([E, W])
    return model


def logistic(y_true, y_pred):
    return K.softplus(-y_true * y_pred)


@pytest.fixture
def float64():
    K.set_floatx("float64")
    yield
    K.set_floatx("float32")


def test_the_example_of_the_specification(float64):
    model = spec_model()
    model.compile(SGD(0.1), logistic)
    FGM(model, epsilon=0.5)
    found = dict(zip(model.metrics_names, model.train_on_batch(np.array([[1, 2, 1]]), np.ones((1, 1)))))
    np.testing.assert_allclose(found["loss"], 2.5675631716, rtol=1e-7)  # without the 1e-8 beside the norm
    np.testing.assert_allclose(found["clean_loss"], 1.335281510219936, rtol=1e-7)
    G = np.array([[0, 0], [-1.031682254182, 1.621214970826], [-0.515841127036, 0.810607485469]])
    near = E + 0.5 * G / np.linalg.norm(G)
    slope = -1 / (1 + np.exp((near[[1, 2, 1]].sum(0) @ W).item()))
    wanted = E - 0.1 * slope * np.array([[0], [2], [1]]) * W.T
    np.testing.assert_allclose(model.get_weights()[0], wanted, rtol=1e-7)
    assert (model.get_weights()[0][0] == E[0]).all()  # not in the batch
    np.testing.assert_allclose(model.get_weights()[1], W - 0.1 * slope * near[[1, 2, 1]].sum(0)[:, None], rtol=1e-7)


def test_output_has_a_norm_for_each_sample(float64, rng):
    model = spec_model()
    model.compile(SGD(0.0), logistic)
    FGM(model, epsilon=0.3, target="output", clean_weight=0.25, adversarial_weight=2.0)
    for n in (3, 5):
        ids, y = rng.randint(0, 3, (4, n)), np.array([[1.0], [-1], [1], [-1]])
        margin = y * (E[ids].sum(1) @ W)
        found = dict(zip(model.metrics_names, model.train_on_batch(ids, y)))
        clean, attacked = softplus(-margin).mean(), softplus(-margin + 0.3 * np.sqrt(n) * np.linalg.norm(W)).mean()
        np.testing.assert_allclose(found["clean_loss"], clean, rtol=1e-6)
        np.testing.assert_allclose(found["loss"], 0.25 * clean + 2 * attacked, rtol=1e-6)


def rich_model(tied=False, regularizer=None):
    """Two inputs, two outputs, masks, and at choice an output tied to the embeddings."""
    tokens, extra = keras.layers.Input([None], name="tokens"), keras.layers.Input([2], name="extra")
    table = keras.layers.Embedding(9, 4, mask_zero=True, embeddings_regularizer=regularizer, name="Embedding-Token")
    h = keras.layers.Dense(4, activation="tanh", name="mix")(table(tokens))
    if tied:
        tags = keras.layers.Lambda(
            lambda t: K.softmax(K.dot(t, K.transpose(table.embeddings))), mask=lambda t, m: m, name="tags"
        )(h)
    else:
        tags = keras.layers.Dense(9, activation="softmax", name="tags")(h)
    pooled = keras.layers.Lambda(lambda t: K.max(t, 1), mask=lambda t, m: None)(h)
    pooled = keras.layers.concatenate([pooled, extra])
    score = keras.layers.Dense(1, name="score")(pooled)
    return keras.models.Model([tokens, extra], [tags, score])


def rich_data(rng, rows=6, length=5):
    tokens = rng.randint(1, 9, (rows, length))
    tokens[::2, length - 2 :] = 0
    y = [rng.randint(0, 9, (rows, length, 1)), rng.randn(rows, 1)]
    return [tokens, rng.randn(rows, 2)], y


def by_hand(model, x, y, epsilon, rate, **kwargs):
    """Loss of the attacked model and weights after a step of SGD, in the way of the article: with set_value."""
    matrix = model.get_layer("Embedding-Token").embeddings
    before = model.get_weights()
    model.train_on_batch(x, y, **kwargs)  # SGD(1): what is subtracted is the gradient
    names = [w.name for w in model.weights]
    place = names.index(matrix.name)
    gradient = before[place] - model.get_weights()[place]
    model.set_weights(before)
    K.set_value(matrix, before[place] + epsilon * gradient / (np.linalg.norm(gradient) + 1e-8))
    moved = model.get_weights()
    loss = np.ravel(model.train_on_batch(x, y, **kwargs))[0]
    after = [b - rate * (m - a) for b, m, a in zip(before, moved, model.get_weights())]
    model.set_weights(before)
    return loss, after


@pytest.mark.parametrize("tied", [False, True])
def test_equals_the_matrix_moved_and_put_back(rng, tied):
    # Where the matrix is read as a whole too, its gradient is dense.
    model = rich_model(tied, "l2" if tied else None)
    loss = {"tags": "sparse_categorical_crossentropy", "score": "mse"}
    x, y = rich_data(rng)
    kwargs = {"sample_weight": {"tags": rng.rand(6), "score": rng.rand(6)}}
    model.compile(SGD(1.0), loss, loss_weights={"tags": 0.7, "score": 2.0})
    clean = model.test_on_batch(x, y, **kwargs)[0]
    wanted, weights = by_hand(model, x, y, 0.5, 0.1, **kwargs)
    before = model.get_weights()
    K.set_value(model.optimizer.lr, 0.1)
    fgm = FGM(model, epsilon=0.5)
    found = dict(zip(model.metrics_names, model.train_on_batch(x, y, **kwargs)))
    np.testing.assert_allclose([found["loss"], found["clean_loss"]], [wanted, clean], rtol=1e-4)
    for a, b in zip(model.get_weights(), weights):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert wanted > clean + 0.01

    # Without a rate, not one bit of a weight changes in any number of steps.
    model.set_weights(before)
    K.set_value(model.optimizer.lr, 0.0)
    model.fit(x, y, epochs=10, batch_size=2, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights()))
    np.testing.assert_allclose(model.test_on_batch(x, y, **kwargs)[0], clean, rtol=1e-6)
    # Another length; then all is as before.
    longer = rich_data(rng, length=8)
    assert np.isfinite(model.train_on_batch(*longer)).all()
    fgm.disable()
    np.testing.assert_allclose(model.train_on_batch(x, y, **kwargs)[0], clean, rtol=1e-6)
    assert "clean_loss" not in model.metrics_names


def test_through_a_loop(rng):
    tokens, crf = keras.layers.Input([None]), ConditionalRandomField()
    x = keras.layers.Embedding(9, 4, mask_zero=True, name="Embedding-Token")(tokens)
    model = keras.models.Model(tokens, crf(keras.layers.Dense(3)(keras.layers.GRU(3, return_sequences=True)(x))))
    model.set_weights([w + rng.randn(*w.shape) for w in model.get_weights()])
    x, y = rng.randint(1, 9, (5, 6)), rng.randint(0, 3, (5, 6))
    x[:2, 4:] = 0
    model.compile(SGD(1.0), crf.sparse_loss)
    wanted, weights = by_hand(model, x, y, 0.5, 0.1)
    K.set_value(model.optimizer.lr, 0.1)
    FGM(model, attack_dropout=True)
    np.testing.assert_allclose(model.train_on_batch(x, y)[0], wanted, rtol=1e-5)
    for a, b in zip(model.get_weights(), weights):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def classifier(dropout=0.0, vocabulary=9):
    tokens = keras.layers.Input([None])
    x = keras.layers.Embedding(vocabulary, 4, name="Embedding-Token")(tokens)
    x = keras.layers.Dropout(dropout)(keras.layers.Dense(5, activation="tanh")(x))
    x = keras.layers.GlobalAveragePooling1D()(x)
    return keras.models.Model(tokens, keras.layers.Dense(3, activation="softmax")(x))


def tokens_and_labels(rng, rows=6):
    return rng.randint(0, 9, (rows, 4)), rng.randint(0, 3, rows)


def test_the_loss_grows_by_epsilon_times_the_norm(rng):
    model = classifier()
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    FGM(model, epsilon=1e-3)
    labels = K.placeholder((None, 1))
    loss = K.mean(K.sparse_categorical_crossentropy(labels, model.output))
    gradient = tf.convert_to_tensor(K.gradients(loss, model.get_layer("Embedding-Token").embeddings)[0])
    norm = K.function([model.input, labels], [tf.norm(gradient)])

    @given(seed=st.integers(0, 10**6), scale=st.floats(0.5, 3.0))
    def check(seed, scale):
        random = np.random.RandomState(seed)
        model.set_weights([scale * random.randn(*w.shape) for w in model.get_weights()])
        x, y = tokens_and_labels(random)
        loss, clean = model.train_on_batch(x, y)
        wanted = 1e-3 * float(norm([x, y[:, None]])[0])
        assert loss >= clean - 1e-6
        assert abs(loss - clean - wanted) < 0.05 * wanted + 1e-6

    check()


def test_epsilon_zero_is_identical_training_with_dropout(rng):
    x, y = tokens_and_labels(rng)
    ends = []
    for epsilon in (None, 0.0):
        K.clear_session()
        set_seed(5)
        model = classifier(dropout=0.5)
        model.compile(SGD(0.5), "sparse_categorical_crossentropy")
        if epsilon is not None:
            FGM(model, epsilon=epsilon, attack_dropout=True)
        found = [model.train_on_batch(x, y) for _ in range(3)]
        ends.append(model.get_weights())
    # The attack and the step after it have the same masks, else these would differ.
    assert all(loss == clean for loss, clean in found)
    for a, b in zip(*ends):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_an_attack_without_dropout_sees_what_evaluation_sees(rng):
    x, y = tokens_and_labels(rng)
    model = classifier(dropout=0.5)
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    plain = model.test_on_batch(x, y)
    FGM(model, epsilon=0.1)
    found = np.array([model.train_on_batch(x, y) for _ in range(5)])
    np.testing.assert_allclose(found[:, 1], plain, rtol=1e-6)
    assert len(set(found[:, 0])) == 5  # the step itself has dropout


def test_optimizers_that_wrap_others(rng):
    x, y = tokens_and_labels(rng)
    start = classifier()
    weights = start.get_weights()
    start.compile(SGD(1.0), "sparse_categorical_crossentropy")
    FGM(start)
    gradients = []
    for half in (slice(0, 3), slice(3, 6)):
        start.set_weights(weights)
        start.train_on_batch(x[half], y[half])
        gradients.append([w - v for w, v in zip(weights, start.get_weights())])
    model = classifier()
    accumulated = optimizers.GradientAccumulation(optimizers.ExponentialMovingAverage(SGD(1.0), 0.9), 2)
    FGM(model)  # before compile
    model.compile(accumulated, "sparse_categorical_crossentropy")
    model.set_weights(weights)
    model.train_on_batch(x[:3], y[:3])
    assert all((a == b).all() for a, b in zip(weights, model.get_weights()))
    model.train_on_batch(x[3:], y[3:])
    for w, a, b, found in zip(weights, *gradients, model.get_weights()):
        np.testing.assert_allclose(found, w - (a + b) / 2, rtol=1e-4, atol=1e-6)


def test_tasks_whose_gradients_are_combined(rng):
    model = rich_model()
    loss = {"tags": "sparse_categorical_crossentropy", "score": "mse"}
    model.compile(optimizers.MultiTask(SGD(0.01), ["tags", "score"], method="mgda"), loss)
    FGM(model)
    x, y = rich_data(rng)
    found = dict(zip(model.metrics_names, model.train_on_batch(x, y)))
    assert found["loss"] > found["clean_loss"]


def test_rdrop(rng):
    x, y = tokens_and_labels(rng)
    tokens = keras.layers.Input([4])
    h = keras.layers.Dropout(0.5)(keras.layers.Flatten()(keras.layers.Embedding(9, 4)(tokens)))
    model = keras.models.Model(tokens, keras.layers.Dense(3)(h))
    model.set_weights([2 * rng.randn(*w.shape) for w in model.get_weights()])
    trained = rdrop(model)
    trained.compile(SGD(0.0), losses.RDropCrossentropy(from_logits=True))
    plain = trained.test_on_batch(x, y)
    matrix = FGM(trained, epsilon=0.0)
    loss, clean = np.mean([trained.train_on_batch(x, y) for _ in range(20)], 0)
    np.testing.assert_allclose(clean, plain, rtol=1e-5)
    assert loss > clean + 0.1  # the divergence
    matrix.disable()
    each = FGM(trained, epsilon=0.3, target="output", attack_dropout=True)
    assert all(loss > clean for loss, clean in [trained.train_on_batch(x, y) for _ in range(5)])
    each.disable()
    with FGM(trained, target="output"):
        with pytest.raises(ValueError, match="set attack_dropout=True, or take target='matrix'"):
            trained.train_on_batch(x, y)


def test_a_gradient_of_ones_own_belongs_to_its_pass(rng):
    @tf.custom_gradient
    def square(x):
        return x * x, lambda upstream: 2 * x * upstream

    found = []
    for function in (lambda x: x * x, square, recompute(lambda x: x * x)):
        K.clear_session()
        tokens = keras.layers.Input([None])
        x = keras.layers.Lambda(function)(keras.layers.Embedding(9, 4)(tokens))
        x = keras.layers.GlobalAveragePooling1D()(x)
        model = keras.models.Model(tokens, keras.layers.Dense(3, activation="softmax")(x))
        random = np.random.RandomState(3)
        model.set_weights([random.randn(*w.shape) for w in model.get_weights()])
        model.compile(SGD(0.1), "sparse_categorical_crossentropy")
        FGM(model)
        x, y = tokens_and_labels(np.random.RandomState(4))
        found.append([model.train_on_batch(x, y)] + model.get_weights())
    for plain, own, recomputed in zip(*found):
        np.testing.assert_allclose(own, plain, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(recomputed, plain, rtol=1e-5, atol=1e-6)


def test_recomputed_dropout(rng):
    tokens = keras.layers.Input([4])
    x = recompute(keras.layers.Dropout(0.5))(keras.layers.Embedding(9, 4)(tokens))
    x = keras.layers.Flatten()(keras.layers.Lambda(recompute(lambda t: K.tanh(2.0 * t)))(x))
    model = keras.models.Model(tokens, keras.layers.Dense(3, activation="softmax")(x))
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    x, y = tokens_and_labels(rng)
    plain = model.test_on_batch(x, y)
    with FGM(model):
        loss, clean = model.train_on_batch(x, y)
        assert loss > clean == pytest.approx(plain, rel=1e-5)
    with FGM(model, epsilon=0.0, attack_dropout=True):
        loss, clean = model.train_on_batch(x, y)
        assert loss == clean != pytest.approx(plain, rel=1e-5)


def test_saved_it_is_the_plain_model(rng, tmp_path, run_python):
    x, y = tokens_and_labels(rng)
    model = classifier(dropout=0.1)
    model.compile(optimizers.AdamW(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
    weights = len(model.get_weights())
    FGM(model)
    history = model.fit(x, y, validation_data=(x, y), batch_size=4, epochs=2, verbose=0).history
    assert len(model.get_weights()) == weights
    for name in ("loss", "clean_loss", "val_loss", "val_clean_loss"):
        assert len(history[name]) == 2 and np.isfinite(history[name]).all()
    np.testing.assert_allclose(history["val_loss"], history["val_clean_loss"], rtol=1e-5)
    model.save(str(tmp_path / "model.h5"))
    np.savez(str(tmp_path / "data.npz"), x=x, y=y)
    said = run_python(
        "import sys, numpy as np, kexue_keras.optimizers\n"
        "from kexue_keras.backend import K, keras\n"
        "model, data = keras.models.load_model(sys.argv[1]), np.load(sys.argv[2])\n"
        "print(type(model).__name__, len(model.metrics_names))\n"
        "before = int(K.get_value(model.optimizer.iterations))\n"
        "from kexue_keras.training.adversarial import FGM\n"
        "predicted = model.predict(data['x'])\n"
        "FGM(model)\n"
        "loss, _, clean = model.train_on_batch(data['x'], data['y'])\n"
        "print(before, int(K.get_value(model.optimizer.iterations)), loss > clean)\n"
        "print(' '.join('%.6f' % p for p in predicted.ravel()))\n",
        tmp_path / "model.h5",
        tmp_path / "data.npz",
    ).split("\n")
    assert said[-4].split() in (["Model", "2"], ["Functional", "2"])
    assert said[-3].split() == ["4", "5", "True"]
    np.testing.assert_allclose(np.array(said[-2].split(), "f"), model.predict(x).ravel(), atol=2e-6)


def test_half_precision_arrays_and_large_ids(rng):
    model = classifier(vocabulary=2000)
    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    FGM(model)
    x, y = rng.randint(0, 2000, (6, 4)).astype("float16"), rng.randint(0, 3, 6)
    assert np.isfinite(model.train_on_batch(x, y)).all()


def test_what_is_wrong_is_said():
    model = classifier()
    for arguments, message in [
        ({"epsilon": -1}, "epsilon must be a number >= 0, but is -1"),
        ({"epsilon": float("nan")}, "epsilon must be a number >= 0, but is nan"),
        ({"target": "rows"}, "target must be one of 'matrix', 'output', but is 'rows'"),
        ({"adversarial_weight": 0}, "both 0"),
        ({"layer": "Embedding-Tokens"}, "no layer 'Embedding-Tokens'; its Embedding layers: 'Embedding-Token'"),
    ]:
        with pytest.raises(ValueError, match=message):
            FGM(model, **arguments)
    with pytest.raises(ValueError, match="symbolic inputs"):
        FGM(keras.models.Sequential())
    FGM(model)
    with pytest.raises(ValueError, match=r"already trains with FGM; .* disable\(\)"):
        FGM(model)
    two = keras.layers.Input([None])
    pair = [keras.layers.Embedding(9, 4, name=name)(two) for name in ("left", "right")]
    with pytest.raises(ValueError, match="give layer=.*'left', 'right'"):
        FGM(keras.models.Model(two, keras.layers.add(pair)))
    dense = keras.models.Sequential([keras.layers.Dense(2, input_shape=(3,), name="dense")])
    dense.compile("sgd", "mse")
    with FGM(dense, layer="dense"), pytest.raises(ValueError, match="'dense' has no embedding matrix"):
        dense.train_on_batch(np.ones((2, 3)), np.ones((2, 2)))
