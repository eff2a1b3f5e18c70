"""TensorBoard logs, written as TensorFlow's records: TensorFlow 2.20 and later come without TensorBoard.

Not with `tf.summary.FileWriter`: that writes in a thread, which dies of a full disk, and the training waits for ever.
"""

import errno
import os
import socket
import time
import uuid

import tensorflow as tf

from kexue_keras.backend import K, keras, tf1
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
        self.writer = tf.io.TFRecordWriter(self.path)
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
        rows = [tf1.Summary.Value(tag=tag, simple_value=float(v)) for tag, v in values.items()]
        self._add(step=step, summary=tf1.Summary(value=rows))

    def _add(self, **event):
        try:
            self.writer.write(tf1.Event(wall_time=time.time(), **event).SerializeToString())
            self.writer.flush()
        except tf.errors.OpError as error:
            raise OSError(errno.EIO, error.message, self.path)


def _innermost(optimizer):
    """The optimizer inside all wrappers: its rate is the one that is applied."""
    while getattr(optimizer, "optimizer", None) is not None:
        optimizer = optimizer.optimizer
    return optimizer
