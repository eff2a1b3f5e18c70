"""MaskedLanguageModel: it learns, a stopped run ends as the uninterrupted one, frozen layers stay, what is saved."""

import shutil

import numpy as np
import pytest
from helpers import tiny_bert_folder

from kexue_keras.backend import K, set_seed
from kexue_keras.errors import UserError
from kexue_keras.finetune._masked_lm import MaskedLanguageModel
from kexue_keras.models import load

TEXTS = ["今天电影很好", "书店服务好", "我们看电影", "我喜欢书店", "今天我们看书"] * 4


@pytest.fixture
def folder(tmp_path):
    return tiny_bert_folder(tmp_path / "bert", num_hidden_layers=2)


def untrained(folder, **options):
    K.clear_session()
    set_seed(3)
    return MaskedLanguageModel(folder, max_length=10, **options)


def test_a_stopped_run_ends_as_the_uninterrupted_one(folder, tmp_path):
    options = dict(steps=6, batch_size=4, learning_rate=1e-3, seed=1, save_every=2)
    whole = untrained(folder, frozen=1)
    lowest = whole.pretrained.bert.layers["Transformer-0-FeedForward"].get_weights()
    table = whole.pretrained.bert.layers["Embedding-Token"].get_weights()
    # What a kill before the fourth step leaves are the files.
    point, batch, steps = str(tmp_path / "point"), whole._batch, []

    def batch_and_copy(*args):
        if len(steps) == 3:
            shutil.copytree(str(tmp_path / "whole"), point)
        steps.append(args)
        return batch(*args)

    whole._batch = batch_and_copy
    whole.train(TEXTS, folder=str(tmp_path / "whole"), **options)
    whole._batch = batch
    for layer, before in (("Transformer-0-FeedForward", lowest), ("Embedding-Token", table)):
        for one, other in zip(whole.pretrained.bert.layers[layer].get_weights(), before):
            np.testing.assert_array_equal(one, other)
    scores = whole.evaluate(TEXTS)
    said = []
    resumed = untrained(folder, frozen=1)
    resumed.train(TEXTS, folder=point, say=said.append, **options)
    assert "resuming after epoch 0, batch 2 (step 2 of 6)" in said
    # Not the weights themselves: where a gradient is 0 but for rounding, Adam goes either way.
    assert resumed.evaluate(TEXTS) == pytest.approx(scores, abs=2e-4)
    with pytest.raises(UserError, match="a point of another run"):
        resumed.train(TEXTS, folder=point, **dict(options, steps=7))
    # What is saved is an ordinary folder with a head, the frozen layers among the rest.
    resumed.save(str(tmp_path / "model"))
    ids = np.array([[2, 6, 7, 8, 3]])
    wanted = resumed.pretrained.model.predict([ids, 0 * ids])
    K.clear_session()
    again = load(str(tmp_path / "model"), with_mlm="linear")
    np.testing.assert_allclose(again.model.predict([ids, 0 * ids]), wanted, atol=1e-5)


def test_it_learns(folder):
    mlm = untrained(folder, mask_rate=0.3)
    before = mlm.evaluate(TEXTS)
    mlm.train(TEXTS, steps=100, batch_size=20, learning_rate=2e-2, head_lr_multiplier=1.0)
    after = mlm.evaluate(TEXTS)
    assert after["tokens"] == before["tokens"] > 10
    assert after["accuracy"] > max(before["accuracy"], after["chance"]) and after["loss"] < before["loss"]


def test_what_is_wrong_is_said(folder):
    with pytest.raises(ValueError, match="frozen is 3; the model has 2 layers"):
        untrained(folder, frozen=3)
    with pytest.raises(UserError, match="there is no text"):
        untrained(folder).train([], steps=1)
    with pytest.raises(UserError, match="no token of the 1 texts was hidden"):
        untrained(folder).evaluate(["今"])
