"""Horovod, imported when it is asked for: `init`, and the engine that hands everything on to it.

Paper: Horovod: fast and easy distributed deep learning in TensorFlow (arXiv 1802.05799).
"""

import numpy as np

from kexue_keras import backend, checks
from kexue_keras.backend import is_tf2, tf1
from kexue_keras.distributed import _ranks
from kexue_keras.distributed._watchdog import Watchdog
from kexue_keras.errors import UserError

# What travels at a time where a file of any size does.
CHUNK = 2**26
# Milliseconds between two rounds of talk on processors. Horovod's own 1 ms is a GPU's: on a processor a round without
# anything to say costs a quarter of a millisecond of the core that computes.
CYCLE = "50"


def init(*, timeout: float = 3600.0) -> None:
    """Begin to talk to the other processes that `horovodrun` has started; to be called right after the imports.

    Each process then sees one device of its machine, that of its `local_rank`. Without `horovodrun` there is one rank.
    A second call does nothing. Where Horovod knows no GPU, ranks talk every 50 ms instead of every millisecond, unless
    HOROVOD_CYCLE_TIME (`horovodrun --cycle-time-ms`) says otherwise.

    Args:
        timeout: seconds without a step after which training ends with an error, since other ranks do not come. Longer
            than the longest thing that rank 0 does alone, such as validation. It counts in `Trainer` and in `fit` with
            `BroadcastWeights`.

    Raises:
        UserError: Horovod is not there, or TensorFlow is 2, for which it does not build.
        RuntimeError: TensorFlow has a session already, and with it devices.

    Reference: arXiv 1802.05799.
    """
    checks.number(timeout, "timeout", "distributed.init", above=0)
    if isinstance(_ranks.engine(), HorovodEngine):
        return
    if is_tf2:
        raise UserError(
            "Horovod 0.28.1, the last one, does not build for TensorFlow 2.16 and later; train on several devices with "
            "TensorFlow 1.15 (NVIDIA's tensorflow:21.09-tf1-py3 has Horovod), or on one device here"
        )
    if backend.keras_has_session():
        raise RuntimeError(
            "distributed.init: TensorFlow has a session already, so its devices are chosen; call it right after the "
            "imports, before a model is built or loaded"
        )
    try:
        import horovod.tensorflow as horovod
    except ImportError as error:
        raise UserError(
            "training on several devices needs Horovod (%s); NVIDIA's image nvcr.io/nvidia/tensorflow:21.09-tf1-py3 "
            "has it, elsewhere: HOROVOD_WITH_TENSORFLOW=1 pip install --no-build-isolation horovod==0.28.1, or `make "
            "horovod` in a checkout" % error
        )
    own_cycle = horovod.cuda_built() or backend.environment_variable("HOROVOD_CYCLE_TIME")
    before = backend.exchange_environment({} if own_cycle else {"HOROVOD_CYCLE_TIME": CYCLE})
    horovod.init()
    backend.exchange_environment(before)
    if horovod.local_size() > 1:
        seen = [device for device in backend.environment_variable("CUDA_VISIBLE_DEVICES").split(",") if device]
        own = seen[horovod.local_rank()] if horovod.local_rank() < len(seen) else str(horovod.local_rank())
        if len(seen) != 1:
            backend.exchange_environment({"CUDA_VISIBLE_DEVICES": own})
    _ranks.use(HorovodEngine(horovod, timeout))


class HorovodEngine(object):
    """Talks by Horovod; see `Alone` for what each method is.

    Args:
        horovod: the module `horovod.tensorflow`, begun.
        timeout: seconds, see `init`.
    """

    def __init__(self, horovod, timeout):
        self._horovod = horovod
        self.rank, self.size = horovod.rank(), horovod.size()
        self.local_rank = horovod.local_rank()
        self._outside = {}
        self.watchdog = Watchdog(
            timeout,
            "error: rank %d of %d ends, since no step was made for %g seconds: another rank hangs, or is busy; if it "
            "was busy, give distributed.init a longer timeout" % (self.rank, self.size, timeout),
        )

    def sum(self, tensor, name):
        with tf1.name_scope(None):
            return self._horovod.allreduce(tensor, op=self._horovod.Sum, name=name)

    def gather(self, tensor, name):
        with tf1.name_scope(None):
            return self._horovod.allgather(tensor, name=name)

    def sum_array(self, array):
        array = np.asarray(array, "float64")
        return self._run("sum", "float64", array)

    def broadcast_bytes(self, data):
        length = int(self._run("broadcast", "int64", np.array(len(data or b""), "int64")))
        data = np.frombuffer(data, "uint8") if self.rank == 0 else np.zeros(length, "uint8")
        parts = [self._run("broadcast", "uint8", data[i : i + CHUNK]) for i in range(0, length, CHUNK)]
        return b"".join(part.tobytes() for part in parts)

    def _run(self, what, dtype, value):
        """Outside of the graph of the model: in a graph, with a session, that has no other device than the CPU."""
        key = (what, dtype)
        if key not in self._outside:
            with tf1.Graph().as_default() as graph:
                fed = tf1.placeholder(dtype)
                name = "outside_%s_%s" % key
                if what == "sum":
                    result = self.sum(fed, name)
                else:
                    result = self._horovod.broadcast(fed, root_rank=0, name=name)
                session = tf1.Session(graph=graph, config=tf1.ConfigProto(device_count={"GPU": 0}))
            self._outside[key] = session, fed, result
        session, fed, result = self._outside[key]
        return session.run(result, {fed: value})
