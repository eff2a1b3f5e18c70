"""Hugging Face folders: outputs equal to the library's and to float64 numpy, all layouts of files, errors."""

import json
import os
import re
import sys

import numpy as np
import pytest
from conftest import FIXTURES
from numpy_hf import bert_folder, bert_outputs, safetensors_bytes, t5_folder, write_folder

from kexue_keras.backend import K, keras
from kexue_keras.checkpoints._load import read_folder
from kexue_keras.checkpoints.hf.folder import read_hf
from kexue_keras.errors import WeightsError
from kexue_keras.models import load

HF = os.path.join(FIXTURES, "hf")
KINDS = ("bert", "albert", "electra", "roformer")
IDS = np.array([[2, 6, 7, 8, 3, 9, 3], [2, 9, 10, 3, 0, 0, 0]])
SEGMENTS = np.array([[0, 0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0, 0]])


def outputs(path, kind, ids, segments, **build):
    """(hidden states, logits), from one model."""
    build["with_discriminator" if kind == "electra" else "with_mlm"] = "linear"
    loaded = load(path, **build)
    last = "Transformer-%sFeedForward-Norm" % ("" if kind == "albert" else "%d-" % (loaded.bert.num_hidden_layers - 1))
    layer = loaded.bert.layers[last]
    hidden = layer.get_output_at(-1) if kind == "albert" else layer.output
    model = keras.models.Model(loaded.model.inputs, [hidden, loaded.model.output])
    return model.predict([ids, segments])


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_the_library(kind):
    reference = np.load(os.path.join(HF, kind, "reference.npz"))
    hidden, logits = outputs(os.path.join(HF, kind), kind, reference["token_ids"], reference["segment_ids"])
    real = reference["mask"].astype(bool)
    assert not real.all()
    np.testing.assert_allclose(hidden[real], reference["hidden"][real], atol=1e-4)
    np.testing.assert_allclose(logits.reshape(reference["logits"].shape)[real], reference["logits"][real], atol=1e-4)


# Epsilons and activations that bert4keras' classes do not have by themselves.
@pytest.mark.parametrize(
    "kind, changes",
    [
        ("bert", {"layer_norm_eps": 1e-2}),
        ("albert", {"hidden_act": "gelu_new", "num_hidden_layers": 2, "layer_norm_eps": 1e-3}),
        ("electra", {"layer_norm_eps": 1e-3}),
        ("roformer", {"hidden_act": "relu", "layer_norm_eps": 1e-2}),
    ],
)
def test_outputs_are_those_of_numpy(tmp_path, kind, changes):
    path, config, weights = bert_folder(tmp_path / kind, kind, **changes)
    hidden, logits = outputs(path, kind, IDS, SEGMENTS)
    expected = bert_outputs(weights, config, IDS, SEGMENTS, IDS > 0)
    real = IDS > 0
    np.testing.assert_allclose(hidden[real], expected[0][real], atol=1e-4)
    np.testing.assert_allclose(logits[real], expected[1][real], atol=1e-4)


def test_what_load_takes_passes_through(tmp_path):
    path, _, weights = bert_folder(tmp_path, layers=2)
    unilm = load(path, application="unilm", num_hidden_layers=1, keep_tokens=[0, 1, 2, 3, 4, 9, 8])
    assert unilm.kind == "bert" and unilm.model.output_shape[-1] == 7
    assert unilm.tokenizer.encode("w4")[0] == [2, 5, 3]
    rows = K.get_value(unilm.bert.layers["Embedding-Token"].embeddings)
    np.testing.assert_array_equal(rows, weights["bert.embeddings.word_embeddings.weight"][[0, 1, 2, 3, 4, 9, 8]])
    assert unilm.config["trimmed"] == {"rows": 50, "keep_tokens": [0, 1, 2, 3, 4, 9, 8]}


def test_heads_that_are_absent_are_named(tmp_path):
    path, _, _ = bert_folder(tmp_path)
    with pytest.raises(WeightsError, match="lacks 2 variables.*nothing was loaded.*bert/pooler/dense/kernel"):
        load(path, with_pool=True)


def test_electra_is_no_language_model(tmp_path):
    path, _, _ = bert_folder(tmp_path, "electra")
    with pytest.raises(ValueError, match="cannot be a language model"):
        load(path, application="unilm")


def test_electras_generator_is_a_bert(tmp_path):
    path, config, weights = bert_folder(tmp_path / "d", "electra", architectures=["ElectraForMaskedLM"])
    weights = {n: v for n, v in weights.items() if not n.startswith("discriminator")}
    rng = np.random.RandomState(3)
    weights["generator_predictions.dense.weight"] = rng.normal(size=[12, 16]).astype("float32")
    weights["generator_predictions.dense.bias"] = rng.normal(size=12).astype("float32")
    weights["generator_predictions.LayerNorm.weight"] = np.ones(12, "float32")
    weights["generator_predictions.LayerNorm.bias"] = np.zeros(12, "float32")
    weights["generator_lm_head.weight"] = weights["electra.embeddings.word_embeddings.weight"]
    weights["generator_lm_head.bias"] = rng.normal(size=50).astype("float32")
    kind, _, variables, _ = read_folder(write_folder(tmp_path / "g", config, weights))
    assert kind == "bert"
    kernel = variables["cls/predictions/transform/dense/kernel"]
    np.testing.assert_array_equal(kernel, weights["generator_predictions.dense.weight"].T)
    assert variables.shape("bert/encoder/embedding_hidden_mapping_in/kernel") == (12, 16)


