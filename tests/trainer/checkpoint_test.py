"""Saved points: arrays and meta come back, a broken one is explained, so are random states."""

import gc
import json
import os
import random
import resource

import numpy as np
import pytest
from files.kills import killed_everywhere

from kexue_keras.backend import keras
from kexue_keras.errors import UserError
from kexue_keras.files import remove_leftovers
from kexue_keras.trainer import _checkpoint as checkpoint


def test_arrays_and_meta_come_back(tmp_path):
    path = str(tmp_path / "a.npz")
    weights = [np.float32([[1, 2]]), np.int64(7), np.zeros((0, 3))]
    checkpoint.save_arrays(path, checkpoint.numbered("model", weights), {"epoch": 3, "名": [1.5, None]})
    arrays, meta = checkpoint.load_arrays(path)
    assert meta == {"epoch": 3, "名": [1.5, None]}
    for a, b in zip(checkpoint.from_numbered("model", arrays), weights):
        assert np.array_equal(a, b) and a.dtype == np.asarray(b).dtype


@pytest.mark.usefixtures("fork")
def test_killed_at_any_call_the_old_or_the_new_point_is_there(tmp_path):
    path, seen = str(tmp_path / "a.npz"), set()

    def save(value):
        checkpoint.save_arrays(path, {"a": np.full(2000, value, "float32")}, {"i": value})

    def check():
        arrays, meta = checkpoint.load_arrays(path)
        assert (arrays["a"] == meta["i"]).all() and len(arrays["a"]) == 2000
        seen.add(meta["i"])
        remove_leftovers(str(tmp_path))
        assert os.listdir(str(tmp_path)) == ["a.npz"]

    assert killed_everywhere(lambda: save(1), lambda: save(2), check, calls_too=["fsync", "close"]) > 6
    assert seen == {1, 2}


def test_a_full_disk_is_one_error_without_noise(tmp_path, capfd):
    layers = [keras.layers.Dense(64, input_shape=(64,)), keras.layers.Dense(64)]
    model = keras.models.Sequential(layers)
    path, limits = str(tmp_path / "a.npz"), resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoint.save_arrays(path, {"x": np.ones(3)})
    arrays = checkpoint.numbered("model", model.get_weights())
    for size in (100, 3000, 30000):
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
            with pytest.raises(OSError, match="File too large.*a.npz"):
                checkpoint.save_arrays(path, arrays)
            gc.collect()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.listdir(str(tmp_path)) == ["a.npz"] and capfd.readouterr().err == ""
    np.testing.assert_array_equal(checkpoint.load_arrays(path)[0]["x"], np.ones(3))


def test_broken_point_is_explained(tmp_path):
    path = str(tmp_path / "a.npz")
    checkpoint.save_arrays(path, {"a": np.arange(1000)}, {})
    with open(path, "r+b") as handle:
        handle.truncate(500)
    with pytest.raises(UserError, match="not a checkpoint"):
        checkpoint.load_arrays(path)


def test_random_state_round_trip():
    meta, keys = checkpoint.random_state()
    expected = [np.random.rand(), np.random.standard_normal(), random.random()]
    checkpoint.set_random_state(json.loads(json.dumps(meta)), keys)
    assert [np.random.rand(), np.random.standard_normal(), random.random()] == expected
