"""Two processes that talk by Horovod make what one does; a process that fails ends all. `make test-distributed`."""

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import ROOT
from helpers import CHARACTERS, tiny_bert_folder
from rank_cases import CASES, prepared
from tasks import write_entities, write_maths_model, write_problems

from kexue_keras.finetune import finetune

pytestmark = pytest.mark.horovod
WORKER = os.path.join(ROOT, "tests", "rank_worker.py")


def horovodrun(*arguments, timeout=600, processes=2):
    """So many processes; (exit code, what they printed, seconds)."""
    path = os.pathsep.join(p for p in (ROOT, os.environ.get("PYTHONPATH")) if p)
    # Steps of a few milliseconds would wait for the 50 between two rounds of talk.
    environment = dict(os.environ, PYTHONPATH=path, OMP_NUM_THREADS="1", HOROVOD_CYCLE_TIME="1")
    environment.pop("TF_XLA_FLAGS", None)
    run = os.path.join(os.path.dirname(sys.executable), "horovodrun")
    began = time.time()
    done = subprocess.run(
        [run, "-np", str(processes), sys.executable, WORKER] + [str(a) for a in arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=timeout,
    )
    return done.returncode, done.stdout, time.time() - began


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with what two processes have made of each case."""
    folder = tmp_path_factory.mktemp("cases")
    code, out, _ = horovodrun("cases", folder, timeout=1200)
    assert code == 0, out[-6000:]
    return folder


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_train_as_one(name, trained):
    alone, losses = prepared(name)()
    with np.load(str(trained / ("%03d.npz" % list(CASES).index(name)))) as found:
        weights = [found["w%03d" % i] for i in range(len(alone))]
        assert found["everywhere"], "the ranks have different weights"
        np.testing.assert_allclose(found["losses"], losses, rtol=1e-5, atol=1e-6)
    largest = max(float(np.max(np.abs(a - b), initial=0)) for a, b in zip(alone, weights))
    record = os.environ.get("RECORD_EQUALITIES")
    if record:
        with open(record, "a") as handle:
            handle.write("%s\t%.3g\n" % (name, largest))
    for ours, theirs in zip(alone, weights):
        np.testing.assert_allclose(theirs, ours, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "what, message",
    [
        ("fails", "rank 1 has bad data"),
        ("killed", "rank 0 of 2 ends, since another rank"),
        ("late", "of 2 ends, since no step was made for 5 seconds"),
    ],
)
def test_a_rank_that_fails_ends_all(what, message, tmp_path):
    code, out, seconds = horovodrun(what, tmp_path, timeout=180)
    assert code != 0 and message in out, out[-4000:]
    assert "is done" not in out and seconds < 120


def corpus(path, rows, seed):
    """Lines text, label."""
    random = np.random.RandomState(seed)
    with open(str(path), "w", encoding="utf-8") as handle:
        for _ in range(rows):
            label = random.randint(2)
            words = random.choice(list(CHARACTERS[:16] if label else CHARACTERS[16:]), random.randint(3, 9))
            handle.write("%s\t%d\n" % ("".join(words), label))
    return str(path)


def pairs(path, rows, seed):
    """Lines text, text, score."""
    random = np.random.RandomState(seed)
    with open(str(path), "w", encoding="utf-8") as handle:
        for _ in range(rows):
            score = random.randint(0, 4)
            a = random.choice(list(CHARACTERS), 6)
            b = [c if random.rand() < score / 3 else random.choice(list(CHARACTERS)) for c in a]
            handle.write("%s\t%s\t%d\n" % ("".join(a), "".join(b), score))
    return str(path)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a tiny model and data."""
    folder = tmp_path_factory.mktemp("finetune")
    tiny_bert_folder(folder / "tiny")
    corpus(folder / "train.tsv", 45, 1)
    corpus(folder / "valid.tsv", 12, 2)
    pairs(folder / "pairs.tsv", 45, 3)
    pairs(folder / "valid_pairs.tsv", 12, 4)
    return folder


def options(place, task, **changed):
    """45 rows in batches of 11: the parts of the ranks differ, and the last batch has one row."""
    files = {"classification": ("train.tsv", "valid.tsv"), "similarity": ("pairs.tsv", "valid_pairs.tsv")}[task]
    given = dict(model=str(place / "tiny"), data=str(place / files[0]), valid=str(place / files[1]), task=task)
    given.update(epochs=2, batch_size=11, max_length=12, learning_rate=1e-3, dropout_rate=0.0, quiet=True, seed=3)
    given["num_hidden_layers"] = 1
    return dict(given, **changed)


def read(run):
    """(metrics but for the seconds, numbers of predictions.tsv, weights of the encoder)."""
    with open(os.path.join(run, "metrics.json"), encoding="utf-8") as handle:
        metrics = json.load(handle)
    metrics.pop("seconds")
    with open(os.path.join(run, "predictions.tsv"), encoding="utf-8") as handle:
        return metrics, handle.read()


def flat(value):
    """All numbers in nested dicts and lists, but for those that jump where two pairs change places in an order."""
    if isinstance(value, dict):
        return [x for key in sorted(value) for x in flat(value[key]) if not key.endswith(("spearman", "score"))]
    if isinstance(value, list):
        return [x for part in value for x in flat(part)]
    return [float(value)] if isinstance(value, (int, float)) else []


def start(tmp_path, given, kill=None, processes=2):
    with open(str(tmp_path / "options.json"), "w", encoding="utf-8") as handle:
        json.dump(given, handle)
    if kill is None:
        (tmp_path / "kill").exists() and (tmp_path / "kill").unlink()
    else:
        (tmp_path / "kill").write_text(str(kill))
    return horovodrun("finetune", tmp_path, processes=processes)


TECHNIQUES = {
    "classification": dict(accumulate=2, ema=0.9, fgm=0.5, layerwise_lr_decay=0.9),
    "similarity": dict(accumulate=1),
}


@pytest.mark.parametrize("task", sorted(TECHNIQUES))
def test_finetune_on_two_processes_is_that_of_one_and_goes_on_after_a_kill(task, place, tmp_path):
    given = options(place, task, save_every=1, **TECHNIQUES[task])
    finetune(say=lambda line: None, out=str(tmp_path / "alone"), **given)
    together = dict(given, distributed=True, out=str(tmp_path / "together"))
    code, out, _ = start(tmp_path, together)
    assert code == 0, out[-6000:]
    (alone, _), (metrics, predictions) = read(str(tmp_path / "alone")), read(str(tmp_path / "together"))
    np.testing.assert_allclose(flat(metrics), flat(alone), rtol=1e-4, atol=2e-5)

    # Killed in the middle of an epoch, and of a window of accumulation.
    killed = dict(together, out=str(tmp_path / "killed"))
    code, out, seconds = start(tmp_path, killed, kill=6 if task == "similarity" else 7)
    assert code != 0 and os.path.exists(str(tmp_path / "killed" / "checkpoint.npz")), out[-6000:]
    code, out, _ = start(tmp_path, dict(killed, resume=True))
    assert code == 0, out[-6000:]
    again, their_predictions = read(str(tmp_path / "killed"))
    assert again == metrics and their_predictions == predictions
    if task == "classification":
        # A second time there is nothing to do, on any rank.
        code, out, _ = start(tmp_path, dict(killed, resume=True))
        assert code == 0, out[-6000:]


def test_one_process_goes_on_with_what_two_have_begun(place, tmp_path):
    given = options(place, "classification", save_every=2)
    together = dict(given, distributed=True, out=str(tmp_path / "run"))
    code, out, _ = start(tmp_path, together, kill=6)
    assert code != 0
    metrics = finetune(say=lambda line: None, **dict(given, out=str(tmp_path / "run"), resume=True))
    whole = finetune(say=lambda line: None, out=str(tmp_path / "whole"), **given)
    np.testing.assert_allclose(flat(metrics["history"]), flat(whole["history"]), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("task", ["ner", "math-word-problems"])
def test_the_other_tasks_end_as_on_one_process(task, tmp_path):
    given = dict(
        task=task, epochs=2, batch_size=7, max_length=24, learning_rate=2e-3, dropout_rate=0.0, valid_share=0.2
    )
    given.update(num_hidden_layers=1, quiet=True, seed=3, data=str(tmp_path / "train"), model=str(tmp_path / "tiny"))
    if task == "ner":
        tiny_bert_folder(tmp_path / "tiny", num_hidden_layers=1)
        write_entities(given["data"], 30)
    else:
        write_maths_model(given["model"])
        write_problems(given["data"], 30)
        given["max_equation_length"] = 10
    # Each in fresh processes: the seeds of new weights follow from what a process has made before.
    found = []
    for name, processes in (("alone", 1), ("together", 2)):
        whole = dict(given, out=str(tmp_path / name), distributed=processes > 1)
        code, out, _ = start(tmp_path, whole, processes=processes)
        assert code == 0, out[-6000:]
        with open(str(tmp_path / name / "metrics.json"), encoding="utf-8") as handle:
            found.append(json.load(handle))
    alone, together = found
    np.testing.assert_allclose(flat(together["history"]), flat(alone["history"]), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(flat(together["valid"]), flat(alone["valid"]), rtol=1e-4, atol=2e-5)
