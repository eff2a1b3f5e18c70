"""Which of the processes this is, and the engine by which they talk: nobody's until `init`, then Horovod's."""

import numpy as np
import tensorflow as tf

from kexue_keras import backend
from kexue_keras.backend import tf1


class Alone(object):
    """The engine of a process that is by itself: what others would have to say is nothing."""

    rank = local_rank = 0
    size = 1
    # See `Watchdog`; nobody to wait for.
    watchdog = None

    def sum(self, tensor, name):
        """Sum of a tensor over all ranks."""
        return tf.identity(tensor)

    def gather(self, tensor, name):
        """The tensors of all ranks joined along the first axis, in the order of the ranks."""
        return tf.identity(tensor)

    def sum_array(self, array):
        """Sum of an array over all ranks, outside of the graph."""
        return np.asarray(array)

    def broadcast_bytes(self, data):
        """The bytes of rank 0, outside of the graph; the argument of the others counts for nothing."""
        return data


_engines = [Alone()]


def engine():
    """The engine that is in use."""
    return _engines[-1]


def use(new):
    """Let all talk by another engine; returns a function that puts the earlier one back."""
    _engines.append(new)
    return lambda: _engines.remove(new)


def rank() -> int:
    """Number of this process among all, from 0; 0 until `init` is called.

    >>> kexue_keras.distributed.rank()
    0
    """
    return engine().rank


def local_rank() -> int:
    """Number of this process among those of its machine, from 0: which of the machine's devices is its own.

    >>> kexue_keras.distributed.local_rank()
    0
    """
    return engine().local_rank


def size() -> int:
    """Number of processes, 1 until `init` is called.

    >>> kexue_keras.distributed.size()
    1
    """
    return engine().size


def is_first() -> bool:
    """Whether this is rank 0, which alone writes files and prints.

    >>> kexue_keras.distributed.is_first()
    True
    """
    return rank() == 0


def set_seed(seed: int) -> None:
    """Seed Python's and numpy's generators alike on all ranks, and TensorFlow's on each by itself.

    So all ranks shuffle their data alike, which dealing it out needs, and each has its own dropout. Weights that
    are drawn differ with that, until `BroadcastWeights` or `broadcast_weights` gives all those of rank 0, which are
    those of one process with this seed.

    Args:
        seed: int.

    >>> kexue_keras.distributed.set_seed(1)
    """
    backend.set_seed(seed)
    tf1.set_random_seed(seed + rank())


def check_begun(owner):
    """Raise where Horovod has started several processes, and nobody has called `init`: each would train by itself.

    Args:
        owner: who would have to talk to the others, for the message.

    Raises:
        RuntimeError: with what to do.
    """
    started = backend.environment_variable("HOROVOD_SIZE")
    if size() == 1 and started.isdigit() and int(started) > 1:
        raise RuntimeError(
            "%s: horovodrun has started %s processes, but they do not talk to each other yet; call "
            "kexue_keras.distributed.init() right after the imports" % (owner, started)
        )
