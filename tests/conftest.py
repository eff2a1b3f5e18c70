"""Fixtures and settings shared by all tests; all stacks run the same files (`make test` sets TF_KERAS)."""

import gc
import itertools
import json
import os
import signal
import subprocess
import sys
import threading

import forking
import hypothesis
import numpy as np
import pytest
import stacks

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")
# TensorFlow asks of every operation of every graph whether XLA could compile it, a fifteenth of the tests' time, also
# where nothing is compiled. Bare fresh processes, where tests of XLA compile, are without this.
os.environ.setdefault("TF_XLA_FLAGS", "--tf_xla_clustering_fuel=0")

for name, examples in (("some", 12), ("many", 50)):
    hypothesis.settings.register_profile(
        name, deadline=None, max_examples=examples, derandomize=True, database=None, print_blob=False
    )
hypothesis.settings.load_profile("some")

TESTS = itertools.count(1)  # with a graph, so far
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FIXTURES = os.path.join(ROOT, "tests", "fixtures")


def pytest_addoption(parser):
    parser.addoption("--all-cases", action="store_true", help="run here also the cases that the stacks share out")
    parser.addoption("--every-case", action="store_true", help="of dear and alternating tests run all cases")
    parser.addoption("--draw", type=int, metavar="N", help="which of them have their turn (default: commits so far)")
    parser.addoption("--horovod", action="store_true", help="run the tests of processes that talk by Horovod")
    everyone = ",".join(stacks.STACKS)
    parser.addoption("--stacks", default=everyone, help="those that share them (default: %s)" % everyone)


def pytest_configure(config):
    """The package comes first, since on TensorFlow 2 it chooses the Keras; with --all-cases time is no matter."""
    import kexue_keras  # noqa: F401

    if config.getoption("--all-cases"):
        hypothesis.settings.load_profile("many")


def pytest_collection_modifyitems(config, items):
    """Leave to the other stacks what is theirs, unless there is --all-cases."""
    # A fork is safe only before TensorFlow has threads (tests/forking.py).
    items.sort(key=lambda item: "fork" not in item.fixturenames)
    if not config.getoption("--horovod"):
        talking = [item for item in items if item.get_closest_marker("horovod")]
        config.hook.pytest_deselected(items=talking)
        items[:] = [item for item in items if not item.get_closest_marker("horovod")]
    if not config.getoption("--all-cases"):
        left = stacks.left_out(items, stacks.here(), config.getoption("--stacks").split(","), draw=draw_of(config))
        config.hook.pytest_deselected(items=[item for item in items if item.nodeid in left])
        items[:] = [item for item in items if item.nodeid not in left]


def draw_of(config):
    """Which cases of the dear tests have their turn; None: all."""
    if config.getoption("--every-case") or config.getoption("--all-cases"):
        return None
    draw = config.getoption("--draw")
    return stacks.commits(ROOT) if draw is None else draw


def pytest_terminal_summary(terminalreporter, config):
    """Say how to see the same again."""
    draw = draw_of(config)
    if draw is not None:
        line = "dear and alternating tests: the cases whose turn it is (again: --draw %d; all: --every-case)" % draw
        terminalreporter.write_line(line)


def pytest_collection_finish(session):
    """What there is of threads now is numpy's, which knows of forks."""
    forking.allowed = forking.threads()


@pytest.fixture(scope="session", autouse=True)
def quick_graphs():
    """Garbage is searched for after a test (`fresh_graph`), and not in what the libraries have made so far.

    Python would search every few hundred objects, of which a graph has a hundred thousand: a tenth of the tests' time.
    """
    from kexue_keras.backend import quiet

    quiet()
    remember_one_call()
    gc.collect()
    gc.freeze()
    gc.set_threshold(1000000, 20, 20)
    yield
    gc.freeze()  # the end of the process searches once more


def remember_one_call():
    """TensorFlow keeps of every operation by which calls it was made: below pytest many, and here the same for all."""
    from tensorflow.python.util import tf_stack

    kept = tf_stack.extract_stack()
    tf_stack.extract_stack = lambda *args, **kwargs: kept


def forget_graphs(tests_so_far):
    """Free what a test has left: what it made itself, and seldom what several tests had."""
    if tests_so_far % 250 == 0:
        gc.collect()
        gc.freeze()  # what is there now is there to stay; tests that search for garbage themselves need not pass it
    elif gc.get_count()[0] > 10000:
        gc.collect(0)


@pytest.fixture(autouse=True)
def fresh_graph(request):
    """Every test begins with an empty graph, the same seeds, and a session without graph optimization.

    That takes longer than a few steps; those that Keras opens are without it too, but where a test is marked
    `optimized_sessions`. Sessions that a test opens itself are as users have them; so are other processes.
    """
    if "fork" in request.fixturenames:
        yield
        return
    import tensorflow as tf
    from helpers import plain_session

    from kexue_keras.backend import K, set_seed, tf1

    optimized = request.node.get_closest_marker("optimized_sessions") is not None
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not optimized})
    K.clear_session()
    tf1.keras.backend.set_session(tf1.Session(config=plain_session()))
    set_seed(2021)
    yield
    K.clear_session()
    forget_graphs(next(TESTS))


@pytest.fixture
def fork():
    """`os.fork` of the tests' own process; a test that takes this fixture runs before all others."""
    return forking.fork


@pytest.fixture
def rng():
    """numpy generator with a fixed seed."""
    return np.random.RandomState(7)


@pytest.fixture
def quick_disk(monkeypatch):
    """Forcing to disk, which tests of kills do a thousand times, takes no time."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Path of a tiny BERT folder."""
    from helpers import tiny_bert_folder

    return tiny_bert_folder(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def fresh_python(tmp_path_factory):
    """Run source in a fresh process on the same stack, forked from tests/fresh.py; returns (stdout, stderr).

    With `bare` nothing of the package is imported before the source, and sessions are as users have them.
    """
    folder = tmp_path_factory.mktemp("fresh")
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONWARNINGS="ignore")
    environment["PYTHONPATH"] = os.pathsep.join(p for p in (ROOT, os.environ.get("PYTHONPATH")) if p)
    servers = {}

    def server(bare):
        variables = {name: value for name, value in environment.items() if not (bare and name == "TF_XLA_FLAGS")}
        return subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "tests", "fresh.py")] + ["bare"] * bare,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            universal_newlines=True,
            env=variables,
            preexec_fn=os.setpgrp,
        )

    def run(source, *args, expect=0, bare=False):
        if bare not in servers:
            servers[bare] = server(bare)
        asked = servers[bare]
        streams = [os.devnull, str(folder / "stdout"), str(folder / "stderr")]
        for path in streams[1:]:
            open(path, "w").close()
        request = {"source": source, "args": [str(a) for a in args], "streams": streams}
        asked.stdin.write(json.dumps(request) + "\n")
        asked.stdin.flush()
        timer = threading.Timer(300, os.killpg, (asked.pid, signal.SIGKILL))
        timer.start()
        answer = asked.stdout.readline()
        timer.cancel()
        if not answer:
            servers.pop(bare).wait()
        out, err = (open(path, encoding="utf-8").read() for path in streams[1:])
        assert answer.strip() == str(expect), "exit code %s\n%s\n%s" % (answer.strip(), out, err[-4000:])
        return out, err

    yield run
    for started in servers.values():
        started.stdin.close()
        started.wait()


@pytest.fixture
def run_python(fresh_python):
    """Run source in a fresh process on the same stack; returns its standard output."""
    return lambda *args, **options: fresh_python(*args, **options)[0]
