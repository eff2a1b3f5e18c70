"""A stand-in for Horovod: ranks that are threads of one process, each with a graph and a session of its own.

What they tell each other goes through memory. The graphs are built one after the other, as Keras builds in one thread.
"""

import collections
import contextlib
import threading

import numpy as np
import tensorflow as tf

from kexue_keras.backend import tf1
from kexue_keras.distributed import _ranks


class Threads(object):
    """The engine of `size` ranks; see `Alone`. Which one is meant depends on the thread, and is set by `as_rank`."""

    def __init__(self, size, timeout=60):
        self.size, self.timeout = size, timeout
        self.watchdog = None
        self._own = threading.local()
        self._told = threading.Condition()
        self._values, self._rounds = collections.defaultdict(dict), collections.Counter()
        self._names = [collections.Counter() for _ in range(size)]
        self.failed = None

    @property
    def rank(self):
        return self._own.rank

    local_rank = rank

    @contextlib.contextmanager
    def as_rank(self, rank):
        """Within this context the present thread is that rank."""
        self._own.rank = rank
        try:
            yield
        finally:
            del self._own.rank

    def exchange(self, tag, rank, value):
        """The values of all ranks, in their order, once all have come."""
        with self._told:
            key = tag, self._rounds[tag, rank]
            self._rounds[tag, rank] += 1
            self._values[key][rank] = value
            self._told.notify_all()
            come = self._told.wait_for(lambda: self.failed or len(self._values[key]) == self.size, self.timeout)
            if self.failed or not come:
                raise RuntimeError("%s: rank %d waits in vain (%s)" % (tag, rank, self.failed or "time-out"))
            return [self._values[key][r] for r in range(self.size)]

    def _op(self, tensor, name, together):
        rank = self.rank
        self._names[rank][name] += 1
        tag = "%s/%d" % (name, self._names[rank][name])

        def exchanged(x):
            return np.asarray(together(self.exchange(tag, rank, x)), x.dtype)

        return tf.numpy_function(exchanged, [tensor], tensor.dtype)

    def sum(self, tensor, name):
        total = self._op(tensor, name, lambda values: np.sum(values, axis=0, dtype=values[0].dtype))
        total.set_shape(tensor.shape)
        return total

    def gather(self, tensor, name):
        return self._op(tensor, name, np.concatenate)

    def sum_array(self, array):
        return np.sum(self.exchange("sum_array", self.rank, array), axis=0)

    def broadcast_bytes(self, data):
        return self.exchange("broadcast", self.rank, data)[0]


def in_threads(build, size, timeout=60):
    """Run ranks to their ends.

    Args:
        build: function without arguments, called for each rank in its graph; returns a function without arguments,
            which then runs in the thread of the rank.
        size: int.

    Returns:
        list of what these functions return; the first of their errors is raised.
    """
    engine = Threads(size, timeout)
    results, errors, built, threads = [None] * size, [], [], []

    def run(rank):
        graph, session, function = built[rank]
        try:
            with graph.as_default(), session.as_default(), engine.as_rank(rank):
                results[rank] = function()
        except BaseException as error:
            errors.append(error)
            with engine._told:
                engine.failed = "rank %d failed: %s" % (rank, error)
                engine._told.notify_all()

    restore = _ranks.use(engine)
    try:
        for rank in range(size):
            graph = tf1.Graph()
            session = tf1.Session(
                graph=graph,
                # A thread for each op that may wait for another rank.
                config=tf1.ConfigProto(use_per_session_threads=True, inter_op_parallelism_threads=64),
            )
            with graph.as_default(), session.as_default(), engine.as_rank(rank):
                built.append((graph, session, build()))
        threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        restore()
        for _, session, _ in built:
            session.close()
    if errors:
        raise errors[0]
    return results
