"""Variables and configuration are compared by shape before anything is written, for every kind and in both formats."""

import json
import os

import numpy as np
import pytest
from bert4keras.tokenizers import Tokenizer
from helpers import tiny_bert_folder
from numpy_hf import bert_folder, t5_folder

from kexue_keras.checkpoints import convert
from kexue_keras.checkpoints._load import read_folder
from kexue_keras.checkpoints._shapes import check_ranks, check_shapes, dimensions_of
from kexue_keras.checkpoints._variables import from_arrays, read_tensorflow
from kexue_keras.checkpoints._write import write_tensorflow
from kexue_keras.checkpoints.t5.loading import read_t5_folder
from kexue_keras.errors import WeightsError
from kexue_keras.models import load, save

KINDS = ("bert", "albert", "electra", "roformer", "nezha", "roformer_v2", "t5", "mt5")
THEIRS = ("bert", "albert", "electra", "roformer", "t5", "mt5")


def make_folder(path, kind):
    """A sound folder: Hugging Face's where it has the kind, else what bert4keras wrote."""
    if "t5" in kind:
        return t5_folder(path, kind == "mt5", (1, 2))[0]
    if kind in THEIRS:
        return bert_folder(path, kind, layers=2)[0]
    return tiny_bert_folder(path, kind, num_hidden_layers=2)


@pytest.fixture(scope="module", params=KINDS)
def sound(request, tmp_path_factory):
    """(kind, configuration, arrays) of a folder where everything fits."""
    path = make_folder(tmp_path_factory.mktemp("sound") / request.param, request.param)
    if "t5" in request.param:
        config, variables = read_t5_folder(path, None, "error")
        return "t5", config, dict(variables.items())
    kind, config, variables, _ = read_folder(path)
    assert kind == request.param
    return kind, config, dict(variables.items())


def test_what_fits_is_taken_and_what_no_shape_tells_is_named(sound):
    kind, config, arrays = sound
    untold = {"t5": [], "albert": ["num_attention_heads", "num_hidden_layers"]}.get(kind, ["num_attention_heads"])
    assert check_shapes(kind, config, arrays, "x") == untold
    assert all(dimensions_of(name) for name in arrays)
    check_ranks(from_arrays("x", arrays))


def test_each_variable_that_is_absent_or_has_another_shape_is_named(sound):
    kind, config, arrays = sound
    for name, value in arrays.items():
        with pytest.raises(WeightsError, match="x lacks 1 variables .*nothing was written. First of them: " + name):
            check_shapes(kind, config, {n: v for n, v in arrays.items() if n != name}, "x")
        for axis in range(value.ndim):
            longer = np.concatenate([value, np.take(value, [0], axis)], axis)
            with pytest.raises(WeightsError, match="1 variables differ in shape; nothing was written. %s has" % name):
                check_shapes(kind, config, dict(arrays, **{name: longer}), "x")
        if value.ndim == 2 and value.shape[0] != value.shape[1]:
            with pytest.raises(WeightsError, match="it is transposed"):
                check_shapes(kind, config, dict(arrays, **{name: value.T}), "x")
        for other in (np.float32(1), value[None]):
            with pytest.raises(WeightsError, match="%s has the shape .*dimensions are expected" % name):
                check_ranks(from_arrays("x", dict(arrays, **{name: other})))


def test_each_size_of_the_configuration_is_compared(sound):
    kind, config, arrays = sound
    words = ["hidden_size", "vocab_size", "intermediate_size"]
    if kind in ("bert", "albert", "electra"):
        words.append("max_position_embeddings")
    if kind != "t5":
        words.append("type_vocab_size")
    if config.get("embedding_size"):
        words.append("embedding_size")
    words.extend({"t5": ["num_decoder_layers", "num_attention_heads"], "albert": []}.get(kind, ["num_hidden_layers"]))
    for word in words:
        for value in (config[word] + 1, 2 * config[word]):
            with pytest.raises(WeightsError, match="nothing was written"):
                check_shapes(kind, dict(config, **{word: value}), arrays, "x")
    with pytest.raises(WeightsError, match="x"):  # 16 is no multiple of 3
        check_shapes(kind, dict(config, num_attention_heads=3), arrays, "x")
    for value in (None, "16", -1, 1.5, True):
        with pytest.raises(WeightsError, match="its configuration says hidden_size .*a whole number is needed"):
            check_shapes(kind, dict(config, hidden_size=value), arrays, "x")


