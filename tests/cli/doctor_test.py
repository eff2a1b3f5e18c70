"""`kexue-keras doctor` in a working environment and in broken ones."""

import types

import pytest

from kexue_keras import versions
from kexue_keras.cli import doctor
from kexue_keras.cli import main as cli


def test_here(capsys):
    assert cli.main(["doctor"]) == 0
    out = capsys.readouterr().out
    for words in ("Python", "TensorFlow", "stack", "model me5-zh-char", "XLA", "mixed precision", "can be used here"):
        assert words in out, words


def broken(**installed):
    found = dict({"keras": "2.3.1", "bert4keras": "0.11.5", "numpy": "1.18.5"}, **installed)
    tensorflow = found.pop("tensorflow", None)
    fake = types.SimpleNamespace(
        installed=found.get,
        installed_tensorflow=lambda: ("tensorflow", tensorflow) if tensorflow else (None, None),
        find_problems=lambda stack: versions.find_problems(stack, dict(found, tensorflow=tensorflow)),
    )
    return fake


@pytest.mark.parametrize(
    "installed, tf_keras, words",
    [
        ({}, False, "found none, needs 1.15.x"),
        ({"tensorflow": "1.15.5", "h5py": "3.1.0"}, False, "pip install 'h5py<3'"),
        ({"tensorflow": "1.15.5", "protobuf": "4.21.0"}, None, "protobuf<3.21"),
        ({"tensorflow": "2.4.0"}, False, "TF_KERAS=1"),
        ({"tensorflow": "1.15.5", "keras": "2.4.3"}, False, "keras==2.3.1"),
    ],
)
def test_broken_environment_is_explained_without_importing_the_package(capsys, monkeypatch, installed, tf_keras, words):
    def fail(*args):
        raise AssertionError("the package was looked at")

    monkeypatch.setattr(doctor, "check_import", fail)
    assert doctor.report(broken(**installed), tf_keras) == 1
    out = capsys.readouterr().out
    assert words in out
    assert "fix: " in out and "cannot be used here" in out


def test_one_working_stack_is_enough_when_none_is_asked_for():
    findings = doctor.check_installation(broken(tensorflow="1.15.5", keras="2.4.3"), None)
    assert [f.status for f in findings] == ["ok"]


def test_missing_bundled_file_is_reported(monkeypatch, tmp_path):
    from kexue_keras.checkpoints import _bundled as bundled

    monkeypatch.setattr(bundled, "ASSETS", str(tmp_path))
    assert {f.status for f in doctor.check_bundled_model()} == {"no"}
    assert all("git checkout" in f.mend for f in doctor.check_bundled_model())


def test_import_that_fails_is_told(monkeypatch):
    import builtins

    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name == "kexue_keras":
            raise ImportError("libcudart.so.10.0: cannot open shared object file")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    (finding,) = doctor.check_import(versions)
    assert finding.status == "wrong" and "libcudart" in finding.detail


def test_xla_failure_is_one_line(monkeypatch):
    import tensorflow as tf

    def fail(*args):
        raise ValueError("no\nXLA")

    monkeypatch.setattr(tf.xla.experimental, "compile", fail)
    assert doctor.try_xla() == "no XLA"


def test_scripts_are_read_instead(tmp_path, capsys):
    wrong, fine = tmp_path / "wrong.py", tmp_path / "fine.py"
    wrong.write_text("from bert4keras.optimizers import extend_with_lookahead\nx = extend_with_lookahead(y)\n")
    fine.write_text("print(1)\n")
    assert cli.main(["doctor", str(wrong), str(fine)]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("%s:2: extend_with_lookahead its slow weights start at zero" % wrong)
    assert said[1] == "    instead: optimizers.Lookahead(AdamW(1e-5)) (docs/optimizers/lookahead.md)"
    assert said[-1] == "1 lines to fix in 1 of 2 scripts (docs/migration.md)"
    assert cli.main(["doctor", str(fine)]) == 0
    assert capsys.readouterr().out == "nothing known to be wrong in 1 scripts\n"
    assert cli.main(["doctor", str(tmp_path / "none.py")]) == 2
    assert "none.py: cannot be read: No such file" in capsys.readouterr().err
