"""Version checks: each combination that is known not to work is named with its mend."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

from kexue_keras import versions

GOOD = dict(tensorflow="1.15.5", keras="2.3.1", h5py="2.10.0", protobuf="3.20.3", bert4keras="0.11.5", numpy="1.18.5")


@pytest.mark.parametrize(
    "change, tf_keras, package, mend",
    [
        (dict(tensorflow=None), False, "tensorflow", "1.15"),
        (dict(tensorflow="1.14.0"), False, "tensorflow", "pip install tensorflow==1.15.5"),
        (dict(tensorflow="2.16.1"), False, "tensorflow", "TF_KERAS=1"),
        (dict(keras="2.4.3"), False, "keras", "pip install keras==2.3.1"),
        (dict(keras=None), False, "keras", "pip install keras==2.3.1"),
        (dict(h5py="3.1.0"), False, "h5py", "pip install 'h5py<3'"),
        (dict(h5py="3.1.0"), True, "h5py", "pip install 'h5py<3'"),
        (dict(protobuf="4.21.1"), False, "protobuf", "pip install 'protobuf<3.21'"),
        (dict(numpy="1.24.0"), True, "numpy", "pip install 'numpy<1.24'"),
        (dict(bert4keras="0.10.0"), True, "bert4keras", "pip install bert4keras==0.11.5"),
        (dict(bert4keras=None), True, "bert4keras", "pip install bert4keras==0.11.5"),
        (dict(tensorflow="2.10.1"), True, "tensorflow", "pip install 'tensorflow>=2.16' tf-keras"),
        (dict(tensorflow="2.16.2"), True, "tf-keras", "pip install 'tf-keras~=2.16.0'"),
        (dict(tensorflow="2.21.0", bert4keras=None), True, "bert4keras", "pip install --no-deps bert4keras==0.11.5"),
    ],
)
def test_what_is_known_not_to_work_is_named(change, tf_keras, package, mend):
    found = versions.find_problems(tf_keras, dict(GOOD, **change))
    assert package in [problem.package for problem in found]
    text = versions.explain(found)
    assert mend in text and str(change.get(package) or "none") in text


def test_what_works_is_let_through():
    assert versions.find_problems(False, GOOD) == []
    assert versions.find_problems(True, dict(GOOD, keras="2.11.0")) == []
    modern = dict(
        {"tf-keras": "2.16.0"},
        tensorflow="2.16.1",
        keras="3.0.5",
        h5py="3.11.0",
        protobuf="4.25.3",
        bert4keras="0.11.5",
        numpy="1.26",
    )
    assert versions.find_problems(True, modern) == []


def test_versions_are_compared_as_numbers():
    # '1.9' > '1.15' as strings is how bert4keras compares them
    assert versions.find_problems(False, dict(GOOD, tensorflow="1.9.0"))
    assert versions.find_problems(False, dict(GOOD, protobuf="3.9.2")) == []


def test_import_fails_with_the_explanation():
    source = """
import sys
from importlib import import_module
spec = __import__('importlib.util').util.find_spec('kexue_keras')
import importlib.util, os
path = os.path.join(spec.submodule_search_locations[0], 'versions.py')
module = importlib.util.module_from_spec(importlib.util.spec_from_file_location('kexue_keras.versions', path))
module.__spec__.loader.exec_module(module)
module.find_problems = lambda tf_keras: [module.Problem('h5py', '3.1.0', '<3', "pip install 'h5py<3'", 'why')]
package = type(sys)('kexue_keras'); package.__path__ = list(spec.submodule_search_locations)
sys.modules['kexue_keras'] = package
package.versions = sys.modules['kexue_keras.versions'] = module
try:
    import kexue_keras.backend
except ImportError as error:
    assert 'tensorflow' not in sys.modules, 'TensorFlow was imported before the check'
    print(type(error).__name__, error)
"""
    # Not `run_python`, whose processes have TensorFlow already.
    said = subprocess.check_output(
        [sys.executable, "-c", source], universal_newlines=True, env=dict(os.environ, PYTHONPATH=ROOT)
    )
    assert "UnusableEnvironment" in said and "found 3.1.0" in said and "pip install 'h5py<3'" in said


@pytest.mark.parametrize("command, code", [("doctor", 1), ("list", 2)])
def test_the_command_explains_a_broken_environment(tmp_path, command, code):
    # A distribution that comes first on the path is the one that counts as installed.
    broken = tmp_path / "bert4keras-0.10.0.dist-info"
    broken.mkdir()
    (broken / "METADATA").write_text("Metadata-Version: 2.1\nName: bert4keras\nVersion: 0.10.0\n")
    done = subprocess.run(
        [sys.executable, os.path.join(ROOT, "kexue_keras_launcher.py"), command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(tmp_path), ROOT])),
    )
    assert done.returncode == code, done.stdout
    assert "0.10.0" in done.stdout and "bert4keras==0.11.5" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.skipif(sys.version_info[:2] != (3, 7), reason="the mend differs on other Pythons")
def test_without_tensorflow_the_mend_is_a_pip_line():
    assert "pip install tensorflow==1.15.5" in versions.explain(
        versions.find_problems(False, dict(GOOD, tensorflow=None))
    )