def test_heads_of_roformer_are_told_by_its_table(tmp_path):
    convert(bert_folder(tmp_path / "a", "roformer")[0], str(tmp_path / "b"), format="hf")
    kind, config, variables, _ = read_folder(str(tmp_path / "b"))
    assert check_shapes(kind, config, variables, "x") == []
    with pytest.raises(WeightsError, match="embed_positions has the shape .20, 8.; expected .*4"):
        check_shapes(kind, dict(config, num_attention_heads=4), variables, "x")


def rewrite(folder, changes):
    """Change the configuration in a folder, whichever it is."""
    path = next(p for p in (os.path.join(folder, n) for n in ("config.json", "bert_config.json")) if os.path.exists(p))
    with open(path) as handle:
        config = json.load(handle)
    with open(path, "w") as handle:
        json.dump(dict(config, **changes), handle)


@pytest.mark.parametrize("format", ["hf", "tensorflow"])
@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 32},
        {"num_hidden_layers": 3},
        {"vocab_size": 51},
        {"max_position_embeddings": 21},
        {"intermediate_size": 16},
        {"type_vocab_size": 3},
    ],
)
def test_convert_writes_nothing_that_does_not_fit(tmp_path, changes, format):
    folder = bert_folder(tmp_path / "hf", layers=2)[0]
    if format == "hf":
        convert(folder, str(tmp_path / "tf"))
        folder = str(tmp_path / "tf")
    rewrite(folder, changes)
    before = sorted(os.listdir(str(tmp_path)))
    with pytest.raises(WeightsError):
        convert(folder, str(tmp_path / "out"), format=format)
    assert sorted(os.listdir(str(tmp_path))) == before


def test_convert_warns_of_what_no_shape_tells(tmp_path):
    folder = bert_folder(tmp_path / "a")[0]
    rewrite(folder, {"num_attention_heads": 4})
    with pytest.warns(UserWarning, match="no variable's shape tells whether num_attention_heads 4 is right"):
        convert(folder, str(tmp_path / "b"))


def test_layers_that_are_ignored_are_not_written(tmp_path):
    folder = tiny_bert_folder(tmp_path / "a")
    rewrite(folder, {"num_hidden_layers": 1})
    with pytest.raises(WeightsError, match="variables of higher layers"):
        convert(folder, str(tmp_path / "b"), format="tensorflow")
    left_out = convert(folder, str(tmp_path / "b"), format="tensorflow", extra="ignore")
    assert len(left_out) == 16 and all("/layer_1/" in name for name in left_out)
    assert not any("layer_1" in name for name in read_tensorflow(str(tmp_path / "b" / "bert_model.ckpt")))


def test_numbers_of_another_type_are_named(tmp_path):
    folder = tiny_bert_folder(tmp_path / "a")
    prefix = os.path.join(folder, "bert_model.ckpt")
    arrays = dict(read_tensorflow(prefix).items())
    name = "bert/encoder/layer_0/output/dense/kernel"
    for value in (arrays[name].astype("int32"), arrays[name] > 0, arrays[name].astype("complex64")):
        write_tensorflow(prefix, dict(arrays, **{name: value}))
        with pytest.raises(WeightsError, match="%s holds (numbers|values) of the type" % name):
            convert(folder, str(tmp_path / "b"))
        assert not os.path.exists(str(tmp_path / "b"))


@pytest.mark.all_stacks
def test_save_writes_nothing_that_does_not_fit(tmp_path):
    loaded = load(bert_folder(tmp_path / "a")[0])
    for word, value in (("intermediate_size", 99), ("max_position_embeddings", 99), ("type_vocab_size", 3)):
        loaded.config, config = dict(loaded.config, **{word: value}), loaded.config
        for format in ("hf", "tensorflow"):
            with pytest.raises(WeightsError, match="nothing was written"):
                save(loaded, str(tmp_path / "b"), format=format)
        loaded.config = config
    tokenizer = loaded.tokenizer
    loaded.tokenizer = Tokenizer(dict(tokenizer._token_dict, more=tokenizer._vocab_size))
    with pytest.raises(WeightsError, match="the tokenizer has 51 tokens, but .* has 50 rows"):
        save(loaded, str(tmp_path / "b"))
    assert os.listdir(str(tmp_path)) == ["a"]
    name = "bert/encoder/layer_0/output/dense/kernel"
    assert check_shapes("bert", config, {name: np.zeros([24, 16])}, "x", complete=False) == ["num_attention_heads"]
