"""Every task goes through the trainer: a kill changes nothing, and each technique reaches it or is refused."""

import json
import os

import numpy as np
import pytest
from conftest import ROOT
from tasks import TASKS, make_files, run_task

from kexue_keras.backend import K, tf1
from kexue_keras.errors import UserError
from kexue_keras.optimizers import ExponentialMovingAverage, GradientAccumulation, MomentumAccumulationAdamW
from kexue_keras.optimizers._base import chain

pytestmark = pytest.mark.usefixtures("plain_sessions")
# Steps before a kill: in the second epoch where there are any, between two points, in the middle of a window.
KILLED = {"classification": 7, "cosent": 7, "sbert": 7, "unilm": 5, "t5": 5, "prompts": 7}
TECHNIQUES = {"accumulate": 2, "ema": 0.5}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a tiny model and data."""
    folder = tmp_path_factory.mktemp("tasks")
    K.clear_session()
    make_files(str(folder))
    K.clear_session()
    return folder


@pytest.fixture
def train(place, tmp_path):
    """Runs a task in a graph of its own."""

    def run(task, name="run", techniques=None, resume=False):
        from helpers import plain_session

        K.clear_session()
        tf1.keras.backend.set_session(tf1.Session(config=plain_session()))
        return run_task(task, str(place), str(tmp_path / name), techniques, resume)

    return run


@pytest.mark.spread
@pytest.mark.parametrize("task", TASKS)
def test_killed_and_gone_on_with_it_ends_in_the_same_bits(task, train, place, tmp_path, fresh_python):
    source = """if True:
        import json, sys
        sys.path.insert(0, sys.argv[1])
        from helpers import plain_session
        from tasks import killed_at, run_task
        from kexue_keras.backend import tf1
        tf1.keras.backend.set_session(tf1.Session(config=plain_session()))
        killed_at(int(sys.argv[2]))
        run_task(sys.argv[3], sys.argv[4], sys.argv[5], json.loads(sys.argv[6]))
    """
    killed, arguments = KILLED.get(task, 5), [task, place, tmp_path / "killed", json.dumps(TECHNIQUES)]
    fresh_python(source, os.path.join(ROOT, "tests"), killed, *arguments, expect=-9)
    assert os.path.exists(str(tmp_path / "killed" / "checkpoint.npz"))
    resumed = train(task, "killed", TECHNIQUES, resume=True)
    assert killed - 2 <= resumed.progress.step - len(resumed.losses) <= killed
    weights, history = resumed.model.get_weights(), resumed.progress.history
    whole = train(task, "whole", TECHNIQUES)
    assert len(whole.losses) == whole.progress.steps > killed
    assert whole.progress.losses == resumed.progress.losses and whole.progress.history == history
    for ours, theirs in zip(weights, whole.model.get_weights()):
        np.testing.assert_array_equal(ours, theirs)
