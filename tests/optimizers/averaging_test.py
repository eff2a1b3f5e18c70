"""Lookahead and the moving average against float64 numpy, under accumulation, and the swapping callback."""

import numpy as np
import pytest
import tensorflow as tf
from numpy_optimizers import Toy, difference, sgd

from kexue_keras.backend import K, keras
from kexue_keras.optimizers import (
    AdamW,
    ExponentialMovingAverage,
    FlushAccumulation,
    GradientAccumulation,
    Lookahead,
    MomentumAccumulationSGD,
    SwapAveragedWeights,
)

optimizers = keras.optimizers


def dense_model(optimizer):
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,)), keras.layers.Dense(1)])
    model.compile(optimizer, "mse")
    return model


@pytest.mark.parametrize("steps, slow_step", [(1, 0.5), (3, 0.3), (2, 1.0)])
def test_lookahead_equals_numpy(rng, steps, slow_step):
    toy, step = Toy(Lookahead(optimizers.SGD(0.1, momentum=0.9), steps=steps, slow_step=slow_step), rng), sgd(0.1, 0.9)
    params = toy.start()
    slow = [p.copy() for p in params]
    for t in range(1, 8):
        batch = toy.batch(rng)
        toy.train(batch)
        step(params, toy.gradients(batch))
        if t % steps == 0:
            for s, p in zip(slow, params):
                s += slow_step * (p - s)
                p[:] = s
        # tf.keras' momentum leaves rows of an embedding alone that the batch does not name.
        assert difference(toy.values()[:2], params[:2]) < 2e-6


def test_lookahead_with_rate_zero_moves_nothing(rng):
    """In bert4keras the slow weights begin at zero, so that the first exchange halves every weight."""
    toy = Toy(Lookahead(optimizers.SGD(0.0), steps=2), rng)
    for _ in range(5):
        toy.train(toy.batch(rng))
    assert difference(toy.values(), np.array(toy.start(), object)) == 0.0


def test_lookahead_begins_with_the_weights_of_the_first_step_and_after_reset(rng):
    optimizer = Lookahead(optimizers.SGD(0.0), steps=2, slow_step=0.5)
    toy = Toy(optimizer, rng)
    for value in (3.0, 7.0):
        optimizer.reset()
        K.set_value(toy.params[1], [value, value])
        for _ in range(3):
            toy.train(toy.batch(rng))
        np.testing.assert_array_equal(toy.values()[1], [value, value])


@pytest.mark.parametrize("hidden", [True, False])
def test_real_updates_are_counted_under_accumulation(rng, hidden):
    if hidden:
        optimizer = Lookahead(
            ExponentialMovingAverage(MomentumAccumulationSGD(0.1, momentum=0.0, steps=2), 0.5), steps=2
        )
        look, average = optimizer, optimizer.optimizer
    else:
        optimizer = GradientAccumulation(Lookahead(ExponentialMovingAverage(optimizers.SGD(0.1), 0.5), steps=2), 2)
        look, average = optimizer.optimizer, optimizer.optimizer.optimizer
    toy, step = Toy(optimizer, rng), sgd(0.1)
    params = toy.start()
    slow, sums, weight = [p.copy() for p in params], [0 * p for p in params], 0.0
    for t in range(1, 7):
        window = [toy.batch(rng) for _ in range(2)]
        for batch in window:
            toy.train(batch)
        step(params, [sum(g) / 2 for g in zip(*(toy.gradients(b) for b in window))])
        # The average stands inside, so it sees the weights before the exchange.
        sums, weight = [0.5 * s + 0.5 * p for s, p in zip(sums, params)], 0.5 * weight + 0.5
        if t % 2 == 0:
            for s, p in zip(slow, params):
                s += 0.5 * (p - s)
                p[:] = s
        assert difference(toy.values(), params) < 2e-6
        assert K.get_value(look.state("count")) == K.get_value(average.state("count")) == t
        seen = K.batch_get_value([average.state("average", p) for p in toy.params])
        assert difference(seen, [s / weight for s in sums]) < 2e-6


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_average_equals_numpy(rng, decay):
    optimizer = ExponentialMovingAverage(optimizers.SGD(0.1), decay)
    toy, step = Toy(optimizer, rng), sgd(0.1)
    params = toy.start()
    sums = [0 * p for p in params]
    for t in range(1, 7):
        batch = toy.batch(rng)
        toy.train(batch)
        step(params, toy.gradients(batch))
        sums = [decay * s + (1 - decay) * p for s, p in zip(sums, params)]
        seen = K.batch_get_value([optimizer.state("average", p) for p in toy.params])
        assert difference(seen, [s / (1 - decay**t) for s in sums]) < 2e-6
        if t == 1:
            assert difference(seen, toy.values()) == 0.0


