"""Atomic files: after a kill at any moment the old content or the new one is there, whole."""

import os
import random
import signal
import time

import numpy as np
import pytest

from kexue_keras.data import UserError
from kexue_keras.tasks import checkpoint


def test_arrays_and_meta_come_back(tmp_path):
    path = str(tmp_path / "a.npz")
    weights = [np.float32([[1, 2]]), np.int64(7), np.zeros((0, 3))]
    checkpoint.save_arrays(path, checkpoint.numbered("model", weights), {"epoch": 3, "名": [1.5, None]})
    arrays, meta = checkpoint.load_arrays(path)
    assert meta == {"epoch": 3, "名": [1.5, None]}
    for a, b in zip(checkpoint.from_numbered("model", arrays), weights):
        assert np.array_equal(a, b) and a.dtype == np.asarray(b).dtype


def test_a_failure_while_writing_leaves_the_old_file_and_no_rest(tmp_path):
    path = str(tmp_path / "a.txt")
    with checkpoint.atomic(path, "w") as handle:
        handle.write("old")
    with pytest.raises(RuntimeError):
        with checkpoint.atomic(path, "w") as handle:
            handle.write("new")
            raise RuntimeError
    with pytest.raises(RuntimeError):
        with checkpoint.atomic_path(path) as temporary:
            open(temporary, "w").close()
            raise RuntimeError
    assert os.listdir(str(tmp_path)) == ["a.txt"]
    assert open(path).read() == "old"


def test_kill_at_random_moments_never_leaves_a_broken_file(tmp_path):
    path = str(tmp_path / "a.npz")
    random.seed(3)
    seen = set()
    for _ in range(12):
        child = os.fork()
        if child == 0:
            try:
                for i in range(10**6):
                    checkpoint.save_arrays(path, {"a": np.full(200000, i, "float32")}, {"i": i})
            finally:
                os._exit(0)
        deadline = time.time() + 20
        while not os.path.exists(path) and time.time() < deadline:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        arrays, meta = checkpoint.load_arrays(path)
        assert (arrays["a"] == meta["i"]).all() and len(arrays["a"]) == 200000
        seen.add(len(os.listdir(str(tmp_path))))
    checkpoint.remove_leftovers(str(tmp_path))
    assert os.listdir(str(tmp_path)) == ["a.npz"]


def test_broken_point_is_explained(tmp_path):
    path = str(tmp_path / "a.npz")
    checkpoint.save_arrays(path, {"a": np.arange(1000)}, {})
    with open(path, "r+b") as handle:
        handle.truncate(500)
    with pytest.raises(UserError, match="no saved point"):
        checkpoint.load_arrays(path)


def test_random_state_round_trip():
    import json

    meta, keys = checkpoint.random_state()
    expected = [np.random.rand(), np.random.standard_normal(), random.random()]
    checkpoint.set_random_state(json.loads(json.dumps(meta)), keys)
    assert [np.random.rand(), np.random.standard_normal(), random.random()] == expected
