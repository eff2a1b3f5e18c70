"""Every example runs on a tiny budget."""

import glob
import importlib.util
import os

import pytest
from conftest import ROOT

EXAMPLES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "examples", "*.py")))
EXAMPLES.remove("demo.py")  # `.ci/run` runs it, in a process of its own


# In this process, which has imported everything already.
@pytest.mark.slow
@pytest.mark.spread
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, tmp_path, monkeypatch, plain_sessions):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(name[: -len(".py")], os.path.join(ROOT, "examples", name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = module.main(["--quick"])
    assert rows == 0 or rows