def test_swap_is_exact_and_safe(rng):
    optimizer = ExponentialMovingAverage(optimizers.SGD(0.3), 0.9)
    toy = Toy(optimizer, rng)
    optimizer.apply()  # before any step: nothing to average yet, and no NaN
    assert np.isfinite(np.concatenate([v.ravel() for v in toy.values()])).all()
    optimizer.restore()
    batches = [toy.batch(rng) for _ in range(4)]
    for batch in batches:
        toy.train(batch)
    own = toy.values()
    averages = K.batch_get_value([optimizer.state("average", p) for p in toy.params])
    with pytest.raises(ZeroDivisionError):
        with optimizer.averaged():
            assert difference(toy.values(), averages) == 0.0 and difference(own, averages) > 0.01
            with pytest.raises(RuntimeError, match="call restore"):
                optimizer.apply()
            with pytest.raises(tf.errors.InvalidArgumentError, match="a training step while the averaged weights"):
                toy.train(batches[0])
            1 / 0
    assert difference(toy.values(), own) == 0.0 and not optimizer.applied
    with pytest.raises(RuntimeError, match="no weights to restore"):
        optimizer.restore()
    toy.train(batches[0])


class Spy(keras.callbacks.Callback):
    """Remembers the weights that it sees, like an evaluator that saves them."""

    def on_train_begin(self, logs=None):
        self.seen = {}

    def note(self, when):
        self.seen.setdefault(when, []).append(np.concatenate([w.ravel() for w in self.model.get_weights()]))

    def on_test_begin(self, logs=None):
        self.note("test")

    def on_epoch_end(self, epoch, logs=None):
        self.note("epoch_end")

    def on_epoch_begin(self, epoch, logs=None):
        self.note("epoch_begin")

    def on_train_end(self, logs=None):
        self.note("train_end")


@pytest.mark.parametrize("keep", [False, True])
def test_callback_swaps_for_validation_and_for_later_callbacks(rng, keep, tmp_path):
    x, y = rng.randn(10, 3), rng.randn(10, 1)
    average = ExponentialMovingAverage(optimizers.SGD(0.1), 0.5)
    model = dense_model(GradientAccumulation(average, 2))
    spy = Spy()
    saved = keras.callbacks.ModelCheckpoint(str(tmp_path / "w.h5"), save_weights_only=True)
    model.fit(
        x,
        y,
        batch_size=2,
        epochs=2,
        verbose=0,
        shuffle=False,
        validation_data=(x, y),
        callbacks=[FlushAccumulation(), SwapAveragedWeights(keep=keep), saved, spy],
    )
    assert average.applied is keep
    averages = [K.get_value(average.state("average", p)) for p in model.trainable_weights]
    flat = np.concatenate([a.ravel() for a in averages])
    np.testing.assert_array_equal(spy.seen["epoch_end"][-1], flat)
    assert np.abs(spy.seen["epoch_begin"][1] - spy.seen["epoch_end"][0]).max() > 1e-3
    if keep:
        np.testing.assert_array_equal(spy.seen["train_end"][0], flat)
        average.restore()
    own = np.concatenate([w.ravel() for w in model.get_weights()])
    assert np.abs(own - flat).max() > 1e-3
    model.load_weights(str(tmp_path / "w.h5"))
    assert difference(model.get_weights(), averages) == 0.0
    # 5 micro batches an epoch: two windows and a flushed one
    assert K.get_value(average.state("count")) == 6


def test_training_with_the_callback_is_training_without_it(rng):
    x, y = rng.randn(8, 3), rng.randn(8, 1)
    start, end = None, []
    for callbacks in ([], [SwapAveragedWeights()]):
        model = dense_model(ExponentialMovingAverage(optimizers.SGD(0.1), 0.9))
        start = start or model.get_weights()
        model.set_weights(start)
        model.fit(x, y, batch_size=2, epochs=3, shuffle=False, verbose=0, validation_data=(x, y), callbacks=callbacks)
        end.append(model.get_weights())
    assert difference(*end) == 0.0


def test_callback_names_what_it_needs():
    with pytest.raises(TypeError, match="compiled with ExponentialMovingAverage.optimizer., not with AdamW"):
        dense_model(AdamW()).fit(np.zeros((2, 3)), np.zeros((2, 1)), verbose=0, callbacks=[SwapAveragedWeights()])


def test_bad_values():
    for make, message in (
        (lambda: ExponentialMovingAverage(AdamW(), 1.0), r"decay must be a number in \[0, 1\), but is 1.0; 0.999"),
        (lambda: Lookahead(AdamW(), slow_step=0), r"slow_step must be a number in \(0, 1\], but is 0"),
        (lambda: Lookahead(AdamW(), steps=0), "Lookahead: steps must be a whole number >= 1, but is 0"),
        (lambda: ExponentialMovingAverage(GradientAccumulation(AdamW(), 2)), "has to be the outermost wrapper"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
