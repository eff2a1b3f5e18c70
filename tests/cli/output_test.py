"""Standard output and error of the command: closed, full, or with nobody at the other end."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

COMMAND = '"%s" -m kexue_keras_launcher' % sys.executable
# What main.py does for `finetune` and `predict`, without the package.
WORK = """
import importlib.util, os, sys
spec = importlib.util.spec_from_file_location("output", os.path.join(sys.argv[1], "kexue_keras", "cli", "output.py"))
output = importlib.util.module_from_spec(spec)
spec.loader.exec_module(output)
with output.guarded(survives=True, name="kexue-keras"):
    with open(sys.argv[2], "w") as handle:
        for i in range(20000):
            print("epoch %d" % i, flush=i % 100 == 0)
            print("bar", file=sys.stderr)
            handle.write("%d\\n" % i)
    os.write(1, b"what a library prints")
"""


def shell(line, *args):
    """(exit code, standard output, standard error) of a line of shell."""
    done = subprocess.run(
        ["bash", "-c", line, "bash", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=ROOT),
        timeout=60,
        universal_newlines=True,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    "redirect, code, words",
    [
        ("> /dev/full", 2, "standard output: No space left on device"),
        (">&-", 2, "standard output: it is closed"),
        ("2>&-", 0, None),
        ("<&- 2> /dev/full", 0, None),
        ("| true; exit ${PIPESTATUS[0]}", 0, None),
    ],
)
def test_results_that_cannot_be_written_are_an_error_of_one_line(redirect, code, words):
    found, _, said = shell("sleep 0; %s --help %s" % (COMMAND, redirect))
    assert found == code
    if words is None:
        assert not said
    else:
        assert said.startswith("kexue-keras: " + words) and said.count("\n") == 1


def test_an_error_that_nobody_can_read_is_an_error_all_the_same():
    assert shell(COMMAND + " nonsense > /dev/full 2>&1")[0] == 2
    assert shell(COMMAND + " nonsense >&- 2>&-")[0] == 2


@pytest.mark.parametrize(
    "redirect, words",
    [
        ("| head -1", "Broken pipe"),
        ("2>&1 | head -1", None),
        ("> /dev/full", "No space left on device"),
        (">&-", "it is closed"),
        ("2>&-", None),
        (">&- 2>&- <&-", None),
        ("> /dev/full 2>&1", None),
    ],
)
def test_work_goes_on_without_its_reports(tmp_path, redirect, words):
    path = str(tmp_path / "work")
    code, _, said = shell(
        '"%s" -c "$1" "$2" "$3" %s; exit ${PIPESTATUS[0]}' % (sys.executable, redirect), WORK, ROOT, path
    )
    assert code == 0
    with open(path) as handle:
        assert handle.read() == "".join("%d\n" % i for i in range(20000))
    if words is not None:
        told = [line for line in said.splitlines() if line != "bar"]
        assert told == ["kexue-keras: note: standard output: %s; continuing without it" % words]
