"""load_t5: outputs equal to the library's and to float64 numpy, mesh-TensorFlow names, trimming, errors."""

import json
import os

import numpy as np
import pytest
from conftest import FIXTURES
from numpy_hf import bucket, t5_folder, t5_outputs

from kexue_keras.backend import K
from kexue_keras.checkpoints import convert, load_t5
from kexue_keras.checkpoints._assign import load_weights
from kexue_keras.checkpoints._bundled import ASSETS
from kexue_keras.checkpoints._variables import from_arrays
from kexue_keras.checkpoints._write import write_tensorflow
from kexue_keras.checkpoints.t5.loading import read_t5_folder, t5_tokenizer
from kexue_keras.errors import WeightsError
from kexue_keras.models import T5, save

HF = os.path.join(FIXTURES, "hf")
CROSS = "decoder/block_000/layer_001/EncDecAttention/k"
IDS = np.array([[12, 6, 7, 8, 13, 9, 1], [12, 9, 1, 0, 0, 0, 0]])
DECODER_IDS = np.array([[0, 5, 6, 7], [0, 8, 9, 10]])


def test_the_oracles_buckets_are_those_of_the_paper():
    both = {
        -128: 15,
        -64: 14,
        -20: 10,
        -16: 10,
        -8: 8,
        -7: 7,
        -1: 1,
        0: 0,
        1: 17,
        7: 23,
        8: 24,
        16: 26,
        64: 30,
        128: 31,
    }
    assert {d: bucket(d, True) for d in both} == both
    past = {-200: 31, -64: 26, -20: 17, -16: 16, -15: 15, -10: 10, -1: 1, 0: 0, 5: 0}
    assert {d: bucket(d, False) for d in past} == past


def compare(t5, ids, decoder_ids, hidden, logits, real):
    found = t5.encoder.predict(ids)
    np.testing.assert_allclose(found[real], hidden[real], atol=1e-4)
    assert not found[~real].any()
    np.testing.assert_allclose(t5.model.predict([ids, decoder_ids]), logits, atol=1e-4)
    return found


@pytest.mark.parametrize("kind", ["t5", "mt5"])
def test_outputs_are_those_of_the_library(kind):
    reference = np.load(os.path.join(HF, kind, "reference.npz"))
    t5 = load_t5(os.path.join(HF, kind), with_lm="linear")
    real = reference["mask"].astype(bool)
    assert not real.all()
    compare(
        t5, reference["token_ids"], reference["decoder_ids"], reference["encoder_hidden"], reference["logits"], real
    )


# Through a mesh-TensorFlow checkpoint, with another number of layers in the decoder and sizes that T5 does not have.
@pytest.mark.parametrize("gated", [False, True])
def test_outputs_are_those_of_numpy(tmp_path, gated):
    path, config, weights = t5_folder(tmp_path / "hf", gated, (2, 1), layer_norm_epsilon=1e-2)
    convert(path, str(tmp_path / "tf"))
    t5 = load_t5(str(tmp_path / "tf"), with_lm="linear")
    assert t5.kind == ("mt5.1.1" if gated else "t5.1.0") and "2 + 1 layers x 16, 50 tokens" in repr(t5)
    hidden, logits = t5_outputs(weights, config, IDS, IDS > 0, DECODER_IDS)
    found = compare(t5, IDS, DECODER_IDS, hidden, logits, IDS > 0)
    # Encoder and decoder apart, on a padded batch: bert4keras' lose the mask on the way.
    np.testing.assert_allclose(t5.decoder.predict([found, DECODER_IDS]), logits, atol=1e-4)
    _, variables = read_t5_folder(path, None, "error")
    lacking = from_arrays("x", {n: 2 * v for n, v in variables.items() if n != CROSS})
    with pytest.raises(WeightsError, match="x lacks 1 variables.*nothing was loaded. First of them: " + CROSS):
        load_weights(t5.t5, lacking, source="x")
    np.testing.assert_array_equal(K.get_value(t5.t5.layers["Embedding-Token"].embeddings), weights["shared.weight"])


