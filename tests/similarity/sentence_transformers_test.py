"""Encoders as sentence-transformers folders: read again here, and with that library where KEXUE_TORCH has it."""

import json
import os
import subprocess

import numpy as np
import pytest

from kexue_keras.cli import main as cli
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._open_encoder import open_encoder
from kexue_keras.models import load
from kexue_keras.similarity import SentenceEncoder

TEXTS = ["我喜欢电影", "书店", "上国人来了在这", "好，１２ＡＢ!", "[MASK] Ａ", "我" * 30]
LIBRARY = """
import json, sys, numpy
from sentence_transformers import SentenceTransformer
folder, texts = sys.argv[1], json.loads(sys.argv[2])
model = SentenceTransformer(folder, device="cpu")
ids = [model.tokenizer(text)["input_ids"] for text in texts]
if len(sys.argv) > 5:  # another pooling, a Dense layer with tanh, no Normalize
    from sentence_transformers.models import Dense, Pooling
    size = model[0].get_word_embedding_dimension()
    model = SentenceTransformer(modules=[model[0], Pooling(size, pooling_mode="max"), Dense(size, 5)], device="cpu")
numpy.save(sys.argv[3], model.encode(texts, convert_to_numpy=True))
model.save(sys.argv[4])
print("ids", json.dumps(ids))
"""


def in_the_library(folder, texts, work, *more):
    """(token ids, vectors, folder that the library saved) of `SentenceTransformer(folder)`."""
    python = os.environ.get("KEXUE_TORCH")
    if not python or subprocess.call([python, "-c", "import sentence_transformers"], stderr=subprocess.DEVNULL):
        pytest.skip("KEXUE_TORCH names no interpreter with sentence-transformers")
    vectors, again = str(work / "vectors.npy"), str(work / "again")
    command = [python, "-c", LIBRARY, str(folder), json.dumps(texts), vectors, again] + list(more)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment.update(HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", PYTHONIOENCODING="utf-8")
    said = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout.decode()
    line = next(line for line in said.splitlines() if line.startswith("ids "))
    return json.loads(line[4:]), np.load(vectors), again


def edit(path, **changes):
    with open(str(path)) as handle:
        content = json.load(handle)
    content.update(changes)
    with open(str(path), "w") as handle:
        json.dump(content, handle)


def test_a_saved_folder_gives_the_same_vectors_here(tiny, tmp_path):
    encoder = SentenceEncoder(tiny, max_length=12)
    folder = tmp_path / "plain"
    encoder.save(folder, format="sentence-transformers")
    modules = json.loads((folder / "modules.json").read_text())
    assert [one["type"].split(".")[-1] for one in modules] == ["Transformer", "Pooling", "Normalize"]
    again = SentenceEncoder.load(folder)
    assert (again.pooling, again.max_length, again.normalize) == ("mean", 12, True)
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    # tokenizer.json alone says the same, as where the library has saved the folder.
    os.remove(str(folder / "vocab.txt"))
    tokenizer = load(folder).tokenizer
    assert [tokenizer.encode(text) for text in TEXTS] == [encoder.tokenizer.encode(text) for text in TEXTS]
    assert "license" not in (folder / "README.md").read_text(encoding="utf-8").split("---")[1]
    with pytest.raises(ValueError, match="format must be one of"):
        encoder.save(tmp_path / "other", format="hf")


def test_whitening_and_pooler_become_dense_layers(tiny, tmp_path):
    encoder = SentenceEncoder(tiny, pooling="linear-pooler", max_length=16, normalize=False, missing="initialise")
    encoder.fit_whitening([text + other for text in TEXTS for other in TEXTS], 3)
    encoder.save(tmp_path / "dense", format="sentence-transformers")
    again = SentenceEncoder.load(tmp_path / "dense")
    assert again.pooling == "cls" and len(again.dense) == 2 and not again.normalize and again.whitening is None
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=2e-3)
    # Dense layers are kept in our own format, too.
    again.save(tmp_path / "ours")
    ours = SentenceEncoder.load(tmp_path / "ours")
    np.testing.assert_allclose(ours.encode(TEXTS), again.encode(TEXTS), atol=1e-6)
    assert len(ours.dense) == 2 and not ours.normalize
    # A search is by cosines nevertheless.
    assert ours.search(["书店"], TEXTS, k=1)[0][0].score == pytest.approx(1, abs=1e-5)
    os.rename(str(tmp_path / "dense" / "2_Dense"), str(tmp_path / "dense" / "9"))
    with pytest.raises(WeightsError, match="2_Dense/config.json: cannot be read"):
        SentenceEncoder.load(tmp_path / "dense")


