"""TensorBoard logs, written in TensorBoard's own records: the same code in graph mode, on both stacks and on TF 2.

Not with its `EventFileWriter`: that writes in a thread, which dies of a full disk, and the training waits for ever.
"""

import os
import socket
import time
import uuid

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from kexue_keras.backend import K, keras
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
        self.writer = self.path = None

    def on_train_begin(self, logs=None):
        os.makedirs(self.folder, exist_ok=True)
        name = "events.out.tfevents.%010d.%s.%s" % (time.time(), socket.gethostname(), uuid.uuid4().hex[:12])
        self.path = os.path.join(self.folder, name)
        self.writer = RecordWriter(open(self.path, "ab"))
        self._add(file_version="brain.Event:2")

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

    def on_train_end(self, logs=None):
        self.writer.close()

    def _write(self, values, step):
        rows = [Summary.Value(tag=tag, simple_value=float(v)) for tag, v in values.items()]
        self._add(step=step, summary=Summary(value=rows))

    def _add(self, **event):
        try:
            self.writer.write(Event(wall_time=time.time(), **event).SerializeToString())
            self.writer.flush()
        except OSError as error:
            error.filename = self.path
            raise


def _innermost(optimizer):
    """The optimizer inside all wrappers: its rate is the one that is applied."""
    while getattr(optimizer, "optimizer", None) is not None:
        optimizer = optimizer.optimizer
    return optimizer
