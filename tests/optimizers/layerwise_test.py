"""LayerwiseLearningRate: factors by name and depth, exact freezing, round any optimizer."""

import numpy as np
import pytest
from bert4keras.models import build_transformer_model
from helpers import tiny_config
from numpy_optimizers import Toy, adam, difference

from kexue_keras.backend import K, keras
from kexue_keras.optimizers import AdamW, LayerwiseLearningRate

optimizers = keras.optimizers


@pytest.mark.parametrize("inner", ["SGD", "AdamW", "RMSprop"])
def test_scales_the_step_of_any_optimizer(rng, inner):
    make = {
        "SGD": lambda: optimizers.SGD(0.1),
        "AdamW": lambda: AdamW(0.1, weight_decay=0.2),
        "RMSprop": lambda: optimizers.RMSprop(0.1),
    }[inner]
    plain = Toy(make(), np.random.RandomState(0))
    toy = Toy(LayerwiseLearningRate(make(), multipliers={"kernel": 0.25, "table": 0}), np.random.RandomState(0))
    batch = plain.batch(rng)
    plain.train(batch)
    toy.train(batch)
    start, whole, scaled = toy.start(), plain.values(), toy.values()
    np.testing.assert_allclose(scaled[0] - start[0], 0.25 * (whole[0] - start[0]), atol=2e-7)
    np.testing.assert_array_equal(scaled[1], whole[1])
    np.testing.assert_array_equal(scaled[2], np.float32(start[2]))


def test_equals_numpy_adam_with_three_rates_over_several_steps(rng):
    toy = Toy(LayerwiseLearningRate(AdamW(0.05, weight_decay=0.0), multipliers={"kernel": 2.0, "bias": 0.5}), rng)
    params, references = toy.start(), [adam(0.1), adam(0.025), adam(0.05)]
    for _ in range(5):
        batch = toy.batch(rng)
        toy.train(batch)
        for p, step, g in zip(params, references, toy.gradients(batch)):
            step([p], [g])
        assert difference(toy.values(), params) < 2e-6


def test_factor_zero_survives_an_infinite_gradient(rng):
    toy = Toy(LayerwiseLearningRate(optimizers.SGD(0.1), multipliers={"kernel": 0}), rng)
    batch = list(toy.batch(rng))
    batch[0] = np.full((3, 2), np.inf)
    toy.train(batch)
    np.testing.assert_array_equal(toy.values()[0], np.float32(toy.initial[0]))


@pytest.fixture
def bert():
    model = build_transformer_model(config_path=None, model="bert", with_pool=True, **tiny_config())
    output = keras.layers.Dense(2, activation="softmax", name="classifier")(model.output)
    return keras.models.Model(model.inputs, output)


def test_decay_by_depth_of_a_bert4keras_model(rng, bert):
    optimizer = LayerwiseLearningRate(AdamW(0.01), decay=0.5, multipliers={"Embedding-Token": 0, "classifier": 10})
    bert.compile(optimizer, "sparse_categorical_crossentropy")
    before = dict(zip((w.name for w in bert.trainable_weights), K.batch_get_value(bert.trainable_weights)))
    x = [rng.randint(1, 40, (4, 8)), np.zeros((4, 8))]
    bert.train_on_batch(x, rng.randint(0, 2, 4))
    factors = optimizer.factors(bert.trainable_weights)
    expected = {
        "Embedding-Token": 0,
        "Embedding-Position": 0.125,
        "Embedding-Norm": 0.125,
        "Transformer-0-": 0.25,
        "Transformer-1-": 0.5,
        "Pooler-Dense": 1,
        "classifier": 10,
    }
    found = {prefix: {v for k, v in factors.items() if k.startswith(prefix)} for prefix in expected}
    assert found == {prefix: {value} for prefix, value in expected.items()}
    # The first step of Adam is the rate itself wherever the gradient is not tiny.
    for w in bert.trainable_weights:
        moved = np.abs(K.get_value(w) - before[w.name]).max()
        assert moved <= 0.0101 * factors[w.name] + 1e-6
        if factors[w.name] == 0:
            assert moved == 0.0
        elif "query" not in w.name and "kernel" in w.name:
            assert moved > 0.004 * factors[w.name]


def test_rate_callbacks_reach_the_inner_variable(rng):
    model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,), name="one")])
    model.compile(LayerwiseLearningRate(AdamW(0.1), multipliers={"one": 0.5}), "mse")
    schedule = keras.callbacks.LearningRateScheduler(lambda epoch: 0.25)
    model.fit(rng.randn(4, 3), rng.randn(4, 1), verbose=0, callbacks=[schedule])
    assert K.get_value(model.optimizer.optimizer.lr) == 0.25


def test_bad_input(rng):
    for arguments, message in (
        ({}, "with neither nothing is done"),
        ({"multipliers": {"bias": -1}}, "multipliers\\['bias'\\] must be a number >= 0, but is -1; 0 freezes"),
        ({"multipliers": {"(": 1}}, "no regular expression"),
        ({"multipliers": ["bias"]}, r"multipliers must be a dict such as .*, but is \['bias'\]"),
        ({"decay": 0}, "decay must be a number > 0, but is 0; 0.9"),
        ({"decay": 0.9, "num_hidden_layers": 0}, "num_hidden_layers must be a whole number >= 1, but is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            LayerwiseLearningRate(AdamW(), **arguments)
    with pytest.raises(ValueError, match="'biass' is found in no trainable variable; they are named kernel:0, bias:0"):
        Toy(LayerwiseLearningRate(AdamW(), multipliers={"biass": 1}), rng)
    with pytest.raises(ValueError, match="decay goes by names like Transformer-3-FeedForward"):
        Toy(LayerwiseLearningRate(AdamW(), decay=0.9), rng)
    with pytest.raises(ValueError, match="lies outside num_hidden_layers=2"):
        LayerwiseLearningRate(AdamW(), decay=0.9).factor("Transformer-5-FeedForward/kernel:0", num_hidden_layers=2)