def test_what_is_not_known_is_refused(tiny, tmp_path):
    encoder = SentenceEncoder(tiny, max_length=16)
    folder = tmp_path / "folder"
    encoder.save(folder, format="sentence-transformers")
    good = json.loads((folder / "modules.json").read_text())
    pooling = folder / "1_Pooling" / "config.json"

    def refused(message):
        with pytest.raises(WeightsError, match=message):
            SentenceEncoder.load(folder)

    for change, message in [
        (good[:1] + [dict(good[1], type="sentence_transformers.models.LSTM")], "module .*LSTM is not known here"),
        ([good[0], good[2], good[1]], "has the modules Transformer, Normalize, Pooling"),
        (good[1:], "the first module is Pooling"),
        ([dict(good[0], path="../x")] + good[1:], "lies outside of the folder"),
        ([{"path": ""}], "modules"),
    ]:
        (folder / "modules.json").write_text(json.dumps(change))
        refused(message)
    (folder / "modules.json").write_text(json.dumps(good))
    edit(pooling, pooling_mode=["mean", "cls"])
    refused("asks for the pooling mean and cls; known here are mean, cls and max")
    edit(pooling, pooling_mode="weightedmean")
    refused("asks for the pooling weightedmean")
    edit(pooling, pooling_mode="max")
    assert SentenceEncoder.load(folder).pooling == "max"
    edit(folder / "config_sentence_transformers.json", prompts={"query": "query: "}, default_prompt_name="query")
    refused("puts the prompt 'query: ' before every text")
    first_last = SentenceEncoder(encoder.pretrained, pooling="first-last")
    with pytest.raises(WeightsError, match="'first-last' has no form"):
        first_last.save(tmp_path / "x", format="sentence-transformers")
    encoder.tokenizer._token_translate = {"a": "b"}
    with pytest.raises(WeightsError, match="your own .token_translate."):
        encoder.save(tmp_path / "x", format="sentence-transformers")
    assert not os.path.exists(str(tmp_path / "x"))


def test_the_transformer_may_lie_in_a_folder_of_its_own(tiny, tmp_path):
    SentenceEncoder(tiny, max_length=16).save(tmp_path / "old", format="sentence-transformers")
    folder = tmp_path / "old" / "0_Transformer"
    os.mkdir(str(folder))
    for name in os.listdir(str(tmp_path / "old")):
        path = tmp_path / "old" / name
        if path.is_file() and name not in ("modules.json", "config_sentence_transformers.json", "README.md"):
            path.rename(folder / name)
    modules = json.loads((tmp_path / "old" / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (tmp_path / "old" / "modules.json").write_text(json.dumps(modules))
    assert load(tmp_path / "old").config["hidden_size"] == 16
    assert SentenceEncoder.load(tmp_path / "old").encode(TEXTS).shape == (len(TEXTS), 16)


@pytest.mark.parametrize("kind", ["tiny", "me5-zh-sp"])
def test_the_library_gives_the_same_ids_and_vectors(tiny, tmp_path, kind):
    layers = {} if kind == "tiny" else {"num_hidden_layers": 1}
    encoder = SentenceEncoder(tiny if kind == "tiny" else kind, max_length=12, **layers)
    encoder.save(tmp_path / "ours", format="sentence-transformers")
    texts = TEXTS + ["<s>你好</s> ﾊﾞｽ", "  空  格 ", "Straße Ｈｅｌｌｏ　１２３"]
    ids, vectors, saved = in_the_library(tmp_path / "ours", texts, tmp_path)
    assert ids == [encoder.tokenizer.encode(text)[0] for text in texts]
    np.testing.assert_allclose(vectors, encoder.encode(texts), atol=1e-5)
    # And back: the folder that the library has saved.
    again = SentenceEncoder.load(saved)
    assert [again.tokenizer.encode(text)[0] for text in texts] == ids
    np.testing.assert_allclose(again.encode(texts), vectors, atol=1e-5)


def test_the_command_writes_such_a_folder(tiny, tmp_path, capsys):
    out = str(tmp_path / "hub")
    command = [
        "export",
        tiny,
        "--format",
        "sentence-transformers",
        "--out",
        out,
        "--pooling",
        "cls",
        "--max-length",
        "9",
    ]
    assert cli.main(command) == 0
    assert "SentenceTransformer(%r)" % out in capsys.readouterr().out
    again = SentenceEncoder.load(out)
    assert (again.pooling, again.max_length) == ("cls", 9)
    assert cli.main(command) == 2 and "is there already" in capsys.readouterr().err
    # Such a folder is a model as any other: for searching, and for exporting again.
    assert open_encoder(out).pooling == "cls"
    with pytest.raises(UserError, match="trained with pooling 'cls', not 'mean'"):
        open_encoder(out, pooling="mean")


def test_a_dense_layer_of_the_library_gives_the_same_vectors_here(tiny, tmp_path):
    SentenceEncoder(tiny, max_length=12).save(tmp_path / "ours", format="sentence-transformers")
    _, vectors, saved = in_the_library(tmp_path / "ours", TEXTS, tmp_path, "dense")
    again = SentenceEncoder.load(saved)
    assert (again.pooling, len(again.dense), again.normalize) == ("max", 1, False)
    np.testing.assert_allclose(again.encode(TEXTS), vectors, atol=1e-5)
    # And once more through a folder of ours, to the library.
    again.save(tmp_path / "third", format="sentence-transformers")
    _, back, _ = in_the_library(tmp_path / "third", TEXTS, tmp_path)
    np.testing.assert_allclose(back, vectors, atol=1e-5)
