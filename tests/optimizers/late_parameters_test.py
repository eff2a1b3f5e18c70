"""Parameters that come later than the first update: unfrozen layers, the model of the next fold, two models in turn."""

import warnings

import numpy as np
import pytest
import tensorflow as tf
from numpy_optimizers import adam, difference, sgd

from kexue_keras.backend import K, get_session, keras, registered, tf1
from kexue_keras.optimizers import (
    AdamW,
    Distributed,
    ExponentialMovingAverage,
    ExponentiatedGradient,
    ExponentiatedStepSize,
    ExponentiatedStepSizeMomentum,
    FlushAccumulation,
    GradientAccumulation,
    LayerwiseLearningRate,
    Lookahead,
    MomentumAccumulationAdamW,
    MomentumAccumulationSGD,
    MultiTask,
    Optimizer,
    PiecewiseLinear,
    WarmupCosine,
    WarmupInverseSquareRoot,
)
from kexue_keras.optimizers._inner import chain
from kexue_keras.training.precision import LossScale

optimizers = keras.optimizers
UPDATES = 6


def adamw():
    return AdamW(0.1, weight_decay=0.05)


def momentum():
    return MomentumAccumulationSGD(0.1, steps=1)


# What makes one, and how many steps it takes for an update.
CASES = {
    "AdamW": (adamw, 1),
    "LAMB": (lambda: AdamW(0.1, layer_adaptation=True), 1),
    "ExponentialMovingAverage": (lambda: ExponentialMovingAverage(adamw(), 0.8), 1),
    "ExponentiatedGradient": (lambda: ExponentiatedGradient(0.1), 1),
    "ExponentiatedStepSize": (lambda: ExponentiatedStepSize(adamw(), gamma=0.1), 1),
    # The scale of the whole model is no state of one parameter.
    "ExponentiatedStepSizeMomentum": (lambda: ExponentiatedStepSizeMomentum(0.1, gamma_p=0.1, gamma_s=0.0), 1),
    "GradientAccumulation": (lambda: GradientAccumulation(Lookahead(adamw(), steps=3), 2, skip_nonfinite=True), 2),
    "LayerwiseLearningRate": (lambda: LayerwiseLearningRate(adamw(), multipliers={".": 0.5}), 1),
    "Lookahead": (lambda: Lookahead(ExponentialMovingAverage(adamw(), 0.8), steps=3), 1),
    "LossScale": (lambda: LossScale(adamw(), 8.0), 1),
    "MomentumAccumulationAdamW": (lambda: MomentumAccumulationAdamW(0.1, steps=2), 2),
    "MomentumAccumulationSGD": (lambda: MomentumAccumulationSGD(0.1, steps=2), 2),
    "MultiTask": (lambda: MultiTask(adamw(), inner_product="variable"), 1),
    "Distributed": (lambda: Distributed(momentum()), 1),
    # The rate goes by the updates of the optimizer, so these stand round one without a correction of its own.
    "PiecewiseLinear": (lambda: PiecewiseLinear(momentum(), {3: 1.0, 9: 0.2}), 1),
    "WarmupCosine": (lambda: WarmupCosine(momentum(), warmup=3, total=20), 1),
    "WarmupInverseSquareRoot": (lambda: WarmupInverseSquareRoot(momentum(), warmup=3), 1),
}
SCHEDULES = ("PiecewiseLinear", "WarmupCosine", "WarmupInverseSquareRoot")


class Two:
    """Matrices `early` and `late`, of two task losses; the gradients of a step are what is fed, plus a constant."""

    def __init__(self, optimizer, rng):
        self.optimizer, self.start = optimizer, [1.0 + rng.rand(3, 2), 1.0 + rng.rand(2, 2)]
        self.params = [K.variable(w, name=name) for w, name in zip(self.start, ("early", "late"))]
        self.feeds = [tf1.placeholder("float32", w.shape) for w in self.start]
        self.constant = tf1.placeholder_with_default(np.float32(0.3), ())
        self.steps = {}

    def _term(self, factors, which):
        parts = [tf.reshape(self.params[i] * factors[i], [-1]) for i in which]
        return tf.reduce_sum(tf.concat(parts, 0))

    def compile(self, *which):
        """Build the training graph for these parameters, as `compile` and `fit` do."""
        loss = self._term(self.feeds, which) + self._term([self.constant] * 2, which)
        params = [self.params[i] for i in which]
        self.steps[which] = tf.group(*self.optimizer.get_updates(loss=loss, params=params))
        K.batch_get_value(self.params)

    def train(self, gradients, *which):
        """One step; gradients are those of both parameters."""
        get_session().run(self.steps[which], dict(zip(self.feeds, [g - np.float32(0.3) for g in gradients])))

    def values(self):
        return K.batch_get_value(self.params)

    def gradients(self, rng, times):
        return [[rng.randn(*w.shape).astype("float32") for w in self.start] for _ in range(times)]


