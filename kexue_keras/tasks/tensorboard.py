"""TensorBoard logs, written with TensorBoard's own writer: the same code in graph mode, on both stacks and on TF 2."""

import time

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from kexue_keras.backend import K, keras
from kexue_keras.errors import as_unicode
from kexue_keras.files.paths import path_text


class ScalarLogger(keras.callbacks.Callback):
    """Keras callback: loss, metrics and learning rate of every `every`-th step, and the validation of each epoch.

    Args:
        folder: where the event file goes.
        position: function without arguments, the number of steps done (a resumed run does not begin at 0).
        every: int.
    """

    def __init__(self, folder, position, every=10):
        super(ScalarLogger, self).__init__()
        self.folder, self.position, self.every = path_text(folder), position, every
        self.writer = None

    def on_train_begin(self, logs=None):
        self.writer = EventFileWriter(as_unicode(self.folder))

    def on_train_batch_end(self, batch, logs=None):
        step = self.position()
        if step % self.every == 0:
            values = {"step/" + k: v for k, v in (logs or {}).items() if k not in ("batch", "size")}
            rate = getattr(_innermost(self.model.optimizer), "learning_rate", None)
            try:
                values["step/learning_rate"] = float(K.get_value(rate))
            except Exception:  # a schedule object, or no rate at all
                pass
            self._write(values, step)

    def on_epoch_end(self, epoch, logs=None):
        self._write({"epoch/" + k: v for k, v in (logs or {}).items()}, self.position())
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()

    def _write(self, values, step):
        rows = [Summary.Value(tag=tag, simple_value=float(v)) for tag, v in values.items()]
        self.writer.add_event(Event(wall_time=time.time(), step=step, summary=Summary(value=rows)))


def _innermost(optimizer):
    """The optimizer inside all wrappers: its rate is the one that is applied."""
    while getattr(optimizer, "optimizer", None) is not None:
        optimizer = optimizer.optimizer
    return optimizer
