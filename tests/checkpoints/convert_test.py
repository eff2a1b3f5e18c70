"""convert and save: bit for bit there and back, trimming, the command."""

import json
import os
import shutil

import numpy as np
import pytest
from files.kills import killed_everywhere
from helpers import tiny_bert_folder
from numpy_hf import bert_folder, t5_folder, write_folder

from kexue_keras.checkpoints import convert
from kexue_keras.checkpoints._bundled import ASSETS
from kexue_keras.checkpoints._variables import read_tensorflow
from kexue_keras.checkpoints._write import weights_of, write_tensorflow
from kexue_keras.checkpoints.formats.safetensors_file import read_safetensors
from kexue_keras.cli import main as cli
from kexue_keras.errors import WeightsError
from kexue_keras.files import restore_interrupted
from kexue_keras.models import load, save
from kexue_keras.prompting._folder import write_prompt
from kexue_keras.similarity import SentenceEncoder


def equal(found, expected):
    assert set(found) == set(expected)
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name], expected[name])


def weights_in(path):
    return dict(read_safetensors(os.path.join(str(path), "model.safetensors")).items())


@pytest.mark.parametrize("kind", ["bert", "albert", "electra", "roformer", "t5", "mt5"])
def test_there_and_back_is_the_same_bit_for_bit(tmp_path, kind):
    if "t5" in kind:
        path, config, weights = t5_folder(tmp_path / "hf", kind == "mt5", (1, 2))
    else:
        path, config, weights = bert_folder(tmp_path / "hf", kind, hidden_act="gelu_new", layer_norm_eps=1e-5)
    assert convert(path, str(tmp_path / "tf")) == []
    assert convert(str(tmp_path / "tf"), str(tmp_path / "back")) == []
    found = weights_in(tmp_path / "back")
    found.pop("roformer.encoder.embed_positions.weight", None)
    equal(found, weights)
    written = json.loads((tmp_path / "back" / "config.json").read_text())
    for key in set(config) - {"architectures", "embedding_size"}:
        assert written[key] == config[key], key
    if "t5" not in kind:
        assert (tmp_path / "back" / "vocab.txt").read_text() == (tmp_path / "hf" / "vocab.txt").read_text()


def test_google_style_checkpoints_there_and_back(tmp_path):
    folder = tiny_bert_folder(tmp_path / "google", num_hidden_layers=1)
    prefix = os.path.join(folder, "bert_model.ckpt")
    arrays = dict(read_tensorflow(prefix).items())
    # Heads and what an optimizer leaves behind, as in published checkpoints.
    rng = np.random.RandomState(0)
    arrays["cls/seq_relationship/output_weights"] = rng.normal(size=[2, 16]).astype("float32")
    arrays["cls/seq_relationship/output_bias"] = rng.normal(size=2).astype("float32")
    slots = {"bert/pooler/dense/kernel/adam_m": arrays["cls/seq_relationship/output_bias"], "global_step": np.int64(3)}
    write_tensorflow(prefix, dict(arrays, **slots))
    convert(folder, str(tmp_path / "hf"))
    convert(str(tmp_path / "hf"), str(tmp_path / "back"))
    equal(dict(read_tensorflow(str(tmp_path / "back" / "bert_model.ckpt")).items()), arrays)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["hidden_act"] == "gelu" and config["model_type"] == "bert"


def test_a_model_is_saved_in_both_formats_and_loaded_in_another_process(tmp_path, run_python):
    path, _, weights = bert_folder(tmp_path / "hf")
    loaded = load(path, with_mlm=True)
    ids = np.array([[2, 6, 7, 3, 0]])
    expected = loaded.model.predict([ids, 0 * ids])
    save(loaded, str(tmp_path / "saved"), format="hf")
    loaded.bert.layers["Embedding-Token"].trainable = False  # what is frozen belongs to the model all the same
    loaded.bert.layers["Transformer-0-MultiHeadSelfAttention"].trainable = False
    save(loaded, str(tmp_path / "tf"))
    assert not loaded.bert.layers["Transformer-0-MultiHeadSelfAttention"].trainable_weights
    equal(weights_in(tmp_path / "saved"), weights)
    out = run_python(
        "import sys, json, numpy as np; from kexue_keras.models import load; m = load(sys.argv[1], with_mlm=True); "
        "ids = np.array([[2, 6, 7, 3, 0]]); print(json.dumps(m.model.predict([ids, 0 * ids]).tolist()))",
        tmp_path / "tf",
    )
    np.testing.assert_allclose(json.loads(out.splitlines()[-1]), expected, atol=1e-6)


