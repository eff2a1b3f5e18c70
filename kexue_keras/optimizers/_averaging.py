"""Exponential moving average of the weights, and the callback that evaluates and saves with it.

No article of its own: it is bert4keras' `extend_with_exponential_moving_average`, fixed (there the averages are not
saved in Keras 2.3.1, and applying them before the first step writes NaN into every weight).
"""

import contextlib
from typing import Any, Dict, Iterator, Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, keras, register, tf1
from kexue_keras.optimizers._adamw import bias_corrections
from kexue_keras.optimizers._base import Wrapper
from kexue_keras.optimizers._inner import chain
from kexue_keras.types import Config, Gradients, KerasOptimizer, Logs, Op, Variables


@register
class ExponentialMovingAverage(Wrapper):
    r"""Keeps an average of the weights; training itself is unchanged.

    average_t = (1 - decay) / (1 - decay^t) sum_s decay^(t-s) p_s, t counting real updates: the average of
    bert4keras with its initial bias removed, kept in the form average += (1 - decay) / (1 - decay^t)
    (p - average), so that after one update it is the weights, and no zeros are ever mixed in. A weight that is trained
    later than others (unfrozen, or of another model) counts the updates from then on. Averages are float32 for float16
    weights, and saved with the optimizer.

    `apply()` puts the averages into the model, `restore()` puts the weights back, bit for bit; `averaged()` does both
    for a `with` block, and `SwapAveragedWeights` during `fit`. A training step in between raises an error.

    Args:
        optimizer: instance, of this package, of Keras or of bert4keras.
        decay: in [0, 1); about the last 1 / (1 - decay) updates count.
        name: default "ExponentialMovingAverage".

    Raises:
        ValueError: `decay` outside [0, 1).

    Reference: Polyak and Juditsky 1992; bert4keras' `extend_with_exponential_moving_average`.

    >>> from kexue_keras.optimizers import AdamW, ExponentialMovingAverage
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(ExponentialMovingAverage(AdamW(1e-3), decay=0.999), 'mse')
    >>> loss = model.train_on_batch(np.ones((4, 3)), np.ones((4, 1)))
    >>> with model.optimizer.averaged():
    ...     scores = model.predict(np.ones((4, 3)))
    """

    def __init__(self, optimizer: KerasOptimizer, decay: float = 0.999, *, name: Optional[str] = None) -> None:
        decay = checks.number(decay, "decay", type(self).__name__, least=0, below=1, remedy="0.999 is usual")
        super().__init__(optimizer, name=name)
        self.decay = decay
        self._kept = self._applied = None
        self._guard = None

    def create_state(self, params: Variables) -> None:
        self.add_state("count", dtype="int64")
        for p in params:
            self.add_state("average", p, dtype="float32" if K.dtype(p) == "float16" else None)
        self.admit(params, self.state("count"))
        if self._guard is None:
            # Not part of the state: a model may be saved while the averages are in it.
            self._guard = K.variable(0.0, name="ExponentialMovingAverage/applied")

    def update(self, gradients: Gradients, params: Variables) -> Op:
        counter = self.state("count")
        count = tf.identity(counter)
        training = tf1.assert_equal(
            tf.identity(self._guard),
            0.0,
            message="a training step while the averaged weights are in the model; call optimizer.restore() first",
        )

        def then():
            ages = self.arrivals.ages(params, count)
            corrections = bias_corrections(ages + 1, self.decay)[0]
            # The same float32 decay as in the corrections.
            shares = bias_corrections(1, self.decay)[0] / corrections
            ops = []
            for p, age, share in zip(params, *(tf.unstack(x, num=len(params)) for x in (ages, shares))):
                average = self.state("average", p)
                old = average.read_value()
                new = tf.cast(p.read_value(), old.dtype)
                moved = old + tf.cast(share, old.dtype) * (new - old)
                # old + (new - old) may miss new by a rounding error.
                moved = tf.where(tf.equal(age, 0), new, moved)
                ops.append(average.assign(moved, read_value=False))
            with tf.control_dependencies(ops):
                return [counter.assign(count + 1, read_value=False)]

        with tf.control_dependencies([training]):
            return self.after_update(gradients, params, then)

    def _pairs(self):
        """(parameter, average) of all parameters of which there is an average."""
        pairs = self.states("average")
        if not pairs:
            return []
        seen = K.get_value(self.state("count")) > K.get_value(self.arrivals.variable)
        return [pair for pair, is_averaged in zip(pairs, seen) if is_averaged]

    @property
    def applied(self) -> bool:
        """Whether the averages are in the model now."""
        return self._kept is not None

    def apply(self) -> None:
        """Put the averages into the model and keep its weights for `restore()`; before any update both are equal.

        Raises:
            RuntimeError: they are in it already.
        """
        if self.applied:
            raise RuntimeError("the averaged weights are in the model already; call restore() first")
        pairs = self._pairs()
        if not pairs:
            self._kept, self._applied = [], []
        else:
            self._kept = list(zip([p for p, _ in pairs], K.batch_get_value([p for p, _ in pairs])))
            averages = K.batch_get_value([average for _, average in pairs])
            self._applied = [a.astype(w.dtype) for (_, w), a in zip(self._kept, averages)]
            K.batch_set_value([(p, a) for (p, _), a in zip(self._kept, self._applied)])
        if self._guard is not None:
            K.set_value(self._guard, 1.0)

    def restore(self) -> None:
        """Put back the weights that `apply()` has kept.

        Raises:
            RuntimeError: there are none.
        """
        if not self.applied:
            raise RuntimeError("there are no weights to restore; call apply() first")
        K.batch_set_value(self._kept)
        self.release()

    def release(self) -> None:
        """Leave in the model what is in it now, and forget the weights that `apply()` has kept."""
        self._kept = self._applied = None
        if self._guard is not None:
            K.set_value(self._guard, 0.0)

    @property
    def overwritten(self) -> bool:
        """Whether somebody has set other weights since `apply()`."""
        if not self._kept:
            return False
        now = K.batch_get_value([p for p, _ in self._kept])
        return not all(((a == b) | ((a != a) & (b != b))).all() for a, b in zip(now, self._applied))

    @contextlib.contextmanager
    def averaged(self) -> "Iterator[ExponentialMovingAverage]":
        """`with` block in which the model has the averaged weights; afterwards, also after an exception, its own."""
        self.apply()
        try:
            yield self
        finally:
            self.restore()

    def get_config(self) -> Config:
        return dict(super().get_config(), decay=self.decay)


