"""TensorBoard logs: what is written is read again, and a full disk ends the training instead of holding it for ever."""

import glob
import os
import resource

import numpy as np
import pytest

from kexue_keras.backend import keras, tf1
from kexue_keras.finetune._tensorboard import ScalarLogger


def test_scalars_come_back_and_a_full_disk_is_an_error(tmp_path):
    folder, steps = str(tmp_path / "logs"), [0]
    model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(2,))])
    model.compile(keras.optimizers.SGD(0.5), "mse")
    logger = ScalarLogger(folder, lambda: steps[0])
    logger.set_model(model)
    logger.on_train_begin()
    for steps[0] in range(1, 31):
        logger.on_train_batch_end(0, {"loss": 1.0 / steps[0], "batch": 0, "size": 1})
    logger.on_epoch_end(0, {"val_loss": 0.25})
    (path,) = glob.glob(os.path.join(folder, "events.out.tfevents.*"))
    events = list(tf1.train.summary_iterator(path))  # readable while the training goes on
    assert events[0].file_version == "brain.Event:2"
    found = {(event.step, value.tag): value.simple_value for event in events for value in event.summary.value}
    expected = {(30, "epoch/val_loss"): 0.25}
    for step in (10, 20, 30):
        expected.update({(step, "step/loss"): np.float32(1.0 / step), (step, "step/learning_rate"): 0.5})
    assert found == pytest.approx(expected)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (os.path.getsize(path) + 10, limits[1]))
        with pytest.raises(OSError, match="File too large: .*events.out") as error:
            for steps[0] in range(40, 2000, 10):
                logger.on_train_batch_end(0, {"loss": 1.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.filename == path
