"""Every settings file of a model folder, changed in 200 ways: a clear line about the file, or the model as it was."""

import json
import os
import sys

import numpy as np
import pytest
from helpers import tiny_bert_folder, tiny_config
from numpy_hf import bert_folder, t5_folder
from settings_edits import UNKNOWN, is_clear, refusals

from kexue_keras.backend import K
from kexue_keras.checkpoints import convert
from kexue_keras.checkpoints._load import make_tokenizer, read_folder
from kexue_keras.checkpoints.t5.loading import read_t5_folder
from kexue_keras.errors import WeightsError
from kexue_keras.models import load
from kexue_keras.models._rotary import check_even_heads
from kexue_keras.schemas import ADDED_TOKENS
from kexue_keras.schemas import bert_config as bert_words
from kexue_keras.schemas import read_settings, read_token_ids
from kexue_keras.schemas import t5_config as t5_words


@pytest.mark.parametrize("kind", ["bert", "roformer"])
def test_bert_config(tmp_path, kind):
    folder = tiny_bert_folder(tmp_path, kind=kind, num_hidden_layers=1)

    def read():
        found, config, variables, _ = read_folder(folder)
        assert found == kind
        check_even_heads(kind, config, folder)
        return bert_words.build_arguments(config)

    config = dict(tiny_config(num_hidden_layers=1), directionality="bidi", layer_norm_eps=1e-12)
    for what, built in refusals(tmp_path / "bert_config.json", config, read, seed=kind == "bert"):
        assert set(built) <= set(bert_words.BUILT), what
        assert type(built["num_hidden_layers"]) is int and type(built["hidden_size"]) is int, what