def test_trimming_cuts_what_has_a_row_a_token(tmp_path):
    path, _, weights = t5_folder(tmp_path / "hf")
    kept = [0, 1, 2, 30]
    convert(path, str(tmp_path / "small"), keep_tokens=kept)
    small = weights_in(tmp_path / "small")
    np.testing.assert_array_equal(small["shared.weight"], weights["shared.weight"][kept])
    np.testing.assert_array_equal(small["lm_head.weight"], weights["lm_head.weight"][kept])
    # Once more: the record says which rows of the first one are left.
    convert(str(tmp_path / "small"), str(tmp_path / "smaller"), keep_tokens=[0, 3], format="tensorflow")
    config = json.loads((tmp_path / "smaller" / "t5_config.json").read_text())
    assert config["trimmed"] == {"rows": 50, "keep_tokens": [0, 30]} and config["vocab_size"] == 2
    with pytest.raises(WeightsError, match="the id 4, but .* was trimmed from 50 rows to 2"):
        convert(str(tmp_path / "smaller"), str(tmp_path / "x"), keep_tokens=[4])
    assert not os.path.exists(str(tmp_path / "x"))
    bert, _, weights = bert_folder(tmp_path / "bert")
    convert(bert, str(tmp_path / "b"), keep_tokens=[0, 1, 2, 3, 4, 9])
    small = weights_in(tmp_path / "b")
    np.testing.assert_array_equal(small["cls.predictions.bias"], weights["cls.predictions.bias"][[0, 1, 2, 3, 4, 9]])
    assert (tmp_path / "b" / "vocab.txt").read_text().split() == "[PAD] [UNK] [CLS] [SEP] [MASK] w4".split()


def test_what_is_there_is_not_overwritten_and_nothing_is_left_half_done(tmp_path, monkeypatch):
    path, _, weights = bert_folder(tmp_path / "hf")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("x")
    with pytest.raises(WeightsError, match="out is there already"):
        convert(path, str(tmp_path / "out"))
    assert os.listdir(str(tmp_path / "out")) == ["mine.txt"]

    def fail(*_):
        raise OSError("disk full")

    with pytest.raises(WeightsError, match="out carries no mark of kexue_keras.*so it is not replaced"):
        convert(path, str(tmp_path / "out"), overwrite=True)
    monkeypatch.setattr("kexue_keras.checkpoints._write.write_tensorflow", fail)
    with pytest.raises(OSError, match="a.tf: disk full"):
        convert(path, str(tmp_path / "a" / "tf"), overwrite=True)
    assert sorted(os.listdir(str(tmp_path))) == ["hf", "out"] and os.listdir(str(tmp_path / "out")) == ["mine.txt"]
    monkeypatch.undo()
    convert(path, str(tmp_path / "tf"))
    convert(path, str(tmp_path / "tf"), overwrite=True)
    assert "bert_config.json" in os.listdir(str(tmp_path / "tf"))
    # What is read is nowhere deleted but where it is itself the place, and ours.
    for target, words in [
        ("", "name of the folder is empty"),
        (os.getcwd(), "current folder"),
        (str(tmp_path), "hf is in .*, which would be replaced"),
        (path, "carries no mark"),
    ]:
        with pytest.raises(WeightsError, match=words):
            convert(path, target, overwrite=True)
    convert(str(tmp_path / "tf"), str(tmp_path / "tf"), overwrite=True, format="hf")
    assert sorted(os.listdir(str(tmp_path))) == ["hf", "out", "tf"]
    equal(weights_in(tmp_path / "tf"), weights)


@pytest.mark.usefixtures("fork")
@pytest.mark.usefixtures("quick_disk")
def test_a_model_is_converted_where_it_is_whatever_call_a_kill_comes_to(tmp_path):
    source, folder = tmp_path / "source", str(tmp_path / "m")
    convert(bert_folder(tmp_path / "hf")[0], str(source), format="hf")
    expected = weights_in(source)
    seen = []

    def prepare():
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(str(source), folder)

    def check():
        restore_interrupted(folder)
        seen.append("model.safetensors" in os.listdir(folder))
        # The same line, or back if it has gone through: `convert M M --overwrite`.
        convert(folder, folder, overwrite=True, format="hf")
        equal(weights_in(folder), expected)
        assert sorted(os.listdir(str(tmp_path))) == ["hf", "m", "source"]

    calls = killed_everywhere(prepare, lambda: convert(folder, folder, overwrite=True, format="hf"), check)
    assert calls > 15 and all(seen)