def averages(optimizer):
    return {
        param.name.split("/")[-1].split(":")[0].split("_")[0]: K.get_value(average)
        for one in chain(optimizer)
        if isinstance(one, ExponentialMovingAverage)
        for param, average in one.states("average")
    }


def test_every_optimizer_of_the_package_is_here():
    assert set(registered(Optimizer)) == set(CASES) - {"LAMB"}


@pytest.mark.dear
@pytest.mark.parametrize("name", sorted(CASES))
def test_a_later_parameter_is_trained_as_by_an_optimizer_of_its_own(rng, name):
    """And the earlier one as if nothing had come; the optimizers of their own have one parameter each."""
    make, steps = CASES[name]
    together = Two(make(), np.random.RandomState(1))
    alone = [Two(make(), np.random.RandomState(1)) for _ in range(2)]
    first, second = (together.gradients(rng, UPDATES * steps) for _ in range(2))
    together.compile(0)
    for i in range(2):
        alone[i].compile(i)
    for gradients in first:
        together.train(gradients, 0)
        alone[0].train(gradients, 0)
    # The new one comes first, as an encoder below a head.
    together.compile(1, 0)
    if name in SCHEDULES:
        K.set_value(alone[1].optimizer.iterations, UPDATES)
    for n, gradients in enumerate(second, 1):
        together.train(gradients, 1, 0)
        for i in range(2):
            alone[i].train(gradients, i)
        expected = [one.values()[i] for i, one in enumerate(alone)]
        assert difference(together.values(), expected) < 1e-6
        of_both = {key: value for one in alone for key, value in averages(one.optimizer).items()}
        seen = averages(together.optimizer)
        assert set(seen) == set(of_both) and all(np.abs(seen[k] - of_both[k]).max() < 1e-6 for k in seen)
    assert np.abs(together.values()[1] - together.start[1]).max() > 0.01


@pytest.mark.parametrize("layer_adaptation", [False, True])
def test_adamw_equals_numpy(rng, layer_adaptation):
    two = Two(AdamW(0.1, weight_decay=0.05, layer_adaptation=layer_adaptation), rng)
    exact = [np.float32(w).astype("float64") for w in two.start]
    steps = [adam(0.1, weight_decay=[0.05], lamb=layer_adaptation) for _ in exact]
    for which in ((0,), (1, 0), (1,)):
        two.compile(*which)
        for gradients in two.gradients(rng, 4):
            two.train(gradients, *which)
            for i in which:
                steps[i]([exact[i]], [gradients[i].astype("float64")])
            assert difference(two.values(), exact) < 2e-6
    # Frozen for four updates, trained on: its moments are as old as before.
    two.compile(0)
    gradients = two.gradients(rng, 1)[0]
    two.train(gradients, 0)
    steps[0]([exact[0]], [gradients[0].astype("float64")])
    assert difference(two.values(), exact) < 2e-6


def test_lookahead_and_average_equal_numpy_in_the_middle_of_a_round(rng):
    """The exchange stays every third update of the optimizer; a new slow weight is a copy of when it came."""
    average = ExponentialMovingAverage(optimizers.SGD(0.1), 0.8)
    two = Two(Lookahead(average, steps=3), rng)
    exact = [np.float32(w).astype("float64") for w in two.start]
    slow, sums, seen, count = [w.copy() for w in exact], [0 * w for w in exact], [0, 0], 0
    for which, times in (((0,), 4), ((1, 0), 7)):
        two.compile(*which)
        for gradients in two.gradients(rng, times):
            two.train(gradients, *which)
            count += 1
            for i in which:
                exact[i] -= 0.1 * gradients[i].astype("float64")
                sums[i], seen[i] = 0.8 * sums[i] + 0.2 * exact[i], seen[i] + 1
                if count % 3 == 0:
                    slow[i] += 0.5 * (exact[i] - slow[i])
                    exact[i][:] = slow[i]
            assert difference(two.values(), exact) < 2e-6
            for i in which:
                value = K.get_value(average.state("average", two.params[i]))
                assert np.abs(value - sums[i] / (1 - 0.8 ** seen[i])).max() < 2e-6