def average_of(optimizer):
    """The `ExponentialMovingAverage` of a chain of optimizers, or None."""
    return next((one for one in chain(optimizer) if isinstance(one, ExponentialMovingAverage)), None)


@contextlib.contextmanager
def own_weights_in(model):
    """`with` block in which a model has the weights that it trains, even if it holds their averages now.

    Weights that somebody else has set in place of the averages count as the model's own from then on.
    """
    average = average_of(getattr(model, "optimizer", None))
    if average is None or not average.applied:
        yield
        return
    if average.overwritten:
        average.release()
        yield
        return
    average.restore()
    try:
        yield
    finally:
        average.apply()


@register
class SwapAveragedWeights(keras.callbacks.Callback):
    """During `fit`, validates with the averaged weights and lets the other callbacks see them at an epoch's end.

    Validation runs with the averages. So do the callbacks in `on_epoch_end`, whatever their position in the list:
    `EarlyStopping(restore_best_weights=True)` and `ModelCheckpoint` keep the weights whose score they look at. Without
    validation data, only callbacks that follow in the list see them. When the next epoch begins the weights come back.
    Works in `evaluate(callbacks=[...])` too.

    Weights that another callback sets while the averages are in the model stay: they are what training ends with, or
    continues from.

    Args:
        keep: True leaves the averages in the model when training ends; `model.optimizer.restore()` takes them
            out again. False puts the weights back, unless another callback has set others.

    Raises:
        TypeError: when training begins, if the model's optimizer keeps no average.

    >>> from kexue_keras.optimizers import AdamW, ExponentialMovingAverage, SwapAveragedWeights
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile(ExponentialMovingAverage(AdamW(1e-3)), 'mse')
    >>> x, y = np.ones((4, 3)), np.ones((4, 1))
    >>> _ = model.fit(x, y, validation_data=(x, y), verbose=0, callbacks=[SwapAveragedWeights()])
    >>> model.optimizer.applied
    False
    """

    def __init__(self, *, keep: bool = False) -> None:
        super().__init__()
        self.keep = bool(keep)
        self._training = False

    def _average(self):
        average = average_of(self.model.optimizer)
        if average is None:
            raise TypeError(
                "SwapAveragedWeights needs a model compiled with ExponentialMovingAverage(optimizer), not with %s"
                % type(self.model.optimizer).__name__
            )
        return average

    def _swap(self, to_average):
        average = self._average()
        if to_average and not average.applied:
            average.apply()
        if not to_average and average.applied:
            if average.overwritten:
                average.release()
            else:
                average.restore()

    def set_params(self, params: Dict[str, Any]) -> None:
        # Keras calls it once for each fit and each evaluate, not for the validation within a fit.
        super().set_params(params)
        self._training = False

    def on_train_begin(self, logs: Optional[Logs] = None) -> None:
        self._training = True
        self._swap(False)

    def on_epoch_begin(self, epoch: int, logs: Optional[Logs] = None) -> None:
        self._swap(False)

    def on_test_begin(self, logs: Optional[Logs] = None) -> None:
        self._swap(True)

    def on_test_end(self, logs: Optional[Logs] = None) -> None:
        # In training the callbacks before us in the list have still to see what was validated.
        if not self._training:
            self._swap(False)

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        self._swap(True)

    def on_train_end(self, logs: Optional[Logs] = None) -> None:
        self._training = False
        self._swap(self.keep)
