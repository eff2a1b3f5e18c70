"""VAT: the direction against the eigenvector it shall find, divergences by hand, both ways to unlabelled texts."""

import numpy as np
import pytest

from kexue_keras import losses
from kexue_keras.backend import K, keras
from kexue_keras.losses import multilabel_kl
from kexue_keras.training import rdrop
from kexue_keras.training._randomness import repeatable_dropout
from kexue_keras.training.adversarial import VirtualAdversarial
from kexue_keras.training.adversarial._virtual_adversarial import kl

SGD = keras.optimizers.SGD
W = np.array([[1, -0.5, 0.2], [0.3, 0.8, -1]])
X = np.array([[0.3, -0.5, 0.8]])


@pytest.fixture
def float64():
    K.set_floatx("float64")
    yield
    K.set_floatx("float32")


def test_it_finds_the_eigenvector_of_the_specification(float64):
    inputs = keras.layers.Input([3], name="x")
    model = keras.models.Model(inputs, keras.layers.Dense(2, use_bias=False, activation="softmax")(inputs))
    model.set_weights([W.T])
    vat = VirtualAdversarial(model, layer="x", target="output", epsilon=0.5, xi=1e-3, optimizer=SGD(0.0))
    found = np.array([vat.train_on_batch(X) for _ in range(12)])
    # The sign of u is left to chance.
    wanted = np.array([0.04318029767728809, 0.06749631992973537])
    nearest = abs(found[:, None] - wanted).min(-1)
    assert nearest.max() < 2e-7 and len(set(abs(found[:, None] - wanted).argmin(-1))) == 2


def test_kl_is_the_formula_also_where_a_class_is_out():
    a, b = np.array([[1.0, 0.0, -1.0], [2.0, -np.inf, 0.0]]), np.array([[0.5, 0.3, -0.2], [1.0, -np.inf, 1.0]])
    p, q = (np.exp(s) / np.exp(s).sum(-1, keepdims=True) for s in (a, b))
    with np.errstate(all="ignore"):
        wanted = np.where(p > 0, p * np.log(p / q), 0).sum(-1)
    np.testing.assert_allclose(K.eval(kl(K.constant(a), K.constant(b))), wanted, rtol=1e-5)


def classifier(activation="softmax", dropout=0.0, classes=3, mask_zero=False):
    tokens = keras.layers.Input([None])
    x = keras.layers.Embedding(9, 4, name="Embedding-Token", mask_zero=mask_zero)(tokens)
    x = keras.layers.Dropout(dropout)(keras.layers.Dense(5, activation="tanh")(x))
    x = keras.layers.GlobalAveragePooling1D()(x)
    model = keras.models.Model(tokens, keras.layers.Dense(classes, activation=activation, name="answer")(x))
    random = np.random.RandomState(3)
    model.set_weights([random.randn(*w.shape) for w in model.get_weights()])
    return model


def data(rng, rows=6):
    return rng.randint(1, 9, (rows, 4)), rng.randint(0, 3, rows)


@pytest.mark.parametrize("target", ["matrix", "output"])
def test_unlabelled_rows_in_the_batches_of_fit(rng, target):
    x, y = data(rng)
    model = classifier(dropout=0.3)
    model.compile(SGD(0.1), "sparse_categorical_crossentropy", metrics=["accuracy"])
    before = model.get_weights()
    vat = VirtualAdversarial(model, target=target, weight=0.5)
    nothing = model.fit(x, y, sample_weight=np.zeros(6), verbose=0).history
    assert nothing["clean_loss"][0] == 0 and nothing["loss"][0] > 1e-6
    assert not (before[0] == model.get_weights()[0]).all()
    has_label = np.array([1.0, 0, 1, 0, 0, 0])
    history = model.fit(x, y, sample_weight=has_label, validation_data=(x, y), batch_size=3, verbose=0).history
    assert history["loss"][0] > history["clean_loss"][0]
    np.testing.assert_allclose(history["val_loss"], history["val_clean_loss"], rtol=1e-5)
    vat.disable()
    assert "clean_loss" not in model.metrics_names


def test_without_a_perturbation_nothing_but_dropout_is_left(rng):
    x, y = data(rng)
    model = classifier(dropout=0.5)
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    with VirtualAdversarial(model, epsilon=0.0, attack_dropout=True):
        loss, clean = model.train_on_batch(x, y)
        np.testing.assert_allclose(loss, clean, rtol=1e-6)
    with VirtualAdversarial(model, epsilon=0.0):
        loss, clean = model.train_on_batch(x, y)
        assert loss > clean + 1e-3


def test_power_iteration_finds_more_than_noise(rng):
    x, _ = data(rng)
    model = classifier()
    means = []
    for iterations in (0, 1, 3):
        vat = VirtualAdversarial(model, target="output", epsilon=0.3, xi=0.1, iterations=iterations, optimizer=SGD(0.0))
        found = [vat.train_on_batch(x) for _ in range(15)]
        assert min(found) > 0
        means.append(np.mean(found))
    assert means[1] > 1.5 * means[0] and means[2] > 0.95 * means[1]