def test_a_trimmed_model_gives_the_same_logits_and_is_loaded_again(tmp_path, run_python):
    path, config, weights = t5_folder(tmp_path / "full")
    kept = [0, 1, 2, 5, 6, 7, 8, 9, 10, 12, 13, 49]
    logits = t5_outputs(weights, config, IDS, IDS > 0, DECODER_IDS)[1]
    trimmed = load_t5(path, keep_tokens=kept, with_lm="linear")
    assert trimmed.config["vocab_size"] == 12
    inputs = [np.vectorize(kept.index)(ids) for ids in (IDS, DECODER_IDS)]
    found = trimmed.model.predict(inputs)
    np.testing.assert_allclose(found, logits[:, :, kept], atol=1e-4)
    save(trimmed, str(tmp_path / "trimmed"), format="hf")
    trimmed.encoder.save(str(tmp_path / "encoder.h5"))
    hidden = trimmed.encoder.predict(inputs[0])
    np.savez(str(tmp_path / "io.npz"), a=inputs[0], b=inputs[1], hidden=hidden, found=found)
    run_python(
        """
import sys
import numpy as np
from kexue_keras.backend import keras
from kexue_keras.checkpoints import load_t5

folder = sys.argv[1]
io = np.load(folder + "/io.npz")
again = load_t5(folder + "/trimmed", keep_tokens=%r, with_lm="linear")  # the script that trimmed it, run once more
np.testing.assert_allclose(again.model.predict([io["a"], io["b"]]), io["found"], atol=1e-6)
assert again.config["trimmed"] == {"rows": 50, "keep_tokens": %r}
encoder = keras.models.load_model(folder + "/encoder.h5", compile=False)
np.testing.assert_allclose(encoder.predict(io["a"]), io["hidden"], atol=1e-6)
"""
        % (kept, kept),
        tmp_path,
    )
    with pytest.raises(
        WeightsError, match="the id 30, but the embedding in .* was trimmed from 50 rows to 12 .*without"
    ):
        load_t5(str(tmp_path / "trimmed"), keep_tokens=[0, 30])


def test_another_application_is_an_error(tmp_path):
    path, _, _ = t5_folder(tmp_path)
    for application in ("lm", "unilm"):
        with pytest.raises(ValueError, match="no application='lm' or 'unilm'"):
            load_t5(path, application=application)
    with pytest.raises(WeightsError, match="no model 'nowhere'"):
        load_t5("nowhere")


def mesh_folder(path, word, weights, gin=None, config=None):
    """A checkpoint as mesh-TensorFlow writes it, with the optimizer's slots."""
    os.makedirs(str(path))
    arrays = {"global_step": np.zeros([], "int64")}
    for name, value in weights.items():
        name = name[: -len(".weight")].replace("shared", "shared/embedding").replace("lm_head", "decoder/logits/kernel")
        name = name.replace("final_layer_norm", "rms_norm" if word == "rms_norm" else "final_layer_norm")
        if "layer_norm" in name or "rms_norm" in name:
            name = name.replace("layer_norm", word).replace("final_" + word, "final_layer_norm") + "/scale"
        parts = name.split(".")
        if len(parts) > 2:
            parts[1:5] = ["block_%03d" % int(parts[2]), "layer_%03d" % int(parts[4])]
        name = "/".join(parts)
        if "DenseReluDense" in name:
            name += "/kernel"
        value = value if name == "shared/embedding" or value.ndim == 1 else value.T
        arrays[name] = np.ascontiguousarray(value)
        arrays[name + "_slot_vc"] = np.zeros(2, "float32")
    write_tensorflow(str(path / "model.ckpt-1000"), arrays)
    if gin:
        (path / "operative_config.gin").write_text(gin)
    if config:
        (path / "mt5_config.json").write_text(json.dumps(config))
    return str(path)


GIN = """
# Macros:
d_ff = 24
d_kv = 6
d_model = 16
dropout_rate = 0.0
num_heads = 2
decoder/DenseReluDense.activation = \\
['gelu', 'linear']
run.optimizer = @optimize.AdafactorOptimizer
"""


@pytest.mark.parametrize("word", ["layer_norm", "rms_norm"])
def test_mesh_tensorflow_names_are_found_by_listing(tmp_path, word):
    _, theirs, weights = t5_folder(tmp_path / "hf")
    _, expected = read_t5_folder(str(tmp_path / "hf"), None, "error")
    config, variables = read_t5_folder(mesh_folder(tmp_path / "mesh", word, weights, GIN), None, "error")
    assert config["norm_name"] == word and set(variables) == set(expected)
    for name in expected:
        np.testing.assert_array_equal(variables[name], expected[name])
    sizes = dict(
        hidden_size=16, num_attention_heads=2, attention_head_size=6, intermediate_size=24, num_decoder_layers=1
    )
    assert {key: config[key] for key in sizes} == sizes
    assert config["hidden_act"] == ["gelu_tanh", "linear"] and not config["scale_output"]
    assert config["hidden_dropout_prob"] == 0.0
    # There and back, the names are those that the checkpoint had.
    convert(str(tmp_path / "mesh"), str(tmp_path / "there"))
    convert(str(tmp_path / "there"), str(tmp_path / "back"))
    again, back = read_t5_folder(str(tmp_path / "back"), None, "error")
    assert again["norm_name"] == word
    for name in expected:
        np.testing.assert_array_equal(back[name], expected[name])


