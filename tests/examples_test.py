"""Every example runs on a tiny budget."""

import glob
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from kexue_keras.backend import is_tf_keras

EXAMPLES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "examples", "*.py")))
# Examples only call the package, all of which is tested on both stacks; each of them runs on one, in turn, for time.
MINE = EXAMPLES[int(is_tf_keras) :: 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", MINE)
def test_example_runs(name, tmp_path):
    done = subprocess.run(
        [sys.executable, os.path.join(ROOT, "examples", name), "--quick"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        cwd=str(tmp_path),
        env=dict(os.environ, PYTHONWARNINGS="ignore", TF_CPP_MIN_LOG_LEVEL="3"),
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert "Traceback" not in done.stdout
