"""The traced peak counts what lives at the same time."""

import numpy as np
import pytest

from kexue_keras.backend import keras, tf1
from kexue_keras.training.recompute._memory import read_trace, trace_memory, training_memory

# What is measured is what users have.
pytestmark = pytest.mark.optimized_sessions


def metadata(*events):
    """RunMetadata with one record per event (microsecond, bytes)."""
    result = tf1.RunMetadata()
    node = result.step_stats.dev_stats.add().node_stats.add()
    node.node_name = "op"
    memory = node.memory.add()
    for at, size in events:
        memory.allocation_records.add(alloc_micros=at, alloc_bytes=size)
    return result


def test_the_peak_is_that_of_the_running_sum():
    # 10 lives throughout; 7 is gone when 5 comes, also in the same microsecond
    trace = read_trace(metadata((1, 10), (2, 7), (5, 5), (5, -7), (9, -5), (9, -10)))
    assert trace.peak == 17 and trace.total == 22
    assert trace.live == [("op", 17)]
    with pytest.raises(ValueError, match="hold no trace"):
        read_trace(tf1.RunMetadata())


def test_a_chain_needs_two_tensors_and_a_sum_of_all_needs_all():
    x = tf1.placeholder("float32", [None])
    value = np.zeros(10**5, "float32")
    parts = [tf1.cumsum(x + float(i)) for i in range(6)]
    chain = x
    for _ in range(6):
        chain = tf1.cumsum(chain)
    together, one_by_one = (trace_memory(t.op, {x: value})[1] for t in (tf1.concat(parts, 0), chain))
    assert 6 <= together.peak / value.nbytes <= 20
    assert 1 <= one_by_one.peak / value.nbytes <= 3
    assert together.live[0][1] >= value.nbytes


def test_a_training_step_of_keras_is_traced_and_happens_once():
    model = keras.models.Sequential([keras.layers.Dense(50, activation="tanh", input_shape=(8,))])
    with pytest.raises(ValueError, match="not compiled"):
        training_memory(model, np.ones([4, 8]), np.ones([4, 50]))
    model.compile("sgd", "mse")
    peaks = []
    for rows in (200, 400):
        loss, trace = training_memory(model, np.ones([rows, 8]), np.zeros([rows, 50]), sample_weight=np.ones(rows))
        peaks.append(trace.peak)
        assert np.isfinite(loss)
    assert 1.6 < peaks[1] / peaks[0] < 2.2
    before = model.get_weights()[0]
    model.train_on_batch(np.ones([4, 8]), np.zeros([4, 50]))
    assert (before != model.get_weights()[0]).any()
