"""Texts without labels in a fine-tuning: what the batches are, what learns from them, and what is refused."""

import shutil

import numpy as np
import pytest
from helpers import tiny_bert_folder
from reviews import reviews, write_rows

from kexue_keras.backend import K, keras
from kexue_keras.errors import UserError
from kexue_keras.finetune import finetune
from kexue_keras.losses import RDropCrossentropy
from kexue_keras.optimizers import AdamW
from kexue_keras.trainer import Techniques, Trainer, wrapped
from kexue_keras.training.adversarial import VirtualAdversarial


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a tiny model, texts with and without labels, and pairs."""
    folder = tmp_path_factory.mktemp("unlabelled")
    tiny_bert_folder(str(folder / "tiny"), num_hidden_layers=1)
    K.clear_session()
    write_rows(str(folder / "train.tsv"), reviews(14))
    write_rows(str(folder / "valid.tsv"), reviews(8, 5))
    lines = [text + "，" + text for text, _ in reviews(10, 3)]
    (folder / "lines.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    write_rows(str(folder / "table.tsv"), [("text", "source")] + [(text, "web") for text, _ in reviews(10, 3)])
    write_rows(str(folder / "pairs.tsv"), [(text, text[1:], label) for text, label in reviews(14)])
    return folder


@pytest.fixture
def run(place, tmp_path, monkeypatch):
    """Fine-tunes the tiny model; returns its `Trainer`."""

    def train(name="run", data="train.tsv", before=None, **options):
        seen, trained, step_of = [], Trainer._train, Trainer._train_on_batch
        monkeypatch.setattr(Trainer, "_train", lambda trainer: seen.append(trainer) or trained(trainer))

        def trained_on(trainer, step, made):
            if before is not None:
                before(step)
            return step_of(trainer, step, made)

        monkeypatch.setattr(Trainer, "_train_on_batch", trained_on)
        how = dict(epochs=2, batch_size=4, max_length=24, learning_rate=1e-3, quiet=True, save_every=2, seed=3)
        if "unlabelled" in options:
            options["unlabelled"] = str(place / options["unlabelled"])
        finetune(str(place / "tiny"), str(place / data), str(tmp_path / name), **dict(how, **options))
        monkeypatch.undo()
        return seen[-1] if seen else None

    return train


@pytest.mark.parametrize("file", ["lines.txt", "table.tsv"])
def test_batches_have_as_many_texts_without_labels_which_only_the_divergence_sees(run, place, file):
    trainer = run(vat=1.0, rdrop=4.0, dropout_rate=0.3, unlabelled=file, valid=str(place / "valid.tsv"), epochs=1)
    inputs, targets, weights = trainer.make_batch(0)
    # Four with a label and four without, each twice for R-Drop.
    assert [x.shape for x in inputs] == [(16, inputs[0].shape[1])] * 2 and targets.shape == weights.shape == (16,)
    np.testing.assert_array_equal(weights, [2.0] * 8 + [0.0] * 8)
    loss = trainer.model.loss
    assert isinstance(loss, RDropCrossentropy) and loss.semi_supervised
    row = trainer.progress.history[0]
    assert row["train_loss"] > row["train_clean_loss"] > 0 and "train_accuracy" not in row
    assert not hasattr(trainer.model, "kexue_training_loss")


def test_a_stopped_run_goes_on_with_the_same_perturbations(run, place, tmp_path):
    how = dict(vat=1.0, lookahead=3, unlabelled="lines.txt", valid=str(place / "valid.tsv"))

    def keep(step):
        if step == 5:
            shutil.copytree(str(tmp_path / "whole"), str(tmp_path / "killed"))

    whole = run("whole", before=keep, **how)
    losses, weights = whole.progress.losses, whole.model.get_weights()
    K.clear_session()
    resumed = run("killed", resume=True, **how)
    assert len(resumed.losses) == 4 and resumed.progress.losses == losses
    for ours, theirs in zip(resumed.model.get_weights(), weights):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_measured_with_is_noticed_among_them(run, place, tmp_path):
    said = []
    (tmp_path / "all.txt").write_text("\n".join(text for text, _ in reviews(8, 5)[:3] + reviews(9, 3)), "utf-8")
    how = dict(vat=1.0, unlabelled=str(tmp_path / "all.txt"), valid=str(place / "valid.tsv"), epochs=1)
    run(say=said.append, quiet=False, **how)
    assert "texts without labels: 12" in said
    assert "note: 3 of 8 valid texts also occur among those without labels" in said


def test_several_labels_and_pairs(run, place, tmp_path):
    rows = [(text, label if i % 2 else label + "|c") for i, (text, label) in enumerate(reviews(14))]
    write_rows(str(tmp_path / "several.tsv"), rows)
    trainer = run(data=str(tmp_path / "several.tsv"), label_separator="|", vat=1.0, unlabelled="lines.txt", epochs=1)
    _, targets, weights = trainer.make_batch(0)
    assert targets.shape == (8, 3) and not targets[4:].any() and weights.tolist() == [2.0] * 4 + [0.0] * 4
    K.clear_session()
    write_rows(str(tmp_path / "more.tsv"), [(text, text[1:]) for text, _ in reviews(6, 3)])
    trainer = run("pairs", data="pairs.tsv", vat=1.0, unlabelled=str(tmp_path / "more.tsv"), epochs=1)
    segments = trainer.make_batch(0)[0][1]
    assert (segments[4:].max(axis=1) == 1).all()


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(unlabelled="lines.txt"), "--unlabelled: only --vat and --rdrop learn from texts without labels"),
        (dict(unlabelled="none.txt", vat=1.0), "none.txt: (no such file|No such file)"),
        (dict(unlabelled="lines.txt", vat=1.0, data="pairs.tsv"), "lines.txt.* training had .*--text-b-column"),
        (dict(unlabelled="lines.txt", vat=1.0, task="similarity"), "--vat does not go with --task similarity"),
        (dict(unlabelled="lines.txt", rdrop=1.0, task="ner"), "--unlabelled goes with classes of texts"),
        (dict(unlabelled="lines.txt", vat=1.0, frozen=True), "nothing for --vat to do"),
        (dict(vat=1.0, distributed=True), "--vat does not go with --distributed"),
    ],
)
def test_refusals(run, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        run(**options)
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("techniques", [dict(vat=0.1), dict(rdrop=4.0)])
def test_a_model_that_ends_with_a_softmax(techniques, monkeypatch):
    """The loss says whether it takes logits, and the techniques go by it."""
    made, init = [], VirtualAdversarial.__init__

    def kept(self, model, **how):
        made.append(how)
        init(self, model, **how)

    monkeypatch.setattr(VirtualAdversarial, "__init__", kept)
    tokens = keras.layers.Input([None])
    x = keras.layers.Embedding(9, 4)(tokens)
    x = keras.layers.Dropout(0.5)(keras.layers.GlobalAveragePooling1D()(x))
    model = keras.models.Model(tokens, keras.layers.Dense(3, activation="softmax")(x))
    loss = keras.losses.SparseCategoricalCrossentropy()

    def make_batch(step):
        return np.array([[1, 2], [3, 4]]), np.array([0, 2]), np.ones(2)

    how = dict(loss=loss, optimizer=AdamW(1e-2), techniques=Techniques(**techniques), steps=3)
    with wrapped(model, make_batch, **how) as ready:
        trainer = Trainer(ready.model, ready.make_batch, random_step=ready.random_step, steps=3)
        trainer.run()
    assert np.isfinite(trainer.losses).all()
    if "vat" in techniques:
        assert made[0]["from_logits"] is False and made[0]["divergence"] == "kl"
    else:
        assert ready.model.loss.get_config()["from_logits"] is False


def test_what_has_no_classes_is_refused():
    model = keras.models.Sequential([keras.layers.Embedding(9, 1, input_shape=(3,))])
    how = dict(loss="mse", optimizer=AdamW(), techniques=Techniques(vat=1.0), steps=3)
    with pytest.raises(UserError, match="vat goes with classes of texts"):
        with wrapped(model, lambda step: None, **how):
            pass
