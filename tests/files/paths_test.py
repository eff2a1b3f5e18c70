"""Paths of any type and any name at every entrance; nothing is read that is no regular file."""

import json
import os
import pathlib
import shutil
import socket

import numpy as np
import pytest
from helpers import CHARACTERS, tiny_bert_folder
from limits import outcome
from numpy_hf import bert_folder, t5_folder

from kexue_keras import checkpoints, models
from kexue_keras.checkpoints import convert
from kexue_keras.checkpoints._bundled import ASSETS
from kexue_keras.checkpoints._load import find_files, read_folder
from kexue_keras.checkpoints._variables import read_tensorflow
from kexue_keras.checkpoints._vocabulary import read_vocabulary
from kexue_keras.checkpoints.formats.safetensors_file import read_safetensors
from kexue_keras.checkpoints.formats.torch_file import read_torch
from kexue_keras.checkpoints.t5.loading import read_t5_folder
from kexue_keras.checkpoints.t5.trimming import sentencepiece_tokenizer, trim_sentencepiece
from kexue_keras.data import read_table
from kexue_keras.data._reviews import write_parts, write_reviews
from kexue_keras.errors import WeightsError
from kexue_keras.files.paths import as_text, check_regular, matching, path_text
from kexue_keras.finetune import _finetune as finetuning
from kexue_keras.finetune import _masked_lm as masked_lm
from kexue_keras.finetune import _seq2seq as seq2seq
from kexue_keras.finetune import _seq2seq_training as seq2seq_training
from kexue_keras.finetune import _simbert as simbert
from kexue_keras.finetune._run_folder import RunFolder
from kexue_keras.finetune._seq2seq import small_t5
from kexue_keras.finetune._tensorboard import ScalarLogger
from kexue_keras.finetune.classification._classifier import Classifier
from kexue_keras.models import load, save
from kexue_keras.options.finetune import make_options
from kexue_keras.prompting import _folder as prompt_files
from kexue_keras.schemas import read_object
from kexue_keras.similarity import SentenceEncoder, SimilarQuestions
from kexue_keras.similarity import _encoder as encoder_file
from kexue_keras.similarity import _questions as questions

ODD = "bert[base] *? {x}"  # characters of glob's patterns


class Reached(Exception):
    """Raised in place of building a model: the path has come through all that stands before it."""


@pytest.fixture
def no_models(monkeypatch):
    """The loaders that the modules call raise `Reached` with the path, as str."""

    def reach(path, *_, **__):
        raise Reached(path_text(path))

    for module in (prompt_files, encoder_file, questions, masked_lm, simbert):
        monkeypatch.setattr(module, "load", reach)
    monkeypatch.setattr(seq2seq_training, "load_seq2seq", reach)
    monkeypatch.setattr(models, "load", reach)
    monkeypatch.setattr(checkpoints, "load_t5", reach)


def write_rows(folder):
    rows = [(CHARACTERS[i : i + 6], "好坏"[i % 2]) for i in range(24)]
    return [pathlib.Path(path) for path in write_parts([rows, rows, rows], folder)]


@pytest.mark.parametrize("folder", ["bert", "t5"])
@pytest.mark.parametrize("format", ["hf", "tensorflow"])
def test_folders_are_converted_and_read_whatever_their_name(tmp_path, folder, format):
    made = {"bert": bert_folder, "t5": t5_folder}[folder](tmp_path / ODD / "a[1]")[0]
    target = tmp_path / ODD / "b[2]*"
    assert convert(pathlib.Path(made), target, format=format) == []
    if folder == "t5":
        _, variables = read_t5_folder(str(target), None, "error")
    else:
        variables = read_folder(target)[2]
        assert format == "hf" or find_files(str(target))[2].endswith("vocab.txt")
    assert all(np.isfinite(value).all() for value in variables.values())


def test_a_model_is_saved_and_loaded_under_any_path(tmp_path, monkeypatch):
    folder = pathlib.Path(tiny_bert_folder(tmp_path / ODD, num_hidden_layers=1))
    loaded = load(folder)
    assert loaded.name == str(folder)
    for format in ("hf", "tensorflow"):
        save(loaded, tmp_path / ("saved[1]" + format), format=format)
        assert read_folder(tmp_path / ("saved[1]" + format))[0] == "bert"
    encoder = SentenceEncoder(loaded).fit_whitening(["好", "坏", "书"], 1)
    encoder.save(tmp_path / "encoder[1]")
    words = {"words": [["好评", ["好"]], ["差评", ["坏"]]], "join": "mean_logit", "normalize_length": False}
    said = {"patterns": ["{mask}{text}"], "weights": [1.0], "verbalizer": words, "max_length": 16, "batch_size": 8}
    prompt_files.write_prompt(tmp_path / "prompt[1]", loaded, said)
    monkeypatch.setattr(encoder_file, "load", lambda path, **_: loaded)
    assert SentenceEncoder.load(tmp_path / "encoder[1]").encode(["好"]).shape == (1, 1)
    monkeypatch.setattr(prompt_files, "load", lambda path, **_: path)
    path, settings = prompt_files.read_prompt(tmp_path / "prompt[1]")
    assert path == str(tmp_path / "prompt[1]" / "model") and settings["patterns"] == said["patterns"]


