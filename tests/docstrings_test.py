"""Every `>>>` example in the package runs."""

import doctest
import glob
import importlib
import os

import numpy as np
import pytest
from conftest import ROOT

MODULES = sorted(
    os.path.relpath(path, ROOT)[: -len(".py")].replace(os.sep, ".")
    for path in glob.glob(os.path.join(ROOT, "kexue_keras", "**", "*.py"), recursive=True)
    if ">>>" in open(path, encoding="utf-8").read()
)


@pytest.fixture
def printed_as_ever():
    """numpy 2 prints True as np.True_."""
    before = np.get_printoptions()
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        np.set_printoptions(legacy="1.25")
    yield
    np.set_printoptions(**before)


@pytest.mark.alternating
@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, printed_as_ever, monkeypatch):
    monkeypatch.delenv("TF_XLA_FLAGS", raising=False)  # as a user has it
    import tensorflow as tf

    import kexue_keras
    from kexue_keras.backend import K, keras

    module = importlib.import_module(name)
    given = {"np": np, "tf": tf, "keras": keras, "K": K, "kexue_keras": kexue_keras}
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    for test in finder.find(module, name, extraglobs=given):
        said = []
        runner.run(test, out=said.append)
        assert not runner.failures, "".join(said)
