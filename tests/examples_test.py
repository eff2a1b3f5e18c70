"""Every example runs on a tiny budget."""

import glob
import importlib.util
import os

import pytest
from conftest import ROOT

from kexue_keras.backend import is_tf_keras

EXAMPLES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "examples", "*.py")))
# Examples only call the package, all of which is tested on both stacks; each of them runs on one, in turn, for time.
MINE = EXAMPLES[int(is_tf_keras) :: 2]


# In this process, which has imported everything already; `.ci/run` runs the demo in one of its own.
@pytest.mark.slow
@pytest.mark.parametrize("name", MINE)
def test_example_runs(name, tmp_path, monkeypatch, plain_sessions):
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location(name[: -len(".py")], os.path.join(ROOT, "examples", name))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rows = module.main(["--quick"])
    assert rows == 0 or rows
