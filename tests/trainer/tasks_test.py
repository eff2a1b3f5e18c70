"""Every task goes through the trainer: a kill changes nothing, and each technique reaches it or is refused."""

import contextlib
import copy
import os
import shutil

import numpy as np
import pytest
from tasks import TASKS, make_files, run_task

from kexue_keras import backend
from kexue_keras.backend import K
from kexue_keras.errors import UserError
from kexue_keras.optimizers import MomentumAccumulationAdamW
from kexue_keras.optimizers._averaging import average_of
from kexue_keras.optimizers._inner import chain
from kexue_keras.trainer import Techniques, Trainer
from kexue_keras.trainer._progress import Progress
from kexue_keras.training.adversarial._training_loss import layers_of
from kexue_keras.training.recompute import RecomputeBoundary

# One for each place where a trainer is made begins anew after the kill; the others go on in the graph that they have,
# and these not at all: "unilm", "cosent" and "ner" have the same code.
BEGUN_ANEW = ("classification", "unilm", "sentence_bert")
GO_ON_AS_OTHERS = ("t5", "sbert", "ner_crf")
# Steps before a kill: in the second epoch where there are any, between two points, in the middle of a window.
KILLED = {"classification": 7, "cosent": 7, "sbert": 7, "unilm": 5, "prompts": 7}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a tiny model and data."""
    folder = tmp_path_factory.mktemp("tasks")
    K.clear_session()
    make_files(str(folder))
    K.clear_session()
    return folder


@pytest.fixture
def train(place, tmp_path):
    """Runs a task in a graph of its own."""

    def run(task, name="run", techniques=None, resume=False, plain=True):
        return run_task(task, str(place), str(tmp_path / name), techniques, resume, plain)

    return run


BUILT = ("sentence_bert", "prompts")  # tasks that are given a model


def techniques_of(task):
    techniques = {"accumulate": 3, "ema": 0.5, "layerwise_lr_decay": 0.9, "fgm": 0.5, "weissi": 0.01}
    if task not in BUILT:
        # Which leaves layers that only decoding has to know.
        techniques["recompute"] = "blocks" if task in ("unilm", "t5", "math_word_problems") else "ffn"
    return techniques


@pytest.mark.dear
@pytest.mark.parametrize("task", TASKS)
def test_techniques_reach_the_task_and_gone_on_with_after_a_kill_it_ends_in_the_same_bits(task, train, tmp_path, spied):
    # What a kill leaves are the files; tests/cli kills a process, and goes on in another one.
    spied.killed = killed = KILLED.get(task, 5)
    spied.folder, spied.goes_on = tmp_path / "killed", task not in BEGUN_ANEW + GO_ON_AS_OTHERS
    whole = train(task, "whole", techniques_of(task))
    check_techniques(task, whole, spied.averaged)
    assert len(whole.losses) == whole.progress.steps > killed
    if task in GO_ON_AS_OTHERS:
        return
    weights, resumed = spied.weights, spied.resumed
    if task in BEGUN_ANEW:
        weights = whole.model.get_weights()
        resumed = train(task, "killed", techniques_of(task), resume=True)
    assert killed - 2 <= resumed.progress.step - len(resumed.losses) <= killed
    assert whole.progress.losses == resumed.progress.losses and resumed.progress.history == whole.progress.history
    for ours, theirs in zip(resumed.model.get_weights(), weights):
        np.testing.assert_array_equal(ours, theirs)


class Spy(object):
    """What a run is like; it is gone on with, as after a kill, in its own graph.

    Attributes:
        killed: the number of the step before which its files are copied.
        folder: where to.
        goes_on: whether to go on with what is there, once the run has come to its end; once only.
        averaged: of each validation until then, whether it found averaged weights.
        weights: those in which the run ended.
        resumed: the `Trainer` that went on.
    """

    killed = folder = weights = resumed = None
    goes_on = False

    def __init__(self):
        self.averaged = []

    def go_on(self, trainer):
        """Do once more what was left to do before the step."""
        self.goes_on, self.killed = False, None
        self.weights = trainer.model.get_weights()
        self.resumed = copy.copy(trainer)
        self.resumed.folder, self.resumed.losses = str(self.folder), []
        self.resumed.progress = Progress(trainer.progress.steps, trainer.progress.epoch_steps)
        # What does not come from the files is not there.
        trainer.model.set_weights([0 * w for w in self.weights])
        self.resumed.run()


@pytest.fixture
def spied(monkeypatch):
    """The `Spy` of the runs of a test."""
    spy = Spy()
    validate, train_on_batch, train_to_the_end = Trainer._validate, Trainer._train_on_batch, Trainer._train

    def validated(trainer, epoch):
        if spy.resumed is not None:
            return validate(trainer, epoch)
        evaluate = trainer.evaluate
        trainer.evaluate = lambda: spy.averaged.append(average_of(trainer.model.optimizer).applied) or evaluate()
        try:
            return validate(trainer, epoch)
        finally:
            trainer.evaluate = evaluate

    def trained(trainer, step, made):
        if step == spy.killed and not os.path.exists(str(spy.folder)):
            shutil.copytree(str(trainer.folder), str(spy.folder))
        return train_on_batch(trainer, step, made)

    def trained_to_the_end(trainer):
        train_to_the_end(trainer)
        if spy.goes_on:
            spy.go_on(trainer)

    monkeypatch.setattr(Trainer, "_validate", validated)
    monkeypatch.setattr(Trainer, "_train_on_batch", trained)
    monkeypatch.setattr(Trainer, "_train", trained_to_the_end)
    return spy


def check_techniques(task, trainer, averaged):
    optimizer, p = trainer.model.optimizer, trainer.progress
    names = [type(one).__name__ for one in chain(optimizer)]
    assert names[:3] == ["GradientAccumulation", "ExponentialMovingAverage", "LayerwiseLearningRate"]
    assert next(o for o in chain(optimizer) if hasattr(o, "decay") and o is not optimizer.optimizer).decay == 0.9
    updates = Techniques(accumulate=3).updates(p.steps, p.epoch_steps)
    assert int(K.get_value(optimizer.iterations)) == updates < p.steps and not K.get_value(optimizer.micro_step)
    assert averaged == ([True] * p.epochs if trainer.evaluate is not None else [])
    assert len(trainer.model.losses) == 1
    # The attacked loss is minimised, the other one shown beside it.
    assert p.history[0]["train_loss"] != p.history[0]["train_clean_loss"]
    layers = list(layers_of(trainer.model))
    recomputed = [isinstance(x, RecomputeBoundary) or getattr(x.call, "recomputed", False) for x in layers]
    assert any(recomputed) == (task not in BUILT)


@pytest.mark.parametrize("task", ["unilm", "simbert", "ner"])  # one for each place where a trainer is made
def test_further_techniques_reach_the_task(task, train):
    trainer = train(task, techniques={"accumulate": 2, "accumulate_in": "momentum", "gradient_penalty": 1.0})
    inner = list(chain(trainer.model.optimizer))[-1]
    assert isinstance(inner, MomentumAccumulationAdamW)
    assert int(K.get_value(inner.iterations)) == trainer.progress.steps // 2
    row = trainer.progress.history[0]
    assert row["train_loss"] > row["train_clean_loss"]


@pytest.mark.dear
@pytest.mark.parametrize("task", ["unilm", "prompts", "ner"])  # as above
def test_mixed_precision_reaches_the_task_and_is_off_afterwards(task, train):
    trainer = train(task, techniques={"mixed_precision": 64.0, "accumulate": 2}, plain=False)
    names = [type(one).__name__ for one in chain(trainer.model.optimizer)]
    assert names[:2] == ["LossScale", "GradientAccumulation"] and trainer.model.optimizer.scale == 64
    assert not backend.is_mixed_precision_on()


@pytest.mark.parametrize("task", ["unilm", "prompts"])
def test_rdrop_of_tokens(task, train):
    trainer = train(task, techniques={"rdrop": 4.0})
    assert type(trainer.model.loss).__name__ == "MaskedRDropCrossentropy"
    rows = trainer.make_batch(0)[0][0]
    np.testing.assert_array_equal(rows[::2], rows[1::2])
    assert np.isfinite(trainer.losses).all()


@pytest.mark.parametrize(
    "task, techniques, message",
    [
        ("simbert", {"rdrop": 4.0}, "rdrop does not go with SimBERT: it repeats the rows of a batch"),
        ("simbert", {"gradient_penalty": 1.0, "penalty_reduction": "per_sample"}, "one number per batch"),
        ("sentence_bert", {"rdrop": 4.0}, "rdrop does not go with Sentence-BERT"),
        ("sentence_bert", {"recompute": "blocks"}, "recompute does not go with Sentence-BERT: its model is built"),
        ("prompts", {"recompute": "blocks"}, "recompute does not go with prompts: its model is built"),
        ("prompts", {"penalty_reduction": "per_sample"}, "there are no per-sample losses"),
        ("ner", {"rdrop": 4.0}, "rdrop does not go with --task ner: its labels are of tokens"),
        ("simbert", {"recompute": "everything"}, "recompute: .*policy must be one of .*, but is 'everything'"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(task, techniques, message, train):
    with pytest.raises(UserError, match=message):
        train(task, techniques=techniques)


@pytest.mark.parametrize("techniques", [{"mixed_precision": 8.0}, {"xla": "auto"}])
def test_what_is_not_on_is_refused(train, monkeypatch, techniques):
    monkeypatch.setattr("tasks.accelerated", lambda techniques: contextlib.ExitStack())
    (name,) = techniques
    with pytest.raises(UserError, match=name + " is not on; load the model and train within `with"):
        train("prompts", techniques=techniques)
