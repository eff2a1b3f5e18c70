"""`--metric`, `--patience`, `--track` of finetune, its callbacks, and the model card of a run."""

import json
import sys
import types

import pytest
from helpers import tiny_bert_folder
from reviews import reviews, write_rows

from kexue_keras.backend import K, keras
from kexue_keras.errors import UserError
from kexue_keras.finetune import finetune

SMALL = dict(epochs=3, batch_size=8, max_length=16, learning_rate=3e-3, quiet=True, seed=3, num_hidden_layers=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("metric")
    K.clear_session()
    tiny_bert_folder(folder / "tiny", num_hidden_layers=1)
    K.clear_session()
    write_rows(folder / "train.tsv", reviews(36, seed=1))
    write_rows(folder / "valid.tsv", reviews(9, seed=2))
    return folder


def given(place, out, **more):
    files = {"data": str(place / "train.tsv"), "valid": str(place / "valid.tsv")}
    return dict(SMALL, model=str(place / "tiny"), out=str(out), **dict(files, **more))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"metric": "auc"}, "--metric is 'auc'; it is one of accuracy, f1, loss, macro-f1"),
        ({"metric": "pearson"}, "--metric pearson: --task classification has accuracy, macro-f1, micro-f1, loss"),
        ({"metric": "spearman"}, "--metric spearman: --task classification has accuracy"),
        ({"metric": "accuracy", "task": "similarity"}, "--task similarity has spearman, pearson, loss"),
        ({"patience": 0}, "--patience is 0"),
        ({"track": "mlflow"}, "pip install mlflow"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_read(place, tmp_path, options, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError) as caught:
        finetune(**given(place, tmp_path / "out", **options))
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_metric_chooses_the_best_epoch_and_callbacks_see_each(place, tmp_path, monkeypatch):
    seen, told = [], []

    class Watch(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            seen.append(dict(logs))

    module = types.ModuleType("wandb")
    run = types.SimpleNamespace(id="x", log=told.append, finish=lambda exit_code: told.append(exit_code))
    module.init = lambda **given: run
    monkeypatch.setitem(sys.modules, "wandb", module)
    metrics = finetune(
        callbacks=[Watch()], **given(place, tmp_path / "out", metric="loss", track="wandb", patience=1, epochs=4)
    )
    losses = [row["valid_loss"] for row in metrics["history"]]
    assert metrics["main_metric"] == "loss" and losses[metrics["best_epoch"] - 1] == min(losses)
    assert [row["valid_score"] for row in metrics["history"]] == [-loss for loss in losses]
    assert len(losses) == min(4, metrics["best_epoch"] + 1)
    assert [row["val_loss"] for row in seen] == losses == [row["val_loss"] for row in told[:-1]]
    assert told[-1] == 0
    assert json.loads((tmp_path / "out" / "tracking.json").read_text()) == {"wandb": "x"}
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "text-classification" in card and "%.4f" % metrics["valid"]["accuracy"] in card
