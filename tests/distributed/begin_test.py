"""Which processes there are, what is refused, seeds, first weights, and the end of waiting."""

import time

import numpy as np
import pytest
import tensorflow as tf
from rank_threads import in_threads

from kexue_keras import distributed, optimizers
from kexue_keras.backend import K, is_tf2, keras
from kexue_keras.distributed._watchdog import Watchdog
from kexue_keras.errors import UserError
from kexue_keras.optimizers import AdamW, Distributed, GradientAccumulation, MultiTask
from kexue_keras.training.precision import LossScale


def tiny():
    return keras.models.Sequential([keras.layers.Dense(2, input_shape=(3,))])


@pytest.mark.all_stacks
def test_without_horovodrun_there_is_one_rank():
    assert (distributed.rank(), distributed.local_rank(), distributed.size()) == (0, 0, 1)
    assert distributed.is_first()
    model = tiny()
    model.compile(Distributed(AdamW(0.1)), "mse")
    before = model.get_weights()
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    assert np.abs(before[0] - model.get_weights()[0]).max() > 0.05


@pytest.mark.all_stacks
def test_init_says_what_is_missing(monkeypatch):
    if is_tf2:
        with pytest.raises(UserError, match="does not build for TensorFlow 2.16 and later"):
            distributed.init()
        return
    with pytest.raises(RuntimeError, match="a session already"):
        K.get_value(K.variable(1.0))
        distributed.init()
    K.clear_session()
    monkeypatch.setattr("kexue_keras.backend.keras_has_session", lambda: False)
    monkeypatch.setitem(__import__("sys").modules, "horovod.tensorflow", None)
    with pytest.raises(UserError, match="needs Horovod .*pip install"):
        distributed.init()
    with pytest.raises(ValueError, match="timeout must be a number > 0"):
        distributed.init(timeout=0)


@pytest.mark.all_stacks
def test_processes_that_do_not_talk_are_refused(monkeypatch):
    """Two processes that Horovod has started would each train by themselves."""
    monkeypatch.setenv("HOROVOD_SIZE", "2")
    model = tiny()
    model.compile(Distributed(AdamW(0.1)), "mse")
    with pytest.raises(RuntimeError, match="started 2 processes.*call kexue_keras.distributed.init"):
        model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    with pytest.raises(RuntimeError, match="average: horovodrun has started"):
        distributed.average({"loss": 1.0})


@pytest.mark.all_stacks
@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: optimizers.Lookahead(Distributed(AdamW())), "Distributed stands inside Lookahead"),
        (lambda: optimizers.ExponentialMovingAverage(Distributed(AdamW())), "inside ExponentialMovingAverage"),
        (lambda: Distributed(Distributed(AdamW())), "Distributed stands inside Distributed"),
        (lambda: Distributed(GradientAccumulation(AdamW(), 2)), "GradientAccumulation has to be the outermost"),
        (lambda: Distributed(LossScale(AdamW())), "LossScale has to be the outermost"),
        (lambda: Distributed(MultiTask(AdamW())), "write MultiTask.Distributed"),
    ],
)
def test_the_wrong_order_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.all_stacks
def test_the_wrapper_is_saved(run_python, tmp_path):
    model = tiny()
    model.compile(GradientAccumulation(Distributed(AdamW(0.1), sparse_as_dense=True), 2), "mse")
    model.train_on_batch(np.ones((4, 3)), np.ones((4, 2)))
    model.save(str(tmp_path / "model.h5"))
    source = """
import sys
import kexue_keras
from kexue_keras.backend import keras
optimizer = keras.models.load_model(sys.argv[1]).optimizer.optimizer
print(type(optimizer).__name__, optimizer.sparse_as_dense)
"""
    assert run_python(source, tmp_path / "model.h5").split()[-2:] == ["Distributed", "True"]


def test_seeds_and_first_weights():
    """Equal random numbers in numpy, others in TensorFlow; then the weights of the first."""

    def build():
        distributed.set_seed(7)
        model = tiny()
        drawn = tf.random.uniform([])
        number = np.random.rand()

        def run():
            first = model.get_weights()[0]
            distributed.broadcast_weights(model)
            return number, float(K.get_value(drawn)), first, model.get_weights()[0]

        return run

    (a, x, first, w), (b, y, other, v) = in_threads(build, 2)
    assert a == b and x != y and (first != other).any()
    np.testing.assert_array_equal(w, first)
    np.testing.assert_array_equal(v, first)


def test_other_models_are_refused():
    def build():
        model = keras.models.Sequential([keras.layers.Dense(2 + distributed.rank(), input_shape=(3,))])
        return lambda: distributed.broadcast_weights(model)

    with pytest.raises(ValueError, match="build the same model on all ranks"):
        in_threads(build, 2, timeout=5)


def test_metrics_are_those_of_all_ranks():
    """Of `fit`, in which the ranks have different numbers of rows."""

    def build():
        rank = distributed.rank()
        callback = distributed.AverageMetrics()

        def run():
            callback.on_epoch_begin(0)
            callback.on_batch_end(0, {"size": 3 - 2 * rank})
            logs = {"loss": 1.0 + 3 * rank, "val_loss": float(rank), "lr": np.float32(0.1), "text": "as it is"}
            callback.on_epoch_end(0, logs)
            return logs

        return run

    for logs in in_threads(build, 2):
        assert logs == {"loss": 1.75, "val_loss": 0.5, "lr": pytest.approx(0.1), "text": "as it is"}


def test_who_waits_in_vain_ends(capsys):
    left = []
    dog = Watchdog(0.2, "error: nobody comes", leave=left.append)
    dog.begin()
    for _ in range(5):
        time.sleep(0.06)
        dog.alive()
    assert not left
    time.sleep(0.6)
    assert left == [1] and "nobody comes" in capsys.readouterr().err
    dog.begin()
    dog.end()
    time.sleep(0.4)
    assert left == [1]
