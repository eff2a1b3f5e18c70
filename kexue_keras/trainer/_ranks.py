"""What several ranks have to agree on while they train: batches, losses, scores, points.

Every rank makes the same steps with its part of each batch. What decides how training goes on, the mean loss and the
validation scores, is the same on all; rank 0 alone validates and writes into the folder.
"""

import contextlib
import os
import shutil
import tempfile

import numpy as np
import tensorflow as tf

from kexue_keras import distributed
from kexue_keras.backend import K
from kexue_keras.distributed._ranks import engine
from kexue_keras.distributed._shards import part_of, rows_in
from kexue_keras.errors import UserError
from kexue_keras.optimizers import GradientAccumulation
from kexue_keras.optimizers._inner import chain

# Words of the errors that end the others where a rank is gone.
LOST = ("horovod", "gloo", "connection", "shut down")


class Ranks(object):
    """The ranks of a training; without `distributed.init()` there is one, and nothing is done.

    Args:
        alone: bool, True: this process trains by itself, whatever others there are.
        unit: int, how many rows of a batch belong together.
        coupled: bool, whether the loss compares the rows of all ranks.
        count: function of (inputs, targets, ...) to the number that the loss is a mean over; None: its rows.

    Attributes:
        are_several: whether there is more than one.
        rank: number of this one.
        share: what the loss of this rank counts in the mean over the ranks; float32 variable, set with each batch.
    """

    def __init__(self, *, alone=False, unit=1, coupled=False, count=None):
        self.are_several = not alone and engine().size > 1
        self.rank = engine().rank if self.are_several else 0
        self.unit, self.coupled = unit, coupled
        self._count = count or (lambda made: rows_in(made[0]))
        self.share = K.variable(1.0, name="share") if self.are_several else None
        self._set, self._folder = 1.0, None
        self._own = self._copies = 1.0

    @property
    def is_first(self):
        """Whether this rank validates, writes and talks."""
        return self.rank == 0

    def broadcast_weights(self, model):
        """Give all ranks the weights of rank 0."""
        if self.are_several:
            distributed.broadcast_weights(model)

    def dealt(self, make_batch):
        """`make_batch` that gives this rank's part."""
        if not self.are_several:
            return make_batch

        def make(step):
            whole = make_batch(step)
            part = part_of(whole, unit=self.unit, coupled=self.coupled)
            # A batch with too few rows goes to all.
            self._copies = float(engine().size) if rows_in(part[0]) == rows_in(whole[0]) else 1.0
            self._own = float(self._count(part))
            total = max(self._copies * self._count(whole), 1.0)
            self._set_share(engine().size * self._own / total)
            return part

        return make

    def _set_share(self, share):
        if share != self._set:
            K.set_value(self.share, share)
            self._set = share

    def means(self, values, rows):
        """(values of a step as means over all ranks, rows of all ranks)."""
        if not self.are_several:
            return values, rows
        if engine().watchdog is not None:
            engine().watchdog.alive()
        weighed = np.asarray(values, "float64") * self._own if self._own else np.zeros(len(values))
        # A NaN of one rank is one of all, so that all end together.
        found = engine().sum_array(np.concatenate([weighed, [self._own, rows / self._copies]]))
        return found[:-2] / max(found[-2], 1.0), int(round(found[-1]))

    def folder(self, folder):
        """Where this rank keeps its points: the folder for rank 0, one that is thrown away for the others."""
        if folder is None or self.is_first:
            return folder
        if self._folder is None:
            self._folder = tempfile.mkdtemp(prefix="kexue-rank-")
        return self._folder

    def hand_out(self, paths):
        """Give the others copies of the files that rank 0 has; each rank has its own path of a file."""
        if not self.are_several:
            return
        for path in paths:
            data = None
            if self.is_first and os.path.exists(path):
                with open(path, "rb") as handle:
                    data = handle.read()
            if distributed.broadcast(data is not None):
                data = engine().broadcast_bytes(data)
                if not self.is_first:
                    with open(path, "wb") as handle:
                        handle.write(data)

    def agree_on_window(self, optimizer):
        """Give all ranks the mean of the gradients that an unfinished window of accumulation holds.

        A point holds the window of rank 0, and so it holds that of all; what the window becomes is the same.
        """
        for one in chain(optimizer) if self.are_several else ():
            if isinstance(one, GradientAccumulation) and int(K.get_value(one.micro_step)):
                buffers = [buffer for _, buffer in one.states("buffer")]
                values = K.batch_get_value(buffers)
                means = [engine().sum_array(value.astype("float64")) / engine().size for value in values]
                K.batch_set_value([(b, m.astype(v.dtype)) for b, m, v in zip(buffers, means, values)])

    def of_first(self, function):
        """What `function()` gives on rank 0, which alone calls it; for all."""
        if not self.are_several:
            return function()
        return distributed.broadcast(function() if self.is_first else None)

    @contextlib.contextmanager
    def together(self, paths):
        """Context of a training, which begins with the files of rank 0 for all.

        Args:
            paths: see `hand_out`.

        Raises:
            UserError: another rank is gone.
        """
        watchdog = engine().watchdog if self.are_several else None
        try:
            if watchdog is not None:
                watchdog.begin()
            self.hand_out(paths)
            yield
        except tf.errors.OpError as error:
            text = str(error)
            if not self.are_several or not any(word in text.lower() for word in LOST):
                raise
            raise UserError(
                "rank %d of %d ends, since another rank has failed or was killed, or did not come in time; its own "
                "output says why (%s)" % (engine().rank, engine().size, text.split("\n")[0][:200])
            )
        finally:
            if watchdog is not None:
                watchdog.end()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
