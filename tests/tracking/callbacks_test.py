"""Runs logged elsewhere, with stand-ins for the libraries: what they are told, a resumed run, a missing library."""

import json
import sys
import types

import pytest

from kexue_keras.errors import UserError
from kexue_keras.tracking import MLflowLogger, WandbLogger, tracker


@pytest.fixture
def wandb(monkeypatch):
    """A stand-in whose `calls` are what it was told."""
    module = types.ModuleType("wandb")
    module.calls = []

    class Run(object):
        def __init__(self, id):
            self.id = id

        def log(self, scores):
            module.calls.append(("log", scores))

        def finish(self, exit_code):
            module.calls.append(("finish", exit_code))

    def init(**given):
        module.calls.append(("init", given))
        return Run(given.get("id", "abc"))

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


@pytest.fixture
def mlflow(monkeypatch):
    module = types.ModuleType("mlflow")
    module.calls = []

    def note(name):
        def call(*args, **given):
            module.calls.append((name,) + args + ((given,) if given else ()))
            return types.SimpleNamespace(info=types.SimpleNamespace(run_id=given.get("run_id", "r1")))

        return call

    for name in ("start_run", "log_params", "log_metrics", "end_run"):
        setattr(module, name, note(name))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    return module


def epochs(logger, *scores):
    logger.on_train_begin()
    for epoch, score in enumerate(scores):
        logger.on_epoch_end(epoch, {"loss": 1.0, "val_score": score})
    logger.on_train_end()


def test_wandb_gets_the_scores_of_each_epoch_and_a_resumed_run_goes_on(wandb, tmp_path):
    place = tmp_path / "tracking.json"
    epochs(WandbLogger(place, "/runs/first/", {"epochs": 2}), 0.5, 0.75)
    assert wandb.calls == [
        ("init", {"name": "first", "config": {"epochs": 2}}),
        ("log", {"loss": 1.0, "val_score": 0.5, "epoch": 1}),
        ("log", {"loss": 1.0, "val_score": 0.75, "epoch": 2}),
        ("finish", 0),
    ]
    assert json.loads(place.read_text()) == {"wandb": "abc"}
    epochs(WandbLogger(place, "/runs/first"))
    assert wandb.calls[-2][1]["id"] == "abc" and wandb.calls[-2][1]["resume"] == "allow"


def test_mlflow_gets_them_too(mlflow, tmp_path):
    place = tmp_path / "tracking.json"
    epochs(MLflowLogger(place, "first", {"data": "x" * 999}), 0.5)
    assert mlflow.calls == [
        ("start_run", {"run_name": "first"}),
        ("log_params", {"data": "x" * 250}),
        ("log_metrics", {"loss": 1.0, "val_score": 0.5}, {"step": 1}),
        ("end_run", {"status": "FINISHED"}),
    ]
    epochs(MLflowLogger(place, "first"))
    assert ("start_run", {"run_id": "r1"}) in mlflow.calls
    # Training that ends with an error.
    logger = MLflowLogger()
    logger.broken_off()
    logger.on_train_begin()
    logger.broken_off()
    logger.broken_off()
    assert [call[0] for call in mlflow.calls].count("end_run") == 3
    assert mlflow.calls[-1] == ("end_run", {"status": "FAILED"})


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_without_the_library_one_line_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match="not installed: pip install " + name):
        tracker(name)
