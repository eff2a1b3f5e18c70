"""Fixtures and settings shared by all tests; both stacks run the same files (`make test` sets TF_KERAS)."""

import gc
import os
import subprocess
import sys

import hypothesis
import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

hypothesis.settings.register_profile(
    "kexue", deadline=None, max_examples=30, derandomize=True, database=None, print_blob=False
)
hypothesis.settings.load_profile("kexue")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SHARED = os.path.join(os.path.dirname(ROOT), "shared")


@pytest.fixture(scope="session", autouse=True)
def quick_graphs():
    """What the libraries have made so far is not searched for garbage again and again, a twelfth of the tests' time."""
    from kexue_keras.backend import quiet

    quiet()
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def fresh_graph():
    """Every test begins with an empty graph, the same seeds, and a session without graph optimization.

    Sessions that a test opens itself, or Keras after a `clear_session`, are as users have them; so are other processes.
    """
    from helpers import plain_session

    from kexue_keras.backend import K, set_seed, tf1

    K.clear_session()
    tf1.keras.backend.set_session(tf1.Session(config=plain_session()))
    set_seed(2021)
    yield
    K.clear_session()


@pytest.fixture
def rng():
    """numpy generator with a fixed seed."""
    return np.random.RandomState(7)


@pytest.fixture
def run_python():
    """Run source code in a fresh Python process on the same stack; returns its standard output."""

    def run(source, *args, expect=0, env=None):
        environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONWARNINGS="ignore", **(env or {}))
        environment["PYTHONPATH"] = os.pathsep.join(p for p in (ROOT, environment.get("PYTHONPATH")) if p)
        done = subprocess.run(
            [sys.executable, "-c", source, *map(str, args)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            env=environment,
            timeout=300,
        )
        assert done.returncode == expect, "exit code %s\n%s\n%s" % (
            done.returncode,
            done.stdout,
            done.stderr[-4000:],
        )
        return done.stdout

    return run
