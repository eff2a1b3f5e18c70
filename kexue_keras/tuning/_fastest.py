"""Finds out which of mixed precision and XLA is fastest here: a few steps with each, in processes of their own.

Article: 在bert4keras中使用混合精度和XLA加速训练 (kexue.fm/archives/9059), which tries these modes by hand: some run
out of memory, some give NaN, and which is fastest depends on the card, the build and the model.
"""

import contextlib
import hashlib
import inspect
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import warnings
from typing import Any, Callable, Optional, Sequence, Tuple, Union

import tensorflow as tf

from kexue_keras import backend, checks, versions
from kexue_keras.errors import WeightsError
from kexue_keras.files import atomic, describe
from kexue_keras.schemas.reading import matches, read_object
from kexue_keras.schemas.words import TEXT, either, keys, list_of, number, one_of
from kexue_keras.training.precision._loss_scale import check_loss_scale
from kexue_keras.training.precision._mixed_precision import Acceleration
from kexue_keras.tuning._trial import Trial, enable_mode, missing, mode_parts, try_mode
from kexue_keras.types import Path, Say

MODES = ("amp+xla", "amp+xla-lite", "amp", "xla", "xla-lite", "off")
CACHE = os.path.join("~", ".cache", "kexue_keras", "fastest.json")
# Nearer than this two modes are equally fast, and the later one, which does less, is taken.
TIE = 0.02


class Fastest(object):
    """What `find_fastest` found; print it for the table.

    Attributes:
        name: the mode.
        trials: list of `Trial(name, status, seconds, first_seconds, loss, memory)`: status is 'ok' or why it was
            dropped; median seconds of a step, seconds of the first one (with compilation), the last loss, peak memory
            of the process in bytes.
        loss_scale: used for the modes with mixed precision.
        from_cache: whether it was remembered and not tried now.
    """

    def __init__(
        self, name: str, trials: Sequence[Trial], loss_scale: Union[float, str], from_cache: bool = False
    ) -> None:
        self.name, self.trials, self.loss_scale, self.from_cache = name, trials, loss_scale, from_cache

    def enable(self) -> Acceleration:
        """Turn it on in this process: an `Acceleration`, whose `.scale(optimizer)` the model is compiled with."""
        return enable_mode(self.name, self.loss_scale)

    def __str__(self):
        return table(self.trials, self.name)


def table(trials, chosen=None):
    """The trials as a table, `chosen` marked."""
    lines = ["  %-14s %10s %11s %12s %10s  %s" % ("mode", "ms a step", "first step", "memory", "loss", "")]
    for r in trials:
        mark = "*" if r.name == chosen else " "
        if r.status == "ok":
            figures = (1000 * r.seconds, r.first_seconds, r.memory / 2**20, r.loss)
            lines.append("%s %-14s %10.1f %9.1f s %9.0f MB %10.4g" % ((mark, r.name) + figures))
        else:
            lines.append("%s %-14s dropped: %s" % (mark, r.name, r.status))
    return "\n".join(lines)


def choose(trials):
    """Name of the fastest mode that works; of those equally fast the last, which does least. None if none works."""
    good = [r for r in trials if r.status == "ok"]
    if not good:
        return None
    best = min(r.seconds for r in good)
    return [r for r in good if r.seconds <= best * (1 + TIE)][-1].name


