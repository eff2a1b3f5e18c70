"""`kexue-keras inspect`: what it prints of a tiny model, and what it refuses."""

import pytest
from helpers import tiny_bert_folder, tiny_vocabulary

from kexue_keras import models
from kexue_keras.backend import K
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
    assert lines[0].endswith("equal: %d words, 16 numbers each, with a bias" % size)
    counts = {line.split()[1]: int(line.split()[0]) for line in lines[1:] if len(line.split()) == 2}
    assert sum(counts.values()) == size and counts["unargmaxable"] >= 1
    assert [line for line in lines if "一  has the row of 的, whose bias is larger by 0.25" in line]


def test_what_cannot_be_inspected(folder, capsys):
    assert cli.main(["inspect", str(folder / "equal")]) == 2
    assert "nothing to look at; give " in capsys.readouterr().err
    assert cli.main(["inspect", str(folder / "nothing"), "--unargmaxable"]) == 2
    assert "nothing" in capsys.readouterr().err