@pytest.mark.parametrize(
    "config, message",
    [
        ({"num_attention_heads": 3}, "says num_attention_heads 3, but the variables in .* say 2; nothing was loaded"),
        ({"vocab_size": 48}, "says vocab_size 48, but the embedding in .* has 50 rows"),
        ({"hidden_act": "relu"}, "says the activation 'relu', but the feed-forward layers in .* are gated"),
        ("nofile.gin", "config='nofile.gin' is no file"),
        ("hf", "expected config.json; found"),
    ],
)
def test_a_configuration_of_another_model_is_named(tmp_path, config, message):
    _, _, weights = t5_folder(tmp_path / "hf")
    path = mesh_folder(tmp_path / "mesh", "layer_norm", weights)
    with pytest.raises(WeightsError, match=message):
        read_t5_folder(path, config, "error")


def test_configurations_of_bert4keras_and_none_at_all(tmp_path):
    _, _, weights = t5_folder(tmp_path / "hf", gated=False)
    assert read_t5_folder(mesh_folder(tmp_path / "a", "layer_norm", weights), None, "error")[0]["hidden_act"] == "relu"
    _, _, weights = t5_folder(tmp_path / "hf2")
    by_hand = {"hidden_act": ["gelu", "linear"], "cross_position_bias": True, "scale_output": True, "dropout_rate": 0.3}
    config, _ = read_t5_folder(mesh_folder(tmp_path / "b", "rms_norm", weights, config=by_hand), None, "error")
    assert config["hidden_act"] == ["gelu_erf", "linear"] and config["hidden_dropout_prob"] == 0.3
    assert config["cross_position_bias"] and config["scale_output"]


def test_no_t5(tmp_path):
    os.makedirs(str(tmp_path / "x"))
    with pytest.raises(WeightsError, match="found 0 checkpoints among nothing"):
        load_t5(str(tmp_path / "x"))
    write_tensorflow(str(tmp_path / "x" / "a.ckpt"), {"bert/embeddings/word_embeddings": np.zeros([2, 2], "float32")})
    with pytest.raises(WeightsError, match="no T5.*found bert/embeddings/word_embeddings"):
        load_t5(str(tmp_path / "x"))
    write_tensorflow(str(tmp_path / "x" / "a.ckpt"), {"shared/embedding": np.zeros([2, 2], "float32")})
    with pytest.raises(WeightsError, match="lacks encoder/block_000/layer_000/SelfAttention/relative_attention_bias"):
        load_t5(str(tmp_path / "x"))


def test_a_tokenizer_of_another_vocabulary_is_named(tmp_path):
    spiece = os.path.join(ASSETS, "me5_zh_q4.spiece.model")
    with pytest.raises(
        WeightsError, match="25486 tokens, but the embedding of x has 100 rows; give the tokenizer that belongs to it$"
    ):
        t5_tokenizer(str(tmp_path), spiece, None, 100, "x")
    with pytest.raises(WeightsError, match="25486 tokens.*250112 rows.*trimmed tokenizer its keep_tokens"):
        t5_tokenizer(str(tmp_path), spiece, None, 250112, "x")
    assert t5_tokenizer(str(tmp_path), spiece, None, 25500, "x")._vocab_size == 25486
    assert t5_tokenizer(str(tmp_path), None, None, 100, "x") is None


def test_models_of_bert4keras_keep_their_output(tmp_path, monkeypatch):
    path, _, _ = t5_folder(tmp_path)
    monkeypatch.setattr("kexue_keras.checkpoints.t5.loading.build_transformer_model", lambda **given: T5(**given))
    monkeypatch.setattr("kexue_keras.checkpoints.t5.loading.load_weights", lambda t5, *_, **__: None)
    monkeypatch.setattr("kexue_keras.checkpoints.t5.loading.PretrainedT5", lambda *args: args)
    for changes, expected in (({}, False), ({"scale_output": True, "cross_position_bias": True}, True)):
        _, _, t5, _, config = load_t5(path, **changes)
        assert t5._decoder.scale_output == t5._decoder.cross_position_bias == config["scale_output"] == expected
