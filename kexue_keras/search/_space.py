"""What is searched: a range or a list of values for each option, as the command writes them."""

import json
import math
from typing import Any, Dict, List, Optional, Sequence

from kexue_keras.errors import UserError
from kexue_keras.options.finetune import FILES, PASSING, as_option, checked_options, defaults, finetune_parser

# Where nothing is asked for: the rate, and techniques that cost no more than twice the time.
USUAL = {
    "classification": (
        "learning-rate=1e-5..5e-4:log",
        "warmup=0..0.2",
        "layerwise-lr-decay=0.8,0.9,1.0",
        "ema=0,0.99",
        "fgm=0,0.5",
    ),
    "similarity": ("learning-rate=1e-5..5e-4:log", "warmup=0..0.2", "layerwise-lr-decay=0.8,0.9,1.0", "ema=0,0.99"),
    "math-word-problems": ("learning-rate=1e-5..5e-4:log", "warmup=0..0.2", "ema=0,0.99"),
}
# These are the frame of a search, not its object.
FIXED = FILES + PASSING + ("task", "model", "metric", "valid_share", "folds", "seed", "max_line")


class _Option(object):
    """One option that is searched."""

    def __init__(self, name, low=None, high=None, log=False, whole=False, values=None):
        self.name, self.low, self.high, self.log, self.whole, self.values = name, low, high, log, whole, values

    def suggest(self, trial):
        """The value that a trial of Optuna takes."""
        if self.values is not None:
            # Optuna keeps strings and numbers; what else there is goes by its JSON.
            return json.loads(trial.suggest_categorical(self.name, [json.dumps(value) for value in self.values]))
        if self.whole:
            return trial.suggest_int(self.name, self.low, self.high, log=self.log)
        return float("%.4g" % trial.suggest_float(self.name, self.low, self.high, log=self.log))

    def __repr__(self):
        if self.values is not None:
            return "%s=%s" % (self.name, ",".join(json.dumps(value) for value in self.values))
        return "%s=%r..%r%s" % (self.name, self.low, self.high, ":log" if self.log else "")


class Space(object):
    """What is searched.

    Args:
        vary: list of str, each NAME=VALUE,VALUE,... or NAME=LOW..HIGH or NAME=LOW..HIGH:log, where NAME is an option
            of `finetune`; None or empty: the usual ones of the task.
        task: task of `finetune`.

    Attributes:
        options: list of the options that are searched.

    Raises:
        UserError: no such option, one that is not searched, a value that it cannot have.

    >>> Space(['learning-rate=1e-5..1e-4:log', 'fgm=0,0.5'])
    [learning_rate=1e-05..0.0001:log, fgm=0,0.5]
    """

    def __init__(self, vary: Optional[Sequence[str]] = None, *, task: str = "classification") -> None:
        vary = [vary] if isinstance(vary, str) else vary
        self.options = [_parsed(text) for text in vary or USUAL.get(task, USUAL["math-word-problems"])]
        names = [option.name for option in self.options]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError("--vary %s appears twice" % as_option(twice[0])[2:])

    def suggest(self, trial: Any) -> Dict[str, Any]:
        """Dict of option -> value that a trial of Optuna takes."""
        return {option.name: option.suggest(trial) for option in self.options}

    def describe(self) -> List[str]:
        """One line per option; two searches with the same lines are the same search."""
        return [repr(option) for option in self.options]

    def __repr__(self):
        return "[%s]" % ", ".join(self.describe())


def _parsed(text):
    name, equals, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    if not equals or not values.strip():
        raise UserError("--vary %s: expected NAME=VALUE,VALUE or NAME=LOW..HIGH or NAME=LOW..HIGH:log" % text)
    if name not in defaults():
        raise UserError("--vary %s: finetune has no option --%s" % (text, name.replace("_", "-")))
    if name in FIXED:
        raise UserError("--vary %s: this option is the same in all trials; give it by itself" % text)
    values = values.strip()
    if ".." in values:
        return _range(text, name, values)
    found = [_value(text, name, one.strip()) for one in values.split(",")]
    if len(found) < 2 or len(set(map(json.dumps, found))) < len(found):
        raise UserError("--vary %s: at least two different values are needed" % text)
    return _Option(name, values=found)


def _range(text, name, values):
    bounds, _, scale = values.partition(":")
    parts = bounds.split("..")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        raise UserError("--vary %s: a range is LOW..HIGH with two numbers" % text)
    if scale not in ("", "log") or not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError("--vary %s: a range is LOW..HIGH or LOW..HIGH:log, the lower number first" % text)
    if scale == "log" and low <= 0:
        raise UserError("--vary %s: on a logarithmic scale the lowest value is above 0" % text)
    whole = any(action.dest == name and _is_whole(action) for action in finetune_parser()._actions)
    if whole and (low != int(low) or high != int(high)):
        raise UserError("--vary %s: the option takes whole numbers" % text)
    if whole:
        low, high = int(low), int(high)
    for end in (low, high):
        _check(text, name, end)
    return _Option(name, low, high, scale == "log", whole)


def _is_whole(action):
    return action.type is int or (getattr(action.type, "schema", None) or {}).get("type") == "integer"


def _value(text, name, said):
    """A value as JSON would have it: none, a number, true or false, or a word."""
    if said.lower() in ("none", "null", "default"):
        value = defaults()[name]
    else:
        try:
            value = json.loads(said)
        except ValueError:
            value = said
    return _check(text, name, value)


def _check(text, name, value):
    try:
        return checked_options({name: value})[name]
    except UserError as error:
        raise UserError("--vary %s: %s" % (text, error.message))
