"""What is asked of the device."""

import pytest

from kexue_keras import backend
from kexue_keras.backend import acceleration


def test_a_processor_takes_small_batches_without_padding(monkeypatch):
    monkeypatch.setattr(acceleration, "has_gpu", lambda: False)
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)
    assert backend.prediction_batching() == {}


@pytest.mark.parametrize("gpu, flags", [(True, ""), (False, "--tf_xla_auto_jit=2 --tf_xla_cpu_global_jit")])
def test_a_gpu_and_xla_want_large_batches_of_few_lengths(monkeypatch, gpu, flags):
    monkeypatch.setattr(acceleration, "has_gpu", lambda: gpu)
    monkeypatch.setenv("TF_XLA_FLAGS", flags)
    assert backend.prediction_batching() == {"rounding": 8, "most_tokens": None}


@pytest.mark.all_stacks
def test_the_error_function_is_slow_on_processors_before_tensorflow_2(monkeypatch):
    monkeypatch.setattr(acceleration, "has_gpu", lambda: False)
    assert backend.erf_is_slow() == (not backend.is_tf2)
    monkeypatch.setattr(acceleration, "has_gpu", lambda: True)
    assert not backend.erf_is_slow()
