"""Keras callbacks for training on several ranks: the first weights, and metrics of all."""

import numbers
from typing import Optional

import numpy as np

from kexue_keras.backend import keras, register
from kexue_keras.distributed._exchange import average, broadcast_weights
from kexue_keras.distributed._ranks import engine
from kexue_keras.types import Logs


@register
class BroadcastWeights(keras.callbacks.Callback):
    """Before training, gives all ranks the weights and the optimizer's state of rank 0; to stand first, on all ranks.

    So all ranks train the same model, also where only rank 0 has read a checkpoint.

    >>> from kexue_keras.distributed import BroadcastWeights
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile('sgd', 'mse')
    >>> _ = model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0, callbacks=[BroadcastWeights()])
    """

    def on_train_begin(self, logs: Optional[Logs] = None) -> None:
        broadcast_weights(self.model)
        if engine().watchdog is not None:
            engine().watchdog.begin()

    def on_batch_end(self, batch: int, logs: Optional[Logs] = None) -> None:
        if engine().watchdog is not None:
            engine().watchdog.alive()

    def on_epoch_begin(self, epoch: int, logs: Optional[Logs] = None) -> None:
        self.on_batch_end(0)

    def on_train_end(self, logs: Optional[Logs] = None) -> None:
        if engine().watchdog is not None:
            engine().watchdog.end()


@register
class AverageMetrics(keras.callbacks.Callback):
    """At the end of an epoch, replaces each metric by its mean over the rows of all ranks.

    It stands before the callbacks that look at metrics (`EarlyStopping`, `ModelCheckpoint`), on all ranks: then all
    decide alike.

    Args:
        valid_rows: int, rows of this rank's validation data, by which `val_...` are weighed; None: all ranks alike.

    >>> from kexue_keras.distributed import AverageMetrics
    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> model.compile('sgd', 'mse')
    >>> _ = model.fit(np.ones((4, 3)), np.ones((4, 1)), verbose=0, callbacks=[AverageMetrics()])
    """

    def __init__(self, valid_rows: Optional[int] = None) -> None:
        super().__init__()
        self.valid_rows, self._rows = valid_rows, 0

    def on_epoch_begin(self, epoch: int, logs: Optional[Logs] = None) -> None:
        self._rows = 0

    def on_batch_end(self, batch: int, logs: Optional[Logs] = None) -> None:
        self._rows += (logs or {}).get("size", 1)

    def on_epoch_end(self, epoch: int, logs: Optional[Logs] = None) -> None:
        if engine().size == 1 or not logs:
            return
        for of_validation in (False, True):
            names = [
                name for name in sorted(logs) if name.startswith("val_") == of_validation and _is_number(logs[name])
            ]
            count = (1 if self.valid_rows is None else self.valid_rows) if of_validation else self._rows
            if names:
                logs.update(average({name: logs[name] for name in names}, count))


def _is_number(value):
    return isinstance(value, (numbers.Real, np.floating))
