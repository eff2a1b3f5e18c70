"""Training by steps: the folder of its point."""

import os

import pytest

from kexue_keras.errors import UserError
from kexue_keras.files import FolderLock
from kexue_keras.finetune._steps import train_steps

pytestmark = pytest.mark.stacks("one")


class Model(object):
    """Enough of a Keras model."""

    trainable_weights = ()

    class optimizer(object):  # noqa: N801
        get_weights = staticmethod(list)
        set_weights = staticmethod(list)

    def train_on_batch(self, inputs, targets):
        return 1.0


def test_one_process_has_the_folder_of_a_point(tmp_path):
    def train(folder, steps=2):
        return train_steps(Model(), lambda step: (None, None), steps=steps, folder=folder)

    with pytest.raises(UserError, match="name of the folder for the point is empty"):
        train("")
    folder = str(tmp_path / "a" / "run")
    assert train(folder) == [1.0, 1.0]
    temporary, users = ".kexue_keras-0123456789ab.tmp", "notes.2021.tmp"
    for name in (temporary, users):
        (tmp_path / "a" / "run" / name).write_text("x")
    with FolderLock(folder):
        with pytest.raises(UserError, match="another process is at work in this folder"):
            train(folder)
        assert temporary in os.listdir(folder)
    assert train(folder) == []
    assert sorted(os.listdir(folder)) == [".kexue_keras-lock", "checkpoint.npz", users]
