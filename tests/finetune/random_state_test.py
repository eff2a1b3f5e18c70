"""Whoever trains by a function of the library has his own random generators afterwards, and not the run's seed."""

import glob
import os
import random

import few_shot_prompted  # noqa: F401  puts PET into the methods
import numpy as np
import pytest
from conftest import ROOT
from few_shot_methods import FewShot
from reviews import reviews, write_rows

from kexue_keras.backend import preserved_random_state, set_seed, tf1
from kexue_keras.errors import UserError
from kexue_keras.finetune import finetune, finetune_seq2seq

NO_MODEL = "no such model"  # found out when the seeds are set and the model is to be loaded


def classification(folder):
    finetune(NO_MODEL, write_rows(folder / "train.tsv", reviews(40)), str(folder / "run"), quiet=True)


def similarity(folder):
    data = write_rows(folder / "pairs.tsv", [("好书", "坏书%d" % i, str(i % 3)) for i in range(20)])
    finetune(NO_MODEL, data, str(folder / "run"), task="similarity", quiet=True)


def seq2seq(folder):
    finetune_seq2seq(NO_MODEL, [("a", "b")] * 4, str(folder / "run"), valid=[("a", "b")])


def few_shot(folder):
    FewShot(
        [], [], [], [], patterns=["{mask}{text}"], soft_pattern="{mask}", words={"a": "b", "c": "d"}, model=NO_MODEL
    ).run("PET")


@pytest.mark.parametrize("train", [classification, similarity, seq2seq, few_shot])
def test_the_callers_generators_go_on_where_they_were(train, tmp_path, monkeypatch):
    seeded = []
    module = {
        "classification": "kexue_keras.finetune.classification._training",
        "few_shot": "few_shot_methods",
        "seq2seq": "kexue_keras.finetune._seq2seq_training",
        "similarity": "kexue_keras.finetune._similarity",
    }
    name = module[train.__name__] + ".set_seed"
    monkeypatch.setattr(name, lambda seed: seeded.append(seed) or set_seed(seed))
    graph = tf1.get_default_graph()
    random.seed(11), np.random.seed(12), tf1.set_random_seed(13)
    expected = random.random(), np.random.rand()
    random.seed(11), np.random.seed(12)
    with pytest.raises(UserError, match=NO_MODEL):
        train(tmp_path)
    assert seeded and graph.seed == 13
    assert (random.random(), np.random.rand()) == expected


def test_no_other_function_of_the_package_seeds():
    found = set()
    for path in glob.glob(os.path.join(ROOT, "kexue_keras", "**", "*.py"), recursive=True):
        with open(path, encoding="utf-8") as handle:
            source = handle.read()
        if any(word in source for word in ("set_seed(", "random.seed(", "set_random_seed(")):
            found.add(os.path.relpath(path, os.path.join(ROOT, "kexue_keras")).replace(os.sep, "/"))
    tasks = {"finetune/_%s.py" % name for name in ("similarity", "seq2seq_training")}
    tasks |= {"finetune/%s/_training.py" % name for name in ("classification", "math_word_problems", "named_entities")}
    assert found == tasks | {"backend/random_state.py", "distributed/_ranks.py"}


def test_also_after_an_error_and_in_another_graph():
    np.random.seed(3)
    expected = np.random.rand()
    np.random.seed(3)
    with pytest.raises(ValueError), preserved_random_state():
        set_seed(1)
        raise ValueError
    assert np.random.rand() == expected
