"""`kexue-keras inspect`: what it prints of a tiny model, and what it refuses."""

import pytest
from helpers import tiny_bert_folder, tiny_vocabulary

from kexue_keras import layers, models
from kexue_keras.backend import K, keras
from kexue_keras.cli import main as cli


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny BERT in which '一' has the row of '的' and a smaller bias."""
    place = tmp_path_factory.mktemp("inspect")
    tiny_bert_folder(place / "tiny", num_hidden_layers=1)
    K.clear_session()
    loaded = models.load(str(place / "tiny"), with_mlm="linear", missing="initialise")
    first, second = [tiny_vocabulary().index(word) for word in "的一"]
    embedding, bias = loaded.model.get_layer("Embedding-Token"), loaded.model.get_layer("MLM-Bias")
    W, b = embedding.get_weights()[0], bias.get_weights()[0]
    W[second], b[first], b[second] = W[first], 0.5, 0.25
    embedding.set_weights([W])
    bias.set_weights([b])
    models.save(loaded, str(place / "equal"))
    K.clear_session()
    return place


def test_words_that_can_never_be_predicted(folder, capsys):
    assert cli.main(["inspect", str(folder / "equal"), "--unargmaxable"]) == 0
    lines = capsys.readouterr().out.splitlines()
    size = len(tiny_vocabulary())
    assert lines[0].endswith("equal: %d words, 16 numbers each, a bias" % size)
    counts = {line.split()[1]: int(line.split()[0]) for line in lines[1:] if len(line.split()) == 2}
    assert sum(counts.values()) == size and counts["unargmaxable"] >= 1
    assert [line for line in lines if "一  has the row of 的, whose bias is larger by 0.25" in line]


def test_dimensions_and_the_picture(folder, capsys):
    assert cli.main(["inspect", str(folder / "equal"), "--dimensions", "--png", str(folder / "seen.png")]) == 0
    out = capsys.readouterr().out
    assert "embedding of 16: below" in out and "attention head of 8: below" in out
    assert (folder / "seen.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("kind", ["LSTM", "OutputGateGRU"])
def test_gradients_of_a_saved_model(folder, capsys, kind):
    K.clear_session()
    ids = keras.layers.Input((None,))
    x = keras.layers.Embedding(20, 3)(ids)
    x = getattr(layers, kind, getattr(keras.layers, kind, None))(4)(x)
    keras.models.Model(ids, keras.layers.Dense(2)(x)).save(str(folder / "recurrent.h5"))
    assert cli.main(["inspect", str(folder / "recurrent.h5"), "--gradients", "--steps", "12"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "(%s): spectral radius" % kind in lines[0] and "kept" in lines[0]
    assert [int(line.split()[0]) for line in lines[2:]] == [0, 1, 2, 5, 10, 11]


def test_a_file_with_code_is_not_run(folder, capsys):
    K.clear_session()
    x = keras.layers.Input((3, 2))
    model = keras.models.Model(x, keras.layers.Lambda(lambda t: t)(keras.layers.GRU(2)(x)))
    model.save(str(folder / "code.h5"))
    assert cli.main(["inspect", str(folder / "code.h5"), "--gradients"]) == 2
    assert "holds code (a Lambda layer)" in capsys.readouterr().err
    keras.models.Model(x, keras.layers.Dense(2)(x)).save(str(folder / "none.h5"))
    assert cli.main(["inspect", str(folder / "none.h5"), "--gradients"]) == 2
    assert "it has no recurrent layer" in capsys.readouterr().err
    (folder / "text.h5").write_text("no model")
    assert cli.main(["inspect", str(folder / "text.h5"), "--gradients"]) == 2
    assert "Keras cannot load it" in capsys.readouterr().err


def test_what_cannot_be_inspected(folder, capsys):
    assert cli.main(["inspect", str(folder / "equal")]) == 2
    assert "nothing to look at; give --unargmaxable or --dimensions or --gradients" in capsys.readouterr().err
    assert cli.main(["inspect", str(folder / "nothing"), "--unargmaxable"]) == 2
    assert "nothing" in capsys.readouterr().err


def test_costs_of_the_layers(folder, capsys):
    assert cli.main(["inspect", str(folder / "equal"), "--costs", "--length", "8", "--repeats", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("equal, 1 x 8 tokens, forward")
    assert lines[1].split() == ["parameters", "times", "GFLOPs", "ms", "layer"]
    feed_forward = next(line.split() for line in lines if line.endswith("Transformer-*-FeedForward"))
    assert float(feed_forward[2]) == pytest.approx(4 * 8 * 16 * 32 / 1e9, rel=1e-3) and float(feed_forward[3]) > 0
    assert cli.main(["inspect", str(folder / "equal"), "--costs", "--length", "0"]) == 2
    assert "length must be" in capsys.readouterr().err