def test_batches_of_their_own_after_each_labelled_one(rng):
    x, y = data(rng)
    model = classifier(dropout=0.3)
    model.compile(SGD(0.0), "sparse_categorical_crossentropy")
    vat = VirtualAdversarial(model, optimizer=SGD(0.5))
    unlabelled = [rng.randint(1, 9, (4, 6)), rng.randint(1, 9, (3, 5))]
    before = model.get_weights()
    history = model.fit(x, y, batch_size=2, epochs=2, verbose=0, callbacks=[vat.after_each_batch(unlabelled)]).history
    assert len(history["vat_loss"]) == 2 and min(history["vat_loss"]) > 0
    assert not any((a == b).all() for a, b in zip(before[:3], model.get_weights()))
    assert model.metrics_names == ["loss"]
    K.set_value(vat.optimizer.lr, 1.0)
    losses_seen = [vat.train_on_batch(unlabelled[0]) for _ in range(40)]
    assert np.mean(losses_seen[-10:]) < np.mean(losses_seen[:10])


def test_the_same_again_where_dropout_can_be_repeated(rng):
    x, y = data(rng)
    with repeatable_dropout(1) as step:
        model = classifier(dropout=0.5)
        model.compile(SGD(0.0), "sparse_categorical_crossentropy")
        VirtualAdversarial(model)
        found = []
        for number in (3, 4, 3):
            step.set(number)
            found.append(model.train_on_batch(x, y)[0])
    assert found[0] == found[2] != found[1]


def test_divergences_of_several_outputs_and_masks(rng):
    x, y = data(rng)
    x[:, 2:] = 0
    tokens = keras.layers.Input([None])
    h = keras.layers.Embedding(9, 4, mask_zero=True)(tokens)
    tags = keras.layers.Dense(3, activation="softmax", name="tags")(h)
    pooled = keras.layers.GlobalAveragePooling1D()(h)
    labels = keras.layers.Dense(5, activation="sigmoid", name="labels")(pooled)
    score = keras.layers.Dense(1, name="score")(pooled)
    model = keras.models.Model(tokens, [tags, labels, score])

    def divergence(**by_name):
        vat = VirtualAdversarial(model, divergence=by_name, target="output", iterations=0, optimizer=SGD(0.0))
        return vat.train_on_batch(x)

    # Positions 0 and 1 count; the mean over all four would be 1.5.
    seen = []
    number = divergence(
        tags=lambda a, b: K.cumsum(K.ones_like(a[..., 0]), 1) - 1 + 0 * b[..., 0],
        labels=lambda a, b: seen.append((a, b)) or 0 * K.sum(b, -1),
    )
    np.testing.assert_allclose(number, 0.5, rtol=1e-6)
    assert seen and seen[0][0].shape.as_list() == [None, 5]
    assert divergence(tags="kl", labels="multilabel", score="mse") > 0


def test_probabilities_and_logits_give_the_same(rng):
    x, _ = data(rng)
    found = []
    for activation, from_logits in (("linear", None), ("sigmoid", False)):
        K.clear_session()
        with repeatable_dropout(1):
            vat = VirtualAdversarial(
                classifier(activation),
                divergence="multilabel",
                from_logits=from_logits,
                target="output",
                optimizer=SGD(0.0),
            )
            found.append(vat.train_on_batch(x))
    np.testing.assert_allclose(found, found[0], rtol=1e-3)
    assert multilabel_kl is losses.multilabel_kl


def test_what_is_wrong_is_said(rng):
    model = classifier()
    for arguments, message in [
        ({"xi": 0}, "xi must be a number > 0, but is 0"),
        ({"iterations": 1.5}, "iterations must be a whole number >= 0, but is 1.5"),
        ({"divergence": "js"}, "divergence must be one of 'kl', 'multilabel', 'mse', but is 'js'"),
        ({"divergence": {"anser": "kl"}}, r"no output anser; it has \['answer'\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            VirtualAdversarial(model, **arguments)
    vat = VirtualAdversarial(model, optimizer=SGD(0.1))
    with pytest.raises(ValueError, match="2 inputs|1 inputs, but got 2 arrays"):
        vat.train_on_batch([np.ones((2, 3)), np.ones((2, 3))])
    with pytest.raises(ValueError, match="has its own optimizer"):
        vat.enable()
    model.compile("sgd", "sparse_categorical_crossentropy")
    with VirtualAdversarial(model) as on, pytest.raises(ValueError, match="need an optimizer"):
        on.train_on_batch(np.ones((2, 3)))
    with pytest.raises(ValueError, match="one class"):
        VirtualAdversarial(classifier("sigmoid", classes=1), optimizer=SGD(0.1)).train_on_batch(np.ones((2, 3)))
    with pytest.raises(ValueError, match="give from_logits=True or False"):
        VirtualAdversarial(rdrop(classifier(dropout=0.5)), optimizer=SGD(0.1)).train_on_batch(np.ones((2, 3)))