@pytest.mark.all_stacks
def test_keys_of_a_configuration_that_are_arguments_reach_nobody(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    ids = [np.array([[2, 6, 7, 3]]), np.zeros([1, 4], int)]
    expected = load(folder).model.predict(ids)
    K.clear_session()
    config = dict(UNKNOWN, **tiny_config(num_hidden_layers=1))
    with open(os.path.join(folder, "bert_config.json"), "w") as handle:
        json.dump(dict(config, num_hidden_layers=1.0, hidden_dropout_prob=0), handle)
    # Who says it in the call means it.
    loaded = load(folder, name="mine")
    np.testing.assert_allclose(loaded.model.predict(ids), expected, atol=1e-6)
    assert loaded.model.name == "mine"


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_config_of_hugging_face(tmp_path, kind):
    path, config, _ = bert_folder(tmp_path, kind)

    def read():
        found, own, _, _ = read_folder(path)
        assert found == kind
        return bert_words.build_arguments(own)

    for what, built in refusals(tmp_path / "config.json", config, read, seed=2):
        assert set(built) <= set(bert_words.BUILT), what


@pytest.mark.parametrize("name", ["config.json", "t5_config.json"])
def test_config_of_t5(tmp_path, name):
    path, config, _ = t5_folder(tmp_path / "hf")
    if name == "t5_config.json":
        convert(path, str(tmp_path / "tf"))
        path = str(tmp_path / "tf")
        with open(os.path.join(path, name), encoding="utf-8") as handle:
            config = json.load(handle)
    for what, (own, _) in refusals(
        os.path.join(path, name), config, lambda: read_t5_folder(path, None, "error"), seed=3
    ):
        assert set(own) <= set(t5_words.T5_CONFIG.schema["properties"]), what


def test_gin_files(tmp_path):
    path, _, _ = t5_folder(tmp_path / "hf")
    convert(path, str(tmp_path / "tf"))
    os.remove(str(tmp_path / "tf" / "t5_config.json"))
    gin = tmp_path / "tf" / "operative_config.gin"
    good = (
        "d_model = 16\nd_kv = 6\nnum_heads = 2\ndropout_rate = 0.0\nd.DenseReluDense.activation = ['gelu', 'linear']\n"
    )
    wrong = "'x' [] {} None -1 0 1e999 10**9 True (1,) b'x' 0.5 nonsense " + "9" * 5000 + " " + "[" * 200
    for new in wrong.split():
        for line in good.splitlines():
            gin.write_text(good.replace(line, line.split("=")[0] + "= " + new))
            try:
                own, _ = read_t5_folder(str(tmp_path / "tf"), None, "error")
                # What is no value is not there, and the shapes tell.
                assert own["hidden_size"] == 16 and own["attention_head_size"] == 6
            except WeightsError as error:
                assert is_clear(str(error), "operative_config.gin"), (line, new, str(error))
    for data in (b"\xff\xfe", good.encode()[:9], b"\0" * 99, b"d_model = " + b" " * 50000):
        gin.write_bytes(data)
        try:
            read_t5_folder(str(tmp_path / "tf"), None, "error")
        except WeightsError as error:
            assert is_clear(str(error), "operative_config.gin"), (data[:20], str(error))


def test_files_beside_a_vocabulary(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    path, rows = tmp_path / "tokenizer_config.json", len(open(os.path.join(folder, "vocab.txt")).readlines())
    path.write_text("{}")
    for what, tokenizer in refusals(
        path,
        {"do_lower_case": False, "tokenizer_class": "BertTokenizer"},
        lambda: make_tokenizer(os.path.join(folder, "vocab.txt"), rows, folder, {}),
        seed=4,
    ):
        assert tokenizer._do_lower_case in (True, False), what
    for said, lower in [({"do_lower_case": False}, False), ({"do_lower_case": None}, True), ({}, True)]:
        path.write_text(json.dumps(said))
        assert make_tokenizer(os.path.join(folder, "vocab.txt"), rows, folder, {})._do_lower_case is lower
    path.write_text('{"do_lower_case": "false"}')
    with pytest.raises(WeightsError, match="do_lower_case is 'false'; it must be true or false, or null"):
        make_tokenizer(os.path.join(folder, "vocab.txt"), rows, folder, {})
    path = tmp_path / "added_tokens.json"
    path.write_text("{}")
    added = {"[X1]": 60, "[X2]": 61}
    for what, found in refusals(path, added, lambda: read_settings(str(path), ADDED_TOKENS), seed=5):
        assert all(type(i) is int for i in found.values()), what


def test_lists_of_token_ids(tmp_path):
    path = tmp_path / "keep_tokens.json"
    path.write_text("[0, 1, 5]")
    for what, ids in refusals(path, [0, 1, 5], lambda: read_token_ids(str(path)), seed=6):
        assert ids and all(type(i) is int and i >= 0 for i in ids), what
    path.write_text("[0, 1, 1]")
    with pytest.raises(WeightsError, match="the token id 1 appears twice"):
        read_token_ids(str(path))


def test_a_million_layers_are_refused_before_anything_is_built(tmp_path, monkeypatch):
    def never(*args, **options):
        raise AssertionError("a model was built")

    monkeypatch.setattr(sys.modules["kexue_keras.checkpoints._load"], "build_transformer_model", never)
    folder = tiny_bert_folder(tmp_path / "bert", num_hidden_layers=1)
    theirs, hf, _ = bert_folder(tmp_path / "hf")
    for path, config in [(os.path.join(folder, "bert_config.json"), tiny_config()), (theirs + "/config.json", hf)]:
        for layers in (10**6, 10**9, 1e12, -1, 0):
            with open(path, "w") as handle:
                json.dump(dict(config, num_hidden_layers=layers), handle)
            with pytest.raises(WeightsError, match="num_hidden_layers is .* it must be a whole number from 1 to 1000"):
                load(os.path.dirname(path))


def test_an_activation_that_is_null_or_unknown(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    words = {
        None: "null; it must be a string",
        "mish": "'mish'; it is one of gelu",
        "Embedding": "'Embedding'; it is one",
    }
    for name, shown in words.items():
        with open(os.path.join(folder, "bert_config.json"), "w") as handle:
            json.dump(dict(tiny_config(num_hidden_layers=1), hidden_act=name), handle)
        with pytest.raises(WeightsError, match="bert_config.json: hidden_act is %s" % shown):
            load(folder)