@pytest.mark.parametrize("kind", ["model", "encoder", "prompt"])
def test_what_is_saved_replaces_what_was_saved_and_nothing_else(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(str(tmp_path))
    loaded = load(tiny_bert_folder(tmp_path / "tiny", num_hidden_layers=1))
    if kind == "encoder":
        write = SentenceEncoder(loaded).save
    elif kind == "prompt":

        def write(path, **options):
            write_prompt(path, loaded, {"patterns": []}, **options)

    else:

        def write(path, **options):
            save(loaded, path, **options)

    with pytest.raises(WeightsError, match="name of the folder is empty"):
        write("")
    for place in (".", "tiny"):
        with pytest.raises(WeightsError, match="current folder" if place == "." else "carries no mark"):
            write(place, overwrite=True)
    write("new/out")
    with pytest.raises(WeightsError, match="out is there already"):
        write("new/out")
    before = sorted(os.listdir("new/out"))
    with pytest.MonkeyPatch.context() as patch:
        # After the weights, where vocabulary, settings and whitening are written.
        last = {
            "model": "checkpoints._write._write_vocabulary",
            "encoder": "similarity._encoder.write_json",
            "prompt": "prompting._folder.write_json",
        }[kind]

        def full(*args, **options):
            raise OSError(28, "No space left on device")

        patch.setattr("kexue_keras." + last, full)
        for place in ("new/out", "other"):
            with pytest.raises(OSError, match="No space left"):
                write(place, overwrite=True)
    assert sorted(os.listdir("new/out")) == before and sorted(os.listdir(".")) == ["new", "tiny"]
    write("new/out", overwrite=True)
    assert sorted(os.listdir("new/out")) == before and os.listdir("new") == ["out"]


def test_kinds_and_variables_that_the_other_format_lacks(tmp_path):
    tiny_bert_folder(tmp_path / "nezha", "nezha", num_hidden_layers=1)
    with pytest.raises(WeightsError, match="no model of the kind 'nezha'"):
        convert(str(tmp_path / "nezha"), str(tmp_path / "x"))
    convert(bert_folder(tmp_path / "hf")[0], str(tmp_path / "bert"))
    folder = str(tmp_path / "bert")
    prefix = os.path.join(folder, "bert_model.ckpt")
    write_tensorflow(prefix, dict(read_tensorflow(prefix).items(), my_head=np.zeros(3, "float32")))
    with pytest.raises(WeightsError, match="1 variables have no name in Hugging Face's bert, first of them my_head"):
        convert(folder, str(tmp_path / "x"))
    convert(folder, str(tmp_path / "x"), extra="ignore")
    with pytest.raises(ValueError, match="format='onnx'"):
        convert(folder, str(tmp_path / "y"), format="onnx")


def test_a_model_with_unshared_layers_is_refused():
    class Layer(object):
        trainable, trainable_weights = True, ()

    class Unshared(object):
        layers = {"a": Layer(), "b": Layer()}
        prefixed = staticmethod(str)
        variable_mapping = staticmethod(lambda: {"a": ["x"], "b": ["x"]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kexue_keras.checkpoints._write.K.batch_get_value", lambda weights: [np.zeros(2)])
        with pytest.raises(WeightsError, match="several weights called x .*unshared"):
            weights_of(Unshared())


def test_the_command(tmp_path, capsys):
    path, config, weights = bert_folder(tmp_path / "hf")
    write_folder(tmp_path / "hf", config, dict(weights, **{"classifier.weight": np.zeros([2, 16], "float32")}))
    assert cli.main(["convert", path, str(tmp_path / "tf")]) == 0
    said = capsys.readouterr().out
    assert "left out (no heads of pretraining): classifier.weight" in said
    assert "bert_config.json, bert_model.ckpt.data-00000-of-00001" in said
    (tmp_path / "keep.json").write_text("[0, 1, 2, 3, 4]")
    assert cli.main(["convert", path, str(tmp_path / "small"), "--keep-tokens", str(tmp_path / "keep.json")]) == 0
    assert json.loads((tmp_path / "small" / "config.json").read_text())["vocab_size"] == 5
    capsys.readouterr()
    for arguments, message in (
        ([path, str(tmp_path / "tf")], "is there already"),
        ([str(tmp_path / "none"), str(tmp_path / "y")], "no model"),
        ([path, str(tmp_path / "y"), "--min-count", "3"], "choose among the pieces of a --corpus"),
        ([path, str(tmp_path / "y"), "--corpus", "nowhere.txt"], "nowhere.txt: no such file"),
        ([path, str(tmp_path / "y"), "--corpus", str(tmp_path / "keep.json")], "no SentencePiece model"),
        ([path, str(tmp_path / "y"), "--keep-tokens", path + "/vocab.txt"], "no JSON"),
    ):
        assert cli.main(["convert"] + arguments) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.splitlines()) == 1
        assert not os.path.exists(str(tmp_path / "y"))


def test_the_command_trims_by_a_corpus(tmp_path, capsys):
    path, config, weights = t5_folder(tmp_path / "hf")
    rng = np.random.RandomState(0)
    for name in ("shared.weight", "lm_head.weight"):
        weights[name] = rng.normal(size=[25490, 16]).astype("float32")
    write_folder(tmp_path / "hf", dict(config, vocab_size=25490), weights)
    shutil.copy(os.path.join(ASSETS, "me5_zh_q4.spiece.model"), str(tmp_path / "hf" / "spiece.model"))
    (tmp_path / "corpus.txt").write_text("今天天气不错\n" * 3 + "明天下雨\n", encoding="utf-8")
    command = ["convert", path, str(tmp_path / "zh"), "--corpus", str(tmp_path / "corpus.txt"), "--max-pieces", "400"]
    assert cli.main(command) == 0
    assert "which make up 100.00% of the corpus" in capsys.readouterr().out
    small = weights_in(tmp_path / "zh")
    config = json.loads((tmp_path / "zh" / "config.json").read_text())
    kept = config["trimmed"]["keep_tokens"]
    assert config["vocab_size"] == len(kept) == len(small["shared.weight"]) <= 402
    np.testing.assert_array_equal(small["lm_head.weight"], weights["lm_head.weight"][kept])
