"""A run that diverges is delivered with an error, and weights that are not finite answer nothing."""

import glob
import io
import json
import os

import numpy as np
import pytest
from conftest import ROOT
from reviews import reviews, write_rows

from kexue_keras import models
from kexue_keras.backend import K
from kexue_keras.cli.main import main
from kexue_keras.cli.similar import open_encoder
from kexue_keras.errors import UserError
from kexue_keras.trainer import Trainer
from kexue_keras.trainer import _checkpoint as checkpoint


def test_a_diverged_run_is_delivered_with_an_error(tiny, tmp_path, monkeypatch, capsys):
    """Also when the same line stands in a job script and runs once more; prediction refuses weights of NaN."""
    own = Trainer._train_on_batch

    def poisoned(trainer, step, made):
        values = own(trainer, step, made)
        return [float("nan")] + list(values[1:]) if step == 4 else values

    monkeypatch.setattr(Trainer, "_train_on_batch", poisoned)
    data, run = write_rows(tmp_path / "train.tsv", reviews(40)), str(tmp_path / "run")
    line = [
        "finetune",
        "--model",
        tiny,
        "--data",
        data,
        "--out",
        run,
        "--epochs",
        "3",
        "--quiet",
        "--num-hidden-layers",
        "1",
    ]
    line += ["--max-length", "16", "--batch-size", "16"]
    for more in ([], ["--resume"]):
        assert main(line + more) == 2
        shown = capsys.readouterr().err
        assert "training diverged: the loss became nan at step 5; a lower --learning-rate" in shown
        assert "The model of epoch 1, the best before that, is kept here and can be used" in shown
    with io.open(os.path.join(run, "metrics.json"), encoding="utf-8") as handle:
        metrics = json.load(handle)
    assert metrics["best_epoch"] == 1 == len(metrics["history"]) and "step 5" in metrics["diverged"]
    assert not os.path.exists(os.path.join(run, "best.npz"))
    with io.open(os.path.join(run, "README.md"), encoding="utf-8") as handle:
        assert "| training diverged | the loss became nan at step 5" in handle.read()
    predict = ["predict", "--data", data, "--quiet", "--run", run]
    head = os.path.join(run, "head.npz")
    arrays, _ = checkpoint.load_arrays(head)
    assert all(np.isfinite(array).all() for array in arrays.values())
    arrays["kernel"][0, 0] = np.nan
    checkpoint.save_arrays(head, arrays)
    assert main(predict) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "head.npz: its weights are NaN or infinite (kernel)" in shown.err


def test_a_model_with_nan_is_not_loaded(tiny, tmp_path):
    loaded = models.load(tiny)
    loaded.model.set_weights([w + np.nan for w in loaded.model.get_weights()])
    models.save(loaded, str(tmp_path / "model"))
    K.clear_session()
    with pytest.raises(UserError, match="embeddings.* holds NaN or infinity; nothing was loaded"):
        open_encoder(str(tmp_path / "model"))


def test_every_task_that_throws_its_points_away_reports_divergence():
    users = []
    for path in glob.glob(os.path.join(ROOT, "kexue_keras", "finetune", "**", "*.py"), recursive=True):
        with open(path, encoding="utf-8") as handle:
            source = handle.read()
        if "trainer.forget()" in source:
            users.append(path)
            assert "report_divergence(metrics" in source and "metrics_of(trainer" in source, path
    assert len(users) == 5