def test_what_was_frozen_for_a_while_begins_anew_with_a_copy(rng):
    average = ExponentialMovingAverage(Lookahead(optimizers.SGD(0.0), steps=1), 0.9)
    two = Two(average, rng)
    for which, value in (((1, 0), 1.0), ((1,), 2.0), ((1, 0), 3.0)):
        two.compile(*which)
        K.set_value(two.params[0], np.full((3, 2), value))
        two.train(two.gradients(rng, 1)[0], *which)
    # Neither the slow weight nor the average of the time before it was frozen.
    assert (two.values()[0] == 3.0).all() and (averages(average)["early"] == 3.0).all()


def test_averages_of_what_has_seen_no_update_are_not_put_into_the_model(rng):
    average = ExponentialMovingAverage(optimizers.SGD(0.1), 0.9)
    two = Two(average, rng)
    two.compile(0)
    two.train(two.gradients(rng, 1)[0], 0)
    two.compile(1, 0)
    before = two.values()
    with average.averaged():
        np.testing.assert_array_equal(two.values()[1], before[1])
    assert difference(two.values(), before) == 0.0


# Keras models


def frozen_then_not(optimizer, after=8):
    """A model of an encoder and a head, trained with the encoder frozen, then `after` steps with everything."""
    encoder = keras.layers.Dense(3, kernel_initializer="ones", input_shape=(3,), name="encoder")
    model = keras.models.Sequential([encoder, keras.layers.Dense(1, name="head")])
    x, y = np.ones((2, 3)), np.ones((2, 1))
    for trainable, times in ((False, 5), (True, after)):
        encoder.trainable = trainable
        model.compile(optimizer, "mse")
        for _ in range(times):
            model.train_on_batch(x, y)
    return model, encoder


@pytest.mark.parametrize("wrap", [lambda o: Lookahead(o, steps=5), lambda o: ExponentialMovingAverage(o, 0.99)])
def test_unfrozen_layers_keep_their_weights(wrap):
    """The kernel of ones was 0.4996 and its average 0.520."""
    optimizer = wrap(AdamW(1e-4))
    _, encoder = frozen_then_not(optimizer)
    assert np.abs(encoder.get_weights()[0] - 1).max() < 2e-3
    for value in averages(optimizer).values():
        assert np.abs(value).max() < 1.01
    if isinstance(optimizer, ExponentialMovingAverage):
        optimizer.apply()
        assert np.abs(encoder.get_weights()[0] - 1).max() < 2e-3


def chain_of_three():
    return GradientAccumulation(Lookahead(ExponentialMovingAverage(adamw(), 0.8), steps=3), 2)


def test_saved_and_loaded_with_a_late_layer_it_goes_on_the_same(tmp_path):
    """A fresh optimizer makes the slots in the order of the weights, not of their coming."""
    model, _ = frozen_then_not(chain_of_three(), after=4 * 2 + 1)
    model.save(str(tmp_path / "model.h5"))
    x, y = np.array([[1.0, 2.0, 0.0]]), np.ones((1, 1))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Error in loading the saved optimizer")
        loaded = keras.models.load_model(str(tmp_path / "model.h5"))
    saved, read = model.optimizer.get_weights(), loaded.optimizer.get_weights()
    assert len(saved) == len(read) and difference(saved, read) == 0.0
    for _ in range(5):
        for one in (model, loaded):
            one.train_on_batch(x, y)
        assert difference(model.get_weights(), loaded.get_weights()) < 1e-7


def test_weights_of_optimizers_without_late_parameters_stay_what_they_were():
    model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    model.compile(chain_of_three(), "mse")
    for _ in range(3):
        model.train_on_batch(np.ones((2, 3)), np.ones((2, 1)))
    slot = [(3, 1), (1,)]
    # micro_step and buffers; count and slow weights; count and averages; iterations, m and v
    assert [w.shape for w in model.optimizer.get_weights()] == [()] + slot + [()] + slot + [()] + slot + [
        (),
        (3, 1),
        (3, 1),
        (1,),
        (1,),
    ]


def test_weights_that_do_not_belong_are_refused_and_nothing_is_set():
    model, _ = frozen_then_not(chain_of_three(), after=8)
    optimizer = model.optimizer
    saved = optimizer.get_weights()
    again = [w + 1 for w in saved]
    for bad in (again[1:], again + [np.zeros(3)], again[:3] + [np.zeros((7, 7))] + again[4:], []):
        with pytest.raises(ValueError, match="are not the weights of GradientAccumulation"):
            optimizer.set_weights(bad)
        assert difference(optimizer.get_weights(), saved) == 0.0
    # As saved by an earlier version, or before the layer came: nobody came late.
    short = [w for w in saved if not (w.dtype.kind == "i" and w.ndim)]
    assert len(short) == len(saved) - 3
    optimizer.set_weights(short)
    assert difference(optimizer.get_weights(), short) == 0.0
    optimizer.set_weights(saved)
    assert difference(optimizer.get_weights(), saved) == 0.0


