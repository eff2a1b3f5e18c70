"""How much memory one run of a graph needs at its peak, read from TensorFlow's own trace.

The figure is the peak of what lives at the same time among the tensors that a run allocates: activations, gradients,
temporary results. Variables (weights and the state of the optimizer) lie in memory before and after; they are not
counted.

节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367.
"""

from collections import Counter, namedtuple
from typing import Any, Dict, Optional, Tuple

from kexue_keras.backend import get_session, refuse_eager, tf1, train_function_options
from kexue_keras.types import Array, Arrays, Model, Tensor

MemoryTrace = namedtuple("MemoryTrace", "peak total live")
MemoryTrace.__doc__ = """What `trace_memory` returns.

Attributes:
    peak: int, the most bytes that lived at the same time.
    total: int, the bytes of all allocations.
    live: list of (name of the op, bytes), what lived at the peak, the largest first.
"""


def trace_memory(
    fetches: Any, feed_dict: Optional[Dict[Tensor, Any]] = None, *, session: Optional[tf1.Session] = None
) -> Tuple[Any, MemoryTrace]:
    """Run a graph once with full tracing and say how much memory it took.

    Every allocation and every release is recorded with its time; the peak of their running sum is the figure. It
    is that of the allocator, sharper than the size of the process, which also counts what the allocator hoards.

    Args:
        fetches: tensors or ops, as `Session.run` takes them.
        feed_dict: dict, as `Session.run` takes it.
        session: the session, that of Keras by default.

    Returns:
        tuple (result of the run, `MemoryTrace`).

    >>> x = tf.compat.v1.placeholder('float32', [None])
    >>> value, trace = trace_memory(tf.reduce_sum(tf.sqrt(x) * tf.exp(x)), {x: np.zeros(100000)})
    >>> 400000 <= trace.peak <= 1200000
    True
    """
    options = tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE)
    metadata = tf1.RunMetadata()
    result = (session or get_session()).run(fetches, feed_dict, options=options, run_metadata=metadata)
    return result, read_trace(metadata)


def read_trace(metadata):
    """The `MemoryTrace` of a run that was made with `trace_level=FULL_TRACE`.

    Args:
        metadata: tf.compat.v1.RunMetadata.

    Returns:
        `MemoryTrace`.

    Raises:
        ValueError: the run was not traced.
    """
    if not metadata.step_stats.dev_stats:
        raise ValueError(
            "these RunMetadata hold no trace; run with options=RunOptions(trace_level=RunOptions.FULL_TRACE)"
        )
    events = [
        (record.alloc_micros, record.alloc_bytes, node.node_name)
        for device in metadata.step_stats.dev_stats
        for node in device.node_stats
        for memory in node.memory
        for record in memory.allocation_records
    ]
    # What is released in the same microsecond in which something else begins is not counted on top of it.
    events.sort(key=lambda event: event[:2])
    running = peak = until = 0
    for i, (_, size, _) in enumerate(events):
        running += size
        if running > peak:
            peak, until = running, i + 1
    live = Counter()
    for _, size, name in events[:until]:
        live[name] += size
    total = sum(size for _, size, _ in events if size > 0)
    return MemoryTrace(peak, total, [pair for pair in live.most_common() if pair[1] > 0])


def training_memory(
    model: Model, inputs: Arrays, targets: Arrays, *, sample_weight: Optional[Array] = None
) -> Tuple[Any, MemoryTrace]:
    """Memory of one training step of a compiled Keras model.

    The step is really made: weights change. (Restore them afterwards if that matters.)

    Args:
        model: compiled Keras model.
        inputs: array or list of arrays, one batch.
        targets: array or list of arrays.
        sample_weight: array, 1 for every sample by default.

    Returns:
        tuple (loss and metrics, as `train_on_batch` returns them, `MemoryTrace`).

    Raises:
        ValueError: the model is not compiled.

    >>> model = keras.models.Sequential([keras.layers.Dense(64, activation='tanh', input_shape=(8,))])
    >>> model.compile('sgd', 'mse')
    >>> losses, trace = training_memory(model, np.ones([100, 8]), np.ones([100, 64]))
    >>> trace.peak > 100 * 64 * 4
    True
    """
    refuse_eager("training_memory")
    if getattr(model, "optimizer", None) is None:
        raise ValueError("the model is not compiled; call model.compile(optimizer, loss) first")
    metadata = tf1.RunMetadata()
    with train_function_options(model, tf1.RunOptions(trace_level=tf1.RunOptions.FULL_TRACE), metadata):
        values = model.train_on_batch(inputs, targets, sample_weight=sample_weight)
    return values, read_trace(metadata)
