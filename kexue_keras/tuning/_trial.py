"""One mode of `find_fastest`: turned on here, or tried in a process of its own that may die of it.

Article: 在bert4keras中使用混合精度和XLA加速训练 (kexue.fm/archives/9059).
"""

import contextlib
import math
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import namedtuple

import numpy as np
import tensorflow as tf

from kexue_keras import backend
from kexue_keras.backend import K
from kexue_keras.optimizers._inner import chain
from kexue_keras.training.precision._mixed_precision import Acceleration, enable_mixed_precision
from kexue_keras.training.precision._xla import enable_xla

PARTS = {"amp": "amp", "xla": "auto", "xla-full": "full", "xla-lite": "lite", "off": None}

# Seconds that a process may take to end after its last word.
GRACE = 10

Trial = namedtuple("Trial", "name status seconds first_seconds loss memory")


def mode_parts(name):
    """(whether a mode has mixed precision, its mode of XLA or None).

    Raises:
        ValueError: unknown mode.

    >>> mode_parts('amp+xla-lite'), mode_parts('off')
    ((True, 'lite'), (False, None))
    """
    parts = name.split("+") if isinstance(name, str) else [name]
    modes = [PARTS[part] for part in parts if part in PARTS and part not in ("amp", "off")]
    if any(part not in PARTS for part in parts) or len(set(parts)) < len(parts) or len(modes) > 1:
        raise ValueError("%r is no mode; join some of amp, xla, xla-full, xla-lite by '+', or take 'off'" % (name,))
    if "off" in parts and len(parts) > 1:
        raise ValueError("%r is no mode; 'off' stands alone" % (name,))
    return "amp" in parts, (modes or [None])[0]


@contextlib.contextmanager
def _undone_on_error(*done):
    try:
        yield
    except BaseException:
        for acceleration in done:
            acceleration.disable()
        raise


def enable_mode(name, loss_scale=1000.0):
    """Turn on what the name of a mode stands for.

    Args:
        name: 'amp', 'xla', 'xla-full', 'xla-lite', two of them with '+' between, or 'off'.
        loss_scale: as for `enable_mixed_precision`.

    Returns:
        `Acceleration`, for the whole mode.

    Raises:
        RuntimeError: as `enable_mixed_precision` and `enable_xla`.
        ValueError: unknown mode.
    """
    amp, mode = mode_parts(name)
    xla = enable_xla(mode) if mode else None
    with _undone_on_error(*[xla] if xla else []):
        half = enable_mixed_precision(loss_scale) if amp else None
    parts = [part for part in (half, xla) if part is not None]

    def undo():
        for part in parts:
            part.disable()

    described = " and ".join(part.description for part in parts) or "nothing"
    return Acceleration(undo, described, loss_scale if amp else None)


def _dropped(name, status):
    return Trial(name, status, None, None, None, None)


def missing(name):
    """The dropped `Trial` of a mode if there is no need to start a process to see that it cannot work here."""
    amp, _ = mode_parts(name)
    if amp and not backend.has_gpu():
        return _dropped(name, "mixed precision needs a GPU")
    return None


def try_mode(build, name, *, loss_scale=1000.0, steps=20, warmup=3, timeout=900):
    """Try one mode in a fresh process.

    Args:
        build, loss_scale, steps, warmup, timeout: as for `find_fastest`.
        name: the mode.

    Returns:
        `Trial(name, status, seconds, first_seconds, loss, memory)`; status 'ok', or why it is dropped.
    """
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_trial, args=(send, build, name, loss_scale, steps, warmup))
    result, hangs = None, False
    with tempfile.TemporaryFile() as said:
        with _stderr_into(said):
            process.start()
        send.close()
        try:
            # True also when the process has died.
            hangs = not receive.poll(timeout)
            result = None if hangs else receive.recv()
        except EOFError:
            pass
        finally:
            receive.close()
            if not hangs:
                process.join(GRACE)
            if process.is_alive():
                process.kill()
                process.join()
        said.seek(0)
        lines = said.read().decode("utf-8", "replace").split("\n")
    if result is not None:
        return Trial(name, *result)
    if hangs:
        return _dropped(name, "not done after %d seconds" % timeout)
    return _dropped(name, _death(process.exitcode, lines))


def _death(code, lines):
    """Why a process died, with the last line of what it said."""
    last = [line.strip() for line in lines if line.strip()][-1:]
    if code == -9:
        return "killed (signal 9), which is what Linux does when memory runs out"
    how = "signal %d" % -code if code and code < 0 else "exit code %s" % code
    return "its process died (%s)%s" % (how, ": " + last[0][:200] if last else "")


@contextlib.contextmanager
def _stderr_into(handle):
    """Processes started meanwhile write their errors there: TensorFlow's last words, when it aborts."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(handle.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _trial(send, build, name, loss_scale, steps, warmup):
    """What the process of a trial does: train, and send (status, seconds, first seconds, loss, memory)."""
    try:
        result = train_in_mode(build, name, loss_scale, steps, warmup)
    except (MemoryError, tf.errors.ResourceExhaustedError):
        result = ("out of memory",) + (None,) * 4
    except Exception as error:  # anything the model throws is a reason to drop the mode, and is reported
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        result = ("%s: %s" % (type(error).__name__, lines[0][:300]),) + (None,) * 4
    send.send(result)
    send.close()


def train_in_mode(build, name, loss_scale=1000.0, steps=20, warmup=3):
    """Train in one mode in this process, and measure.

    Args:
        build, loss_scale, steps, warmup: as for `find_fastest`.
        name: the mode.

    Returns:
        (status, median seconds of a step, seconds of the first step, last loss, peak memory in bytes).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        on = enable_mode(name, loss_scale)
    built = tuple(build())
    if len(built) not in (2, 3) or not hasattr(built[0], "train_on_batch"):
        raise ValueError("build has to return (model, inputs, targets) or (model, iterable of batches)")
    model = built[0]
    if getattr(model, "optimizer", None) is None:
        raise ValueError("build has to return a compiled model")
    if on.loss_scale is not None and not any(type(o).__name__ == "LossScale" for o in chain(model.optimizer)):
        model.optimizer = on.scale(model.optimizer)
    batches = _cycle(built[1]) if len(built) == 2 else None
    seconds, loss = [], None
    for step in range(warmup + steps):
        batch = next(batches) if batches else built[1:]
        began = time.perf_counter()
        loss = float(np.ravel(model.train_on_batch(*batch))[0])
        seconds.append(time.perf_counter() - began)
        if not math.isfinite(loss):
            return "the loss became %s at step %d" % (loss, step + 1), None, None, None, None
    if not all(np.isfinite(w).all() for w in K.batch_get_value(model.weights)):
        return "weights became NaN or infinite", None, None, None, None
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return "ok", float(np.median(seconds[warmup:])), seconds[0], loss, memory


def _cycle(batches):
    while True:
        for batch in batches:
            yield batch
