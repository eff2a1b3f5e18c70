"""Measurements: one row each in benchmarks/results/NAME.jsonl, with versions, stack, machine and time; ratios."""

import argparse
import json
import os
import platform
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
RESULTS = os.path.join(HERE, "results")
ROOT = os.path.dirname(HERE)
# Name of a stack -> folders of its environment (the first that is there; tools/venv.sh makes them), what chooses it.
STACKS = {
    "keras": ([".venv"], {"TF_KERAS": "0"}),
    "tf.keras": ([".venv"], {"TF_KERAS": "1"}),
    "tf2": ([".venv-tf2", ".venv-tf2.16"], {"TF_KERAS": "1", "TF_USE_LEGACY_KERAS": "1"}),
}


def _commit():
    try:
        return subprocess.check_output(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=RESULTS,
            universal_newlines=True,
            stderr=subprocess.DEVNULL,
        ).strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def stack_process(stack):
    """How a process of a stack is started.

    Returns:
        (path of the Python, dict environment with this checkout on its path and TensorFlow kept quiet).
    """
    folders, chosen = STACKS[stack]
    pythons = [os.path.join(ROOT, folder, "bin", "python") for folder in folders]
    python = next((path for path in pythons if os.path.exists(path)), pythons[0])
    path = os.pathsep.join(p for p in (ROOT, os.environ.get("PYTHONPATH")) if p)
    environment = dict(os.environ, PYTHONPATH=path, **chosen)
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    environment.setdefault("PYTHONWARNINGS", "ignore")
    return python, environment


def add_stack_option(parser, default="keras"):
    """`--stack` for a script that measures in the environment of a stack; `default` None is each of them in turn."""
    each = "" if default else "only this stack"
    parser.add_argument("--stack", choices=list(STACKS), default=default, help=each or "(%(default)s)")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)


def enter_stack(options):
    """Return in the environment that `--stack` names; elsewhere run this script again there, and end."""
    if options.inside:
        return
    for stack in [options.stack] if options.stack else STACKS:
        print("== %s" % stack, flush=True)
        python, environment = stack_process(stack)
        code = subprocess.call([python] + sys.argv + ["--inside"], env=environment)
        if code:
            sys.exit(code)
    sys.exit(0)


def surroundings():
    """What a figure depends on besides the code: versions, stack, cores, commit, UTC time."""
    import numpy as np
    import tensorflow as tf

    from kexue_keras.backend import keras_version, stack_name

    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "stack": stack_name(),
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras_version(),
            "numpy": np.__version__,
        },
        "cores": os.cpu_count(),
        "machine": platform.machine(),
    }


def record(name, row, results=RESULTS):
    """Append `row` (a JSON-able dict) to results/`name`.jsonl and return the whole row as written."""
    os.makedirs(results, exist_ok=True)
    row = dict(row, **surroundings())
    with open(os.path.join(results, name + ".jsonl"), "a", encoding="utf-8") as handle:
        handle.write(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n")
    return row


def rows(name, results=RESULTS):
    """All rows of results/`name`.jsonl, a list of dicts; empty if there is no such file."""
    path = os.path.join(results, name + ".jsonl")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as handle:
        return [json.loads(line) for line in handle if line.strip()]


def last_row(name, results=RESULTS, **key):
    """The last row that has these values, or None.

    Args:
        name, results: of the file.
        **key: all that tells the run apart, settings included, so that a changed setting runs again; a row that lacks
            one of the names is none with the value None.
    """
    of = [row for row in rows(name, results) if all(name in row and row[name] == value for name, value in key.items())]
    return of[-1] if of else None


def recorded(name, results=RESULTS, **key):
    """Whether there is a row with these values, so that a run that was cut off goes on where it was."""
    return last_row(name, results, **key) is not None


def ratio(times, above, below):
    """Medians over rounds of the ratio within a round, of wall time and of the processor time of all threads.

    Args:
        times: dict name -> list of (wall, processor) seconds, one for each round.
        above, below: the two names.
    """
    import numpy as np

    wall, processor = (np.array(times[above]) / np.array(times[below])).T
    quartiles = np.percentile(wall, [25, 50, 75])
    return {
        "ratio": round(quartiles[1], 4),
        "quartiles": [round(q, 4) for q in quartiles[::2]],
        "processor_time_ratio": round(float(np.median(processor)), 4),
    }