def test_every_other_entrance_takes_a_path(tmp_path, no_models):
    folder = pathlib.Path(tiny_bert_folder(tmp_path / ODD, num_hidden_layers=1))
    t5 = pathlib.Path(t5_folder(tmp_path / "t5[1]")[0])
    for make in (SentenceEncoder, SimilarQuestions, simbert.SimBERT, masked_lm.MaskedLanguageModel):
        with pytest.raises(Reached) as caught:
            make(folder)
        assert caught.value.args == (str(folder),)
    for one in (folder, t5):
        with pytest.raises(Reached) as caught:
            seq2seq.load_seq2seq(one)
        assert caught.value.args == (str(one),)
    model = pathlib.Path(ASSETS) / "me5_zh_q4.spiece.model"
    corpus = tmp_path / "corpus[1].txt"
    corpus.write_text("今天天气不错\n", encoding="utf-8")
    trimmed = trim_sentencepiece(model, corpus, head=4, tail=0, spare=0)
    trimmed.save(tmp_path / "trimmed[1]")
    assert sentencepiece_tokenizer(tmp_path / "trimmed[1]" / "spiece.model")._vocab_size == len(trimmed.keep_tokens)
    assert small_t5(
        vocabulary=folder / "vocab.txt", hidden_size=8, num_hidden_layers=1, num_attention_heads=1
    ).tokenizer.encode("好")[0]
    logger = ScalarLogger(tmp_path / "logs[1]", lambda: 0)
    logger.on_train_begin()
    logger.on_train_end()
    assert matching(str(tmp_path / "logs[1]"), "events*")


def test_tables_and_runs_take_paths(tmp_path, no_models):
    parts = write_rows(tmp_path / "data[1]")
    assert len(read_table(parts[0])) == 24 and read_table(parts[0]).path == str(parts[0])
    assert pathlib.Path(write_reviews([("a", "b")], tmp_path / "x[1].tsv")).read_text() == "text\tlabel\na\tb\n"
    given = dict(
        model=tmp_path / "m", data=parts[0], valid=parts[1], out=tmp_path / "run", class_weights=tmp_path / "w"
    )
    assert json.loads(json.dumps(vars(make_options(**given))))["data"] == str(parts[0])
    assert RunFolder(tmp_path / "run[1]").file("x") == str(tmp_path / "run[1]" / "x")
    settings = []
    for kind in (str, pathlib.Path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(seq2seq_training, "_train", lambda model, parts, out, config, *_: settings.append(config()))
            seq2seq_training.finetune_seq2seq(
                kind("small"), kind(parts[0]), kind(tmp_path / "s"), valid=kind(parts[1]), source="1", target="2"
            )
    assert settings[0] == settings[1] and settings[0]["train"]["fingerprint"]


def test_finetune_with_paths(tmp_path):
    parts = write_rows(tmp_path / "data[1]")
    folder = pathlib.Path(tiny_bert_folder(tmp_path / ODD, num_hidden_layers=1))
    out = tmp_path / "run[1]"
    options = dict(valid=parts[1], test=parts[2], epochs=1, batch_size=24, max_length=8, quiet=True)
    finetuning.finetune(folder, parts[0], out, **options)
    assert len(Classifier.load(out).predict(["好"])) == 1


READERS = {
    "vocab.txt": read_vocabulary,
    "config.json": read_object,
    "model.safetensors": read_safetensors,
    "pytorch_model.bin": read_torch,
    "spiece.model": sentencepiece_tokenizer,
    "m.index": lambda path: read_tensorflow(path[: -len(".index")]),
}


@pytest.mark.usefixtures("fork")
@pytest.mark.parametrize("name", sorted(READERS))
def test_only_regular_files_are_read(tmp_path, name):
    path = str(tmp_path / name)
    things = {
        "nothing": lambda: None,
        "a folder": lambda: os.mkdir(path),
        "a device": lambda: os.symlink("/dev/zero", path),
        "a FIFO": lambda: os.mkfifo(path),
        "a loop": lambda: os.symlink(path, path),
    }
    for thing, make in things.items():
        make()
        text = outcome(READERS[name], path, seconds=5)
        assert text.startswith(("WeightsError: %s " % path, "WeightsError: %s: " % path)), (thing, text)
        if os.path.isdir(path):
            os.rmdir(path)
        elif os.path.lexists(path):
            os.remove(path)


def test_what_is_no_file_is_named(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        with pytest.raises(WeightsError, match="s is a socket; expected a regular file"):
            check_regular(str(tmp_path / "s"))
    with pytest.raises(WeightsError, match="has a NUL character in it"):
        check_regular("a\0b")
    assert matching("a\0b", "*") == matching(str(tmp_path / "none"), "*") == []
    assert path_text(os.fsencode("é")) == "é" and as_text([1]) == [1]
    with pytest.raises(TypeError):
        path_text(None)


@pytest.mark.parametrize(
    "places, message",
    [
        ({"x": 5}, "names 5 as a file"),
        ({"x": None}, "names None as a file"),
        ({"x": ["a"]}, "names .* as a file"),
        ({"x": "a\0b"}, "as a file"),
        ({"x": "a\x1b[2J"}, "as a file"),
        ({"x": ".."}, "outside of the folder"),
        ({"x": ""}, "outside of the folder|as a file"),
        ({"x": "/dev/zero"}, "outside of the folder"),
        ({"x": "zero"}, "zero is a device; expected a regular file"),
        ({"x": "sub"}, "sub is a folder; expected a regular file"),
        ({}, "no index of shards"),
        ([], "no index of shards"),
        ("x", "no index of shards"),
        (None, "no index of shards"),
    ],
)
def test_shards_whose_names_are_none(tmp_path, places, message):
    path, _, _ = bert_folder(tmp_path / "hf")
    os.remove(os.path.join(path, "model.safetensors"))
    os.symlink("/dev/zero", os.path.join(path, "zero"))
    os.mkdir(os.path.join(path, "sub"))
    for index in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        with open(os.path.join(path, index), "w") as handle:
            json.dump({"weight_map": places}, handle)
        with pytest.raises(WeightsError, match=message) as caught:
            convert(path, tmp_path / "out")
        assert str(caught.value).isprintable()
        os.remove(os.path.join(path, index))
    shutil.rmtree(path)