def test_a_rotary_table_that_is_not_the_usual_one_is_used(tmp_path):
    path, config, weights = bert_folder(tmp_path / "a", "roformer")
    angles = np.random.RandomState(1).normal(size=[20, 4])
    table = np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype("float32")
    changed = dict(weights, **{"roformer.encoder.embed_positions.weight": table})
    hidden, _ = outputs(write_folder(tmp_path / "b", config, changed), "roformer", IDS, SEGMENTS)
    expected, _ = bert_outputs(weights, config, IDS, SEGMENTS, IDS > 0, angles)
    np.testing.assert_allclose(hidden[IDS > 0], expected[IDS > 0], atol=1e-4)
    assert abs(expected - bert_outputs(weights, config, IDS, SEGMENTS, IDS > 0)[0])[IDS > 0].max() > 1e-2


def test_old_names_bare_names_and_shards(tmp_path):
    path, config, weights = bert_folder(tmp_path / "plain")
    _, expected = read_hf(path, config)
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
        for n, v in weights.items()
    }
    bare = {re.sub("^bert[.]", "", n): v for n, v in weights.items()}
    wrapped = {"module." + n: v for n, v in weights.items()}
    for number, other in enumerate((old, bare, wrapped)):
        _, found = read_hf(write_folder(tmp_path / str(number), config, other), config)
        assert set(found) == set(expected)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])
    names = sorted(weights)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    folder = tmp_path / "shards"
    write_folder(folder, config, weights)
    os.remove(str(folder / "model.safetensors"))
    for file, part in shards.items():
        (folder / file).write_bytes(safetensors_bytes({n: weights[n] for n in part}))
    index = {"weight_map": {n: file for file, part in shards.items() for n in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    _, found = read_hf(str(folder), config)
    assert set(found) == set(expected)
    os.remove(str(folder / "b.safetensors"))
    with pytest.raises(WeightsError, match="shard b.safetensors is missing; nothing was loaded"):
        read_hf(str(folder), config)
    for bad, message in [({"weight_map": {"x": "../a"}}, "outside of the folder"), ({}, "no index of shards")]:
        (folder / "model.safetensors.index.json").write_text(json.dumps(bad))
        with pytest.raises(WeightsError, match=message):
            read_hf(str(folder), config)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"model_type": "roberta"}, "model_type is 'roberta'; read are bert"),
        ({"model_type": None}, "model_type is null"),
        ({"hidden_act": "mish"}, "activation 'mish' is not known"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ({"hidden_size": None}, "expected the key 'hidden_size'"),
        ({"hidden_size": "16"}, "hidden_size is '16'; it must be a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
    ],
)
def test_configurations_that_cannot_be_built_are_named(tmp_path, changes, message):
    path, config, _ = bert_folder(tmp_path)
    with pytest.raises(WeightsError, match=message):
        read_hf(path, dict(config, **changes))


def test_variables_without_a_place_are_named(tmp_path):
    path, config, weights = bert_folder(tmp_path / "a", layers=2)
    with pytest.raises(WeightsError, match="16 variables that a bert.*does not have; nothing was loaded.*layer.1"):
        read_hf(path, dict(config, num_hidden_layers=1))
    assert len(read_hf(path, dict(config, num_hidden_layers=1), extra="ignore")[1]) == len(weights) - 16
    head = dict(weights, **{"classifier.weight": np.zeros([2, 16], "float32")})
    assert read_hf(write_folder(tmp_path / "b", config, head), config)[1].left_out == ["classifier.weight"]
    with pytest.raises(WeightsError, match="config.json says roformer, but no variable"):
        read_hf(
            write_folder(tmp_path / "c", config, {"bert.x": np.zeros(1, "float32")}),
            dict(config, model_type="roformer"),
        )
    untied = dict(weights, **{"cls.predictions.decoder.weight": np.zeros([50, 16], "float32")})
    with pytest.raises(WeightsError, match="decoder.weight differs from bert.embeddings.word_embeddings.weight"):
        read_hf(write_folder(tmp_path / "d", config, untied), config)


def test_sizes_and_vocabulary_that_disagree_are_named(tmp_path):
    path, config, weights = bert_folder(tmp_path / "a")
    with open(os.path.join(path, "vocab.txt"), "a") as handle:
        handle.write("more\n")
    with pytest.raises(WeightsError, match="51 tokens.*50 rows"):
        load(path)
    other = write_folder(tmp_path / "b", dict(config, intermediate_size=32), weights, vocabulary=False)
    with pytest.raises(WeightsError, match=r"differ in shape; nothing was loaded.*\(16, 32\), the file \(16, 24\)"):
        load(other)
    with pytest.raises(WeightsError, match="keep_tokens has the id 50, but the embedding in .* has 50 rows"):
        load(other, keep_tokens=[0, 50])
    with pytest.raises(ValueError, match="keep_tokens is 'abc'"):
        load(other, keep_tokens="abc")
    with pytest.raises(ValueError, match="extra='maybe'"):
        load(other, extra="maybe")
    os.remove(os.path.join(other, "config.json"))
    with pytest.raises(WeightsError, match="config.json: cannot be read"):
        load(other)


def test_a_t5_goes_on_to_load_t5(tmp_path, monkeypatch):
    path, _, _ = t5_folder(tmp_path)
    # The package has a function of the module's name.
    module = sys.modules["kexue_keras.checkpoints._load"]
    monkeypatch.setattr(module, "load_t5", lambda *args, **options: (args, options))
    args, options = load(path, with_lm="linear", model=int)
    assert args == (path,) and options["with_lm"] == "linear" and options["model"] is int
