"""Every option of every command with values that are no numbers, not finite, negative or huge: refused by its name."""

import argparse
import math

import numpy as np
import pytest

from kexue_keras.cli import main as cli
from kexue_keras.errors import UserError
from kexue_keras.finetune._run import Run
from kexue_keras.finetune._similarity import check_similarity
from kexue_keras.options.finetune import finetune_parser, make_options

REQUIRED = {
    "finetune": ["--model", "m", "--data", "d", "--out", "o"],
    "predict": ["--run", "r", "--data", "d"],
    "convert": ["IN", "OUT"],
    "similar": ["好书", "--corpus", "c"],
    "export": ["m", "--out", "o"],
    "serve": ["--run", "r"],
}
NEVER = ["nan", "inf", "-inf", "1e999", "", "x", "²", "①", "1_0_"]
# Options that are words, with what they cannot be.
WORDS = {"label_separator": [""], "text_column": [], "text_b_column": [], "label_column": []}
PERHAPS = ["-1", "0", "0.5", "1", "1e308", "-1e308", "1" + "0" * 20, "-" + "9" * 400]


@pytest.fixture
def commands(monkeypatch):
    """Names of the commands -> their options; what they would do is only checked for and kept in `commands.seen`."""
    seen, parsers = [], {}

    def finetune(say, **options):
        checked = Run(make_options(**options), None, say)
        if checked.options.task == "similarity":
            check_similarity(checked)
        seen.append(options)

    monkeypatch.setattr("kexue_keras.finetune._finetune.finetune", finetune)
    for name in ("predict.predict_file", "convert.convert_folder", "export.run", "serve.run"):
        monkeypatch.setattr("kexue_keras.cli." + name, lambda options, **_: seen.append(vars(options)) or 0)
    monkeypatch.setattr("kexue_keras.cli.similar.similar", lambda options: seen.append(vars(options)) or [])
    with monkeypatch.context() as patch:
        patch.setattr(cli.Parser, "print_help", lambda self, file=None: parsers.setdefault(self.prog.split()[-1], self))
        for command in REQUIRED:
            assert cli.main([command, "--help"]) == 0
    return seen, {name: [a for a in parser._actions if a.nargs != 0] for name, parser in parsers.items()}


def given(action, text):
    """Arguments that give an option a value."""
    option = action.option_strings[-1]
    if isinstance(action.nargs, int):
        return [option] + [text] * action.nargs
    return ["%s=%s" % (option, text)] if option.startswith("--") else [option + text]


def test_every_option_of_every_command(commands, capsys):
    seen, options = commands
    tried = 0
    for command, actions in options.items():
        for action in actions:
            if action.type is None or not action.option_strings:
                continue
            is_number = action.dest not in WORDS
            for text in (NEVER + PERHAPS) if is_number else WORDS[action.dest]:
                del seen[:]
                code = cli.main([command] + REQUIRED[command] + given(action, text))
                said = capsys.readouterr().err
                where = (command, action.dest, text, said)
                assert code == (0 if seen else 2), where
                assert said.count("\n") == (code == 2), where
                if text in NEVER:
                    assert code == 2 and action.option_strings[-1] in said, where
                elif code == 0:
                    values = seen[0][action.dest]
                    for value in values if isinstance(values, list) else [values]:
                        assert value is None or value == "dynamic" or math.isfinite(value), where
                        assert not isinstance(value, int) or -(2**63) <= value < 2**63, where
                tried += 1
    assert tried > 400


ACTIONS = [action for action in finetune_parser()._actions if action.type is not None]


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.dest)
def test_the_function_and_config_json_take_what_the_command_takes(action):
    wrong = WORDS.get(action.dest, [float("nan"), float("inf"), "x", [], {}, "²", True, [1, 2, 3]])
    if action.dest in WORDS:
        wrong = wrong + [[], {}, True, float("nan")]
    if action.nargs == "?":
        wrong.remove(True)
    for value in wrong:
        with pytest.raises(UserError, match="--%s is " % action.dest.replace("_", "-")):
            make_options(**{action.dest: value})
    if action.dest not in WORDS:
        right = [action.type(text) for text in ("1", "2", "0.5", "0") if accepts(action, text)]
        assert right
        for value in right:
            value = [value] * action.nargs if isinstance(action.nargs, int) else value
            assert vars(make_options(**{action.dest: value}))[action.dest] == value
            for one in [] if isinstance(value, list) else [np.float64(value), np.asarray(value)]:
                if isinstance(value, float):
                    assert vars(make_options(**{action.dest: one}))[action.dest] == value


def accepts(action, text):
    try:
        action.type(text)
        return True
    except (argparse.ArgumentTypeError, ValueError):
        return False


def test_flags_and_choices_of_the_function():
    for wrong in ({"resume": "no"}, {"quiet": 2}, {"pooling": "sum"}, {"task": 3}, {"score_range": [1]}):
        with pytest.raises(UserError, match="--%s is " % list(wrong)[0].replace("_", "-")):
            make_options(**wrong)
    assert make_options(recompute=True).recompute is True
    assert make_options(batch_size=np.int64(4)).batch_size == 4
    with pytest.raises(UserError, match="--label-separator is ''"):
        make_options(label_separator="")
