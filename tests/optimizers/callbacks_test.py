"""Callbacks that set, keep and look at weights, together, in every order: what was best is what training ends with."""

import itertools

import numpy as np
import pytest
from numpy_optimizers import difference

from kexue_keras.backend import K, keras
from kexue_keras.optimizers import (
    AdamW,
    ExponentialMovingAverage,
    FlushAccumulation,
    GradientAccumulation,
    SwapAveragedWeights,
)

callbacks = keras.callbacks


class Fit:
    """A model whose validation loss falls and rises again, trained anew from the same weights as often as wanted."""

    def __init__(self, optimizer):
        rng = np.random.RandomState(3)
        self.x = rng.randn(10, 3)
        self.y = self.x.dot([[1.0], [2.0], [-1.0]])
        self.valid = self.x, self.y - 1.2 * self.x[:, :1]
        self.model = keras.models.Sequential([keras.layers.Dense(1, kernel_initializer="zeros", input_shape=(3,))])
        self.model.compile(optimizer, "mse")
        self.model.train_on_batch(self.x, 0 * self.y)
        self.rate = K.get_value(optimizer.lr)
        self.start = self.model.get_weights(), [0 * w for w in optimizer.get_weights()]

    def __call__(self, which, valid=True, epochs=30):
        if getattr(self.model.optimizer, "applied", False):
            self.model.optimizer.restore()
        self.model.set_weights(self.start[0])
        self.model.optimizer.set_weights(self.start[1])
        K.set_value(self.model.optimizer.lr, self.rate)
        how = dict(validation_data=self.valid) if valid else {}
        options = dict(batch_size=2, epochs=epochs, verbose=0, shuffle=False, callbacks=which, **how)
        return self.model.fit(self.x, self.y, **options).history

    def loss(self):
        return self.model.evaluate(*self.valid, batch_size=2, verbose=0)


def early_stopping(**options):
    return callbacks.EarlyStopping(patience=2, restore_best_weights=True, **options)


@pytest.mark.parametrize("keep", [False, True])
def test_early_stopping_ends_with_the_best_weights_in_every_order(tmp_path, keep):
    """With the averages in the model and a window left over at the end of each epoch."""
    fit = Fit(GradientAccumulation(ExponentialMovingAverage(AdamW(0.1, weight_decay=0.0), 0.7), 2))
    seen = []
    for order in itertools.permutations(range(3)):
        path = str(tmp_path / "best.h5")
        best = callbacks.ModelCheckpoint(path, save_best_only=True, save_weights_only=True)
        three = [SwapAveragedWeights(keep=keep), early_stopping(), FlushAccumulation()]
        which = [three[i] for i in order]
        which.insert(order[0], best)
        history = fit(which + [callbacks.ReduceLROnPlateau(patience=1, factor=0.5)])
        losses = history["val_loss"]
        assert 3 <= len(losses) < 30 and losses[-1] > min(losses) * 1.02
        assert fit.loss() == pytest.approx(min(losses), rel=1e-5)
        restored = fit.model.get_weights()
        fit.model.load_weights(path)
        assert difference(fit.model.get_weights(), restored) == 0.0
        assert K.get_value(fit.model.optimizer.lr) < fit.rate
        average = fit.model.optimizer.optimizer
        assert average.applied is keep
        if keep:
            average.restore()
        seen.append(losses)
    # The order of the list makes no difference at all.
    assert all(np.allclose(losses, seen[0], rtol=1e-6) for losses in seen)


def test_without_validation_early_stopping_keeps_what_it_has_seen():
    fit = Fit(ExponentialMovingAverage(AdamW(0.1), 0.7))
    for order in (0, 1):
        at_end = []
        stop = early_stopping(monitor="loss", mode="max")
        spy = callbacks.LambdaCallback(on_epoch_end=lambda *_: at_end.append(fit.model.get_weights()))
        which = [SwapAveragedWeights(), spy, stop] if order else [spy, stop, SwapAveragedWeights()]
        history = fit(which, valid=False)
        assert len(history["loss"]) == 3
        assert difference(fit.model.get_weights(), at_end[0]) == 0.0
        assert not fit.model.optimizer.applied
        fit.model.train_on_batch(fit.x, fit.y)


def test_training_goes_on_from_weights_that_a_callback_has_set():
    """In place of the averages; in the epoch after them the weights of before came back."""
    fit = Fit(ExponentialMovingAverage(AdamW(0.0), 0.7))
    value = [np.full((3, 1), 5.0, "float32"), np.ones(1, "float32")]
    reset = callbacks.LambdaCallback(on_epoch_end=lambda epoch, _: epoch or fit.model.set_weights(value))
    begins = []
    spy = callbacks.LambdaCallback(
        on_batch_begin=lambda batch, logs=None: begins.append(fit.model.get_weights()[0][0, 0])
    )
    fit([SwapAveragedWeights(), reset, spy], epochs=2)
    assert begins == [0.0] * 5 + [5.0] * 5
    assert difference(fit.model.get_weights(), value) == 0.0


@pytest.mark.parametrize("when, order, valid", [("train", 0, True), ("train", 1, True), ("epoch", 1, False)])
def test_a_window_left_over_does_not_move_restored_weights(when, order, valid):
    fit = Fit(GradientAccumulation(AdamW(0.1, weight_decay=0.0), 4))
    flush = FlushAccumulation(when)
    # Without validation only the loss is there to look at; as if the first epoch had been the best.
    stop = early_stopping() if valid else early_stopping(monitor="loss", mode="max")
    at_end = []
    spy = callbacks.LambdaCallback(on_epoch_end=lambda *_: at_end.append(fit.model.get_weights()))
    history = fit([flush, spy, stop] if order == 0 else [spy, stop, flush], valid=valid)
    best = int(np.argmin(history["val_loss"])) if valid else 0
    assert best < len(at_end) - 1
    assert difference(fit.model.get_weights(), at_end[best]) == 0.0
    assert int(K.get_value(fit.model.optimizer.micro_step)) == 0


def test_a_window_is_applied_before_the_validation_and_after_a_stop_within_an_epoch():
    fit = Fit(GradientAccumulation(AdamW(0.1), 2))
    history = fit([FlushAccumulation()], epochs=1)
    assert fit.loss() == pytest.approx(history["val_loss"][-1], rel=1e-6)
    stop = callbacks.LambdaCallback(
        on_batch_end=lambda batch, logs=None: setattr(fit.model, "stop_training", batch == 2)
    )
    flush = FlushAccumulation()
    fit([stop, flush], valid=False)
    assert flush.flushed == 1 and int(K.get_value(fit.model.optimizer.iterations)) == 2


def test_evaluating_makes_no_step_and_leaves_no_averages():
    fit = Fit(GradientAccumulation(ExponentialMovingAverage(AdamW(0.1), 0.7), 4))
    both = [SwapAveragedWeights(), FlushAccumulation("train")]
    fit(both, epochs=1)
    fit.model.train_on_batch(fit.x, fit.y)
    before = fit.model.get_weights(), fit.model.optimizer.get_weights()
    for one in both + [FlushAccumulation()]:
        # As an interrupted fit leaves it.
        one._training = True
    fit.model.evaluate(fit.x, fit.y, verbose=0, callbacks=both + [FlushAccumulation()])
    assert difference(fit.model.get_weights(), before[0]) == 0.0
    assert difference(fit.model.optimizer.get_weights(), before[1]) == 0.0
