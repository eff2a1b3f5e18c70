"""Help and errors of arguments come without TensorFlow, and what the package does on import is done all the same."""

import os
import subprocess
import sys

from conftest import ROOT

from kexue_keras.cli import main as cli

HEAVY = ("tensorflow", "keras", "tf_keras", "bert4keras", "sklearn", "scipy", "numpy")
WRONG = {
    "doctor": ["--no-such-option"],
    "list": ["--no-such-option"],
    "finetune": ["--model", "m"],
    "search": ["--data", "d"],
    "predict": ["--run", "r"],
    "export": ["run", "--out", "x", "--format", "tflite"],
    "serve": ["--run", "r", "--port", "70000"],
    "convert": ["a", "b", "--keep-tokens", "k", "--corpus", "c"],
    "inspect": ["m"],
    "explain": ["text", "--run", "r", "--out", "x.pdf"],
    "plot": ["--data", "d", "--out", "x.html"],
    "mine": ["--data", "d"],
    "similar": ["看"],
}


def in_a_process(source):
    """Lines that it prints in a process which has imported nothing."""
    done = subprocess.run(
        [sys.executable, "-c", source],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(os.environ, PYTHONPATH=ROOT, PYTHONIOENCODING="utf-8"),
        timeout=120,
    )
    return done.stdout.decode("utf-8").splitlines()


def test_help_and_wrong_arguments_of_every_command_import_nothing_heavy():
    """In one process, one after the other: what one command leaves would show in the next."""
    assert set(WRONG) == set(cli.COMMANDS)
    calls = [[name, "--help"] for name in WRONG] + [[name] + wrong for name, wrong in WRONG.items()]
    source = (
        "import sys, kexue_keras_launcher as command\n"
        "for call in %r:\n    code = command.main(call)\n"
        "    print('found', call[0], code, sorted(set(%r) & set(sys.modules)), 'kexue_keras' in sys.modules)"
    )
    found = [line for line in in_a_process(source % (calls, HEAVY)) if line.startswith("found")]
    assert found == ["found %s %d [] False" % (call[0], 0 if call[1] == "--help" else 2) for call in calls]


def test_the_package_is_whole_where_a_command_works_and_after_one_that_was_refused():
    source = (
        "import kexue_keras_launcher as command\n"
        "assert command.main(['predict', '--run', 'r']) == 2\n"
        "assert command.main(['predict', '--run', 'no-such-run', '--data', 'd']) == 2\n"
        "import kexue_keras\n"
        "from kexue_keras.backend import keras\n"
        "print(kexue_keras.__version__, kexue_keras.models.load.__name__, 'SequencePooling' in "
        "keras.utils.get_custom_objects())"
    )
    assert in_a_process(source)[-1].split()[1:] == ["load", "True"]
