"""load: bundled names, folders of each kind, and everything that can be wrong with a folder."""

import json
import os
import sys

import numpy as np
import pytest
from bert4keras.models import BERT
from helpers import tiny_bert_folder, tiny_config, tiny_vocabulary

from kexue_keras.backend import K
from kexue_keras.errors import WeightsError
from kexue_keras.models import load


def outputs(loaded, ids=((2, 6, 7, 8, 3), (2, 9, 10, 3, 0))):
    ids = np.array(ids)
    return loaded.model.predict([ids, np.zeros_like(ids)])


@pytest.mark.dear
@pytest.mark.parametrize("kind", ["bert", "nezha", "electra", "roformer", "albert"])
def test_the_kind_is_read_from_the_checkpoint(tmp_path, kind):
    folder = tiny_bert_folder(tmp_path / kind, kind=kind, num_hidden_layers=1)
    loaded = load(folder)
    assert loaded.kind == kind
    first = outputs(loaded)
    K.clear_session()
    np.testing.assert_allclose(outputs(load(folder, kind=kind)), first, atol=1e-6)
    assert loaded.tokenizer.encode("我喜欢看电影")[0][0] == 2
    assert kind in repr(loaded)


def test_arguments_of_build_transformer_model_pass_through(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    unilm = load(folder, application="unilm", missing="initialise")
    assert unilm.model.output_shape[-1] == len(tiny_vocabulary())
    K.clear_session()
    kept = [0, 1, 2, 3, 4, 9, 8, 7]
    small = load(folder, keep_tokens=kept)
    assert K.int_shape(small.bert.layers["Embedding-Token"].embeddings)[0] == len(kept)
    token = tiny_vocabulary()[9]
    assert small.tokenizer.encode(token)[0] == [2, 5, 3]


def test_keep_tokens_leaves_the_outputs_alone(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    text = "".join(tiny_vocabulary()[i] for i in (9, 7, 8))

    def encode(loaded):
        ids, segments = loaded.tokenizer.encode(text)
        return loaded.model.predict([np.array([ids]), np.array([segments])])

    full = encode(load(folder))
    K.clear_session()
    np.testing.assert_allclose(encode(load(folder, keep_tokens=[0, 1, 2, 3, 4, 9, 8, 7])), full, atol=1e-6)


def test_an_own_model_class(tmp_path):
    class Doubled(BERT):
        def apply_final_layers(self, inputs):
            from kexue_keras.backend import keras

            x = super(Doubled, self).apply_final_layers(inputs)
            return self.apply(inputs=x, layer=keras.layers.Lambda, function=lambda x: 2 * x, name="Twice")

    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    plain = outputs(load(folder))
    K.clear_session()
    np.testing.assert_allclose(outputs(load(folder, model=Doubled)), 2 * plain, atol=1e-5)


def test_unknown_name_lists_what_there_is():
    with pytest.raises(WeightsError, match="me5-zh-char.*nor a folder"):
        load("no-such-model")


@pytest.mark.parametrize(
    "broken, message",
    [
        (["bert_config.json"], "expected a configuration.*found.*vocab.txt"),
        (["bert_model.ckpt.index"], "expected one TensorFlow checkpoint"),
        (["bert_model.ckpt.data-00000-of-00001"], "data-00000-of-00001 is missing"),
    ],
)
def test_missing_files_are_named(tmp_path, broken, message):
    folder = tiny_bert_folder(tmp_path)
    for name in broken:
        os.remove(os.path.join(folder, name))
    with pytest.raises(WeightsError, match=message):
        load(folder)


def test_wrong_vocabulary_size(tmp_path):
    folder = tiny_bert_folder(tmp_path)
    with open(os.path.join(folder, "vocab.txt"), "a", encoding="utf-8") as handle:
        handle.write("多\n余\n")
    size = len(tiny_vocabulary())
    with pytest.raises(WeightsError, match="%d tokens.*%d rows" % (size + 2, size)):
        load(folder)


def test_configuration_of_another_model(tmp_path):
    folder = tiny_bert_folder(tmp_path)
    with open(os.path.join(folder, "bert_config.json"), "w") as handle:
        json.dump(tiny_config(), handle)
    config = tiny_config()
    config["hidden_size"] = 32
    with open(os.path.join(folder, "bert_config.json"), "w") as handle:
        json.dump(config, handle)
    with pytest.raises(WeightsError, match=r"differ in shape; nothing was loaded.*\(\d+, 32\), the file \(\d+, 16\)"):
        load(folder)
    with open(os.path.join(folder, "bert_config.json"), "w") as handle:
        handle.write("{")
    with pytest.raises(WeightsError, match="no JSON"):
        load(folder)
    with open(os.path.join(folder, "bert_config.json"), "w") as handle:
        json.dump({"hidden_size": 1}, handle)
    with pytest.raises(WeightsError, match="expected the key 'num_hidden_layers'"):
        load(folder)


def test_absent_variables_are_an_error_unless_asked_for(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    with pytest.raises(WeightsError, match="lacks .*nothing was loaded.*cls/predictions"):
        load(folder, with_mlm=True)
    K.clear_session()
    with pytest.warns(UserWarning, match="cls/predictions"):
        load(folder, with_mlm=True, missing="initialise")
    with pytest.raises(ValueError, match="missing='maybe'"):
        load(folder, missing="maybe")


def test_foreign_checkpoints_are_named(tmp_path):
    from kexue_keras.models._kinds import kind_of

    with pytest.raises(WeightsError, match="T5"):
        kind_of(["shared/embedding", "encoder/block_000/layer_000/SelfAttention/q"], {}, "x")
    with pytest.raises(WeightsError, match="expected the variable bert/embeddings/word_embeddings; found conv1"):
        kind_of(["conv1"], {}, "x")
    assert kind_of(["bert/embeddings/word_embeddings"], {}, "x") == "roformer_v2"


def test_a_hugging_face_folder_needs_its_configuration(tmp_path):
    folder = tiny_bert_folder(tmp_path)
    os.rename(os.path.join(folder, "bert_model.ckpt.index"), os.path.join(folder, "model.safetensors"))
    with pytest.raises(WeightsError, match="config.json: cannot be read"):
        load(folder)


def test_layers_beyond_the_configuration_are_named(tmp_path):
    folder = tiny_bert_folder(tmp_path)
    path = os.path.join(folder, "bert_config.json")
    with open(path, "w") as handle:
        json.dump(dict(tiny_config(), num_hidden_layers=1), handle)
    with pytest.raises(WeightsError, match="num_hidden_layers 1, but .* has 16 variables of higher layers.*layer_1/"):
        load(folder)
    assert load(folder, extra="ignore").bert.num_hidden_layers == 1


def test_a_damaged_checkpoint_is_named(tmp_path):
    folder = tiny_bert_folder(tmp_path)
    for name in ("bert_model.ckpt.data-00000-of-00001", "bert_model.ckpt.index"):
        with open(os.path.join(folder, name), "r+b") as handle:
            handle.truncate(100)
        with pytest.raises(WeightsError, match="bert_model.ckpt"):
            load(folder)


def test_more_layers_than_there_are_are_refused_before_they_are_built(tmp_path, monkeypatch):
    folder = tiny_bert_folder(tmp_path / "tiny", num_hidden_layers=1)
    path = os.path.join(folder, "bert_config.json")
    with open(path) as handle:
        config = json.load(handle)

    def build(*_, **__):
        raise AssertionError("it was built")

    monkeypatch.setattr(sys.modules["kexue_keras.checkpoints._load"], "build_transformer_model", build)
    for layers in (2, 999):
        with open(path, "w") as handle:
            json.dump(dict(config, num_hidden_layers=layers), handle)
        with pytest.raises(WeightsError, match="has 1 layers, but num_hidden_layers is %d" % layers):
            load(folder)


def test_no_number_of_layers_is_all_of_them(tiny):
    assert load(tiny, num_hidden_layers=None).bert.num_hidden_layers == load(tiny).bert.num_hidden_layers == 2