def find_fastest(
    build: Callable[[], Tuple[Any, ...]],
    *,
    modes: Sequence[str] = MODES,
    loss_scale: Union[float, str] = 1000.0,
    steps: int = 20,
    warmup: int = 3,
    timeout: float = 900,
    cache: Optional[Path] = CACHE,
    refresh: bool = False,
    say: Optional[Say] = print,
) -> Fastest:
    """Train some steps in each of several modes, in a process of its own, and remember which is fastest.

    A mode is dropped when a loss or a weight is NaN or infinite, when memory runs out, when its process dies or hangs,
    or when it is not available here (mixed precision without a GPU or on Keras 2.3.1, 'xla-lite' in TensorFlow 1.15 as
    published). Compilation is not counted in the time of a step but shown, as `first step`; with XLA the first
    steps of every length are that slow. Call it before anything else uses the GPU: TensorFlow takes all of its memory.

    Args:
        build: function without arguments at the top of a file (other processes import it) that returns
            (compiled Keras model, inputs, targets) or (compiled Keras model, iterable of (inputs, targets)).
            Where a mode has mixed precision, the loss scale wraps the model's optimizer.
        modes: names of modes, see `enable_mode`; of equally fast ones the last is taken.
        loss_scale: for the modes with mixed precision.
        steps: steps that are timed.
        warmup: steps before that, 1 at least; shapes are compiled in them.
        timeout: seconds for each mode.
        cache: file in which the choice is remembered, by versions, machine, `build` (its source) and modes; None for
            none.
        refresh: True tries again what is remembered.
        say: function that prints a line; None keeps quiet.

    Returns:
        `Fastest`; `.enable()` turns it on.

    Raises:
        ValueError: unknown mode; `build` is no function that another process can import.
        RuntimeError: no mode works; with the table.

    Reference:
        在bert4keras中使用混合精度和XLA加速训练, kexue.fm/archives/9059
    """
    for name in modes:
        mode_parts(name)
    if not modes:
        raise checks.invalid("find_fastest", "modes", "one or more names of modes", modes)
    checks.whole_number(steps, "steps", "find_fastest", least=1)
    checks.whole_number(warmup, "warmup", "find_fastest", least=1)
    loss_scale = check_loss_scale(loss_scale)
    key = _key(build, list(modes), loss_scale)
    say = say or (lambda line: None)
    known = None if refresh else _remembered(cache, key)
    if known is not None:
        known = Fastest(known["name"], [Trial(*row) for row in known["trials"]], loss_scale, from_cache=True)
        say("%s, as found earlier (%s; refresh=True tries again)" % (known.name, os.path.expanduser(cache)))
        return known
    trials = []
    for name in modes:
        say("trying %s ..." % name)
        trial = missing(name)
        if trial is None:
            trial = try_mode(build, name, loss_scale=loss_scale, steps=steps, warmup=warmup, timeout=timeout)
        trials.append(trial)
    chosen = choose(trials)
    say(table(trials, chosen))
    if chosen is None:
        raise RuntimeError("none of the modes works:\n%s" % table(trials))
    found = Fastest(chosen, trials, loss_scale)
    _remember(cache, key, found)
    return found


def _key(build, modes, loss_scale):
    """What a choice depends on, as a short text."""
    name = getattr(build, "__qualname__", "")
    module = sys.modules.get(getattr(build, "__module__", None))
    if not callable(build) or "<" in name or "." in name or getattr(module, name, None) is not build:
        raise ValueError(
            "build is %r; it has to be a function defined at the top of a file, so that other processes can import it "
            "(no lambda, no function inside another one)" % (build,)
        )
    if module.__name__ == "__main__" and not getattr(module, "__file__", None):
        raise ValueError(
            "build is defined in a notebook or on the command line, which other processes cannot import; put it into a "
            "file and import it from there"
        )
    names = ("tensorflow", "keras", "bert4keras", "numpy", "kexue-keras")
    facts = {
        "versions": {n: versions.installed(n) for n in names},
        "tensorflow": [tf.__version__, backend.nvidia_release(), backend.keras_version(), backend.is_tf_keras],
        "machine": [platform.machine(), platform.python_version(), os.cpu_count(), _cpu(), _gpus()],
        "build": [getattr(module, "__file__", None), name, inspect.getsource(module)],
        "modes": [modes, loss_scale],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


def _cpu():
    with contextlib.suppress(OSError):
        with open("/proc/cpuinfo") as handle:
            return next((line.split(":")[1].strip() for line in handle if line.startswith("model name")), None)
    return platform.processor()


def _gpus():
    """What `nvidia-smi` lists: models and drivers, which TensorFlow does not tell without a session."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(command, universal_newlines=True, timeout=30).splitlines()
    return []


# What was measured: name of the fastest, and each trial in the order of `Trial`; figures only of those that work.
_FIGURES = [number()] * (len(Trial._fields) - 2)
_WORKS = {"type": "array", "items": [TEXT, one_of("ok")] + _FIGURES}
_DROPPED = {"type": "array", "items": [TEXT, {"type": "string", "not": one_of("ok")}]}
_ROW = dict(either(_WORKS, _DROPPED), minItems=len(Trial._fields), maxItems=len(Trial._fields))
_ENTRY = keys({"name": TEXT, "trials": list_of(_ROW)}, ["name", "trials"])


def _read(path):
    try:
        return read_object(path)
    except WeightsError:
        # Nothing remembered yet, or a file that something has cut short: it is written anew.
        return {}


def _remembered(cache, key):
    entry = _read(os.path.expanduser(cache)).get(key) if cache else None
    return (
        entry if matches(entry, _ENTRY) and any(row[:2] == [entry["name"], "ok"] for row in entry["trials"]) else None
    )


def _remember(cache, key, found):
    if not cache:
        return
    path = os.path.expanduser(cache)
    known = _read(path)
    known[key] = {"name": found.name, "trials": [list(r) for r in found.trials], "time": int(time.time())}
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        with atomic(path, "w") as handle:
            json.dump(known, handle, indent=1, sort_keys=True)
    except OSError as error:
        # What was measured is good for this process all the same.
        warnings.warn("what is fastest cannot be remembered: %s" % describe(error))