# Windows


WINDOWED = {
    "buffers": (lambda: GradientAccumulation(optimizers.SGD(0.1), 3), lambda: sgd(0.1)),
    "momentum": (lambda: MomentumAccumulationSGD(0.1, steps=3, momentum=0.0), lambda: sgd(0.1)),
}


@pytest.mark.parametrize("kind", sorted(WINDOWED))
def test_an_unfinished_window_does_not_reach_another_model(rng, kind):
    """As in a loop over folds with one optimizer: two of three micro batches of the old model stay in the window."""
    make, exact = WINDOWED[kind]
    two, step = Two(make(), rng), exact()
    two.compile(0)
    for gradients in two.gradients(rng, 5):
        two.train(gradients, 0)
    with pytest.warns(UserWarning, match="without the 2 micro batches of the old one"):
        two.compile(1)
    expected = np.float32(two.start[1]).astype("float64")
    window = two.gradients(rng, 3)
    for n, gradients in enumerate(window, 1):
        np.testing.assert_array_equal(two.values()[1], np.float32(two.start[1]))
        two.train(gradients, 1)
        assert int(K.get_value(two.optimizer.micro_step)) == n % 3
    step([expected], [sum(g[1].astype("float64") for g in window) / 3])
    assert np.abs(two.values()[1] - expected).max() < 1e-6


def test_unfreezing_in_the_middle_of_a_window_begins_a_new_one(rng):
    two, step = Two(GradientAccumulation(optimizers.SGD(0.1), 3), rng), sgd(0.1)
    two.compile(0)
    two.train(two.gradients(rng, 1)[0], 0)
    with pytest.warns(UserWarning, match="without the 1 micro batches"):
        two.compile(1, 0)
    expected = [np.float32(w).astype("float64") for w in two.start]
    window = two.gradients(rng, 3)
    for gradients in window:
        two.train(gradients, 1, 0)
    step(expected, [sum(g[i].astype("float64") for g in window) / 3 for i in range(2)])
    assert difference(two.values(), expected) < 1e-6


def test_compiling_again_with_the_same_weights_goes_on_with_the_window(rng):
    two = Two(GradientAccumulation(optimizers.SGD(0.1), 3), rng)
    two.compile(0, 1)
    two.train(two.gradients(rng, 1)[0], 0, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two.compile(0, 1)
    assert int(K.get_value(two.optimizer.micro_step)) == 1 == two.optimizer.flush()


@pytest.mark.parametrize("kind", sorted(WINDOWED))
def test_two_models_in_turn_share_an_optimizer_but_no_window(rng, kind):
    two = Two(WINDOWED[kind][0](), rng)
    two.compile(0)
    two.compile(1)
    gradients = two.gradients(rng, 4)
    for which in (0, 1):
        for one in gradients[:3]:
            two.train(one, which)
    two.train(gradients[3], 0)
    before = two.values()
    with pytest.raises(tf.errors.InvalidArgumentError, match="unfinished and holds micro batches of another model"):
        two.train(gradients[3], 1)
    assert difference(two.values(), before) == 0.0
    if kind == "buffers":
        # What is left over is that of the model that was trained last, not of the one that was compiled last.
        assert two.optimizer.flush() == 1
        np.testing.assert_allclose(two.values()[0], before[0] - 0.1 * gradients[3][0], atol=1e-6)
        np.testing.assert_array_equal(two.values()[1], before[1])


def test_folds_with_one_optimizer_and_the_flushing_callback(rng):
    """5 micro batches a fold: an update of 3 and a flushed one of 2, in each."""
    optimizer = GradientAccumulation(AdamW(0.01), 3)
    x, y = rng.randn(5, 3), rng.randn(5, 1)
    for fold in range(1, 3):
        model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
        model.compile(optimizer, "mse")
        model.fit(x, y, batch_size=1, verbose=0, callbacks=[FlushAccumulation()])
        assert int(K.get_value(optimizer.iterations)) == 2 * fold


def test_optimizers_of_keras_with_one_counter_are_named(rng):
    for make, said in ((lambda: optimizers.Adam(0.1), 1), (lambda: optimizers.SGD(0.1, momentum=0.9), 0)):
        two = Two(PiecewiseLinear(make(), {1: 1}), rng)
        two.compile(0)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            two.compile(0)
            two.train(two.gradients(rng, 1)[0], 0)
            two.compile(1, 0)
        assert len([c for c in caught if "corrects the bias of new moments" in str(c.message)]) == said
