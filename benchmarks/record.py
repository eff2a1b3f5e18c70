"""One row a measurement: appended to benchmarks/results/NAME.jsonl with versions, stack, machine and time."""

import json
import os
import platform
import subprocess
import time

RESULTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "results")


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


def surroundings():
    """What a figure depends on besides the code: versions, stack, cores, commit, UTC time."""
    import numpy as np
    import tensorflow as tf

    from kexue_keras.backend import is_tf_keras, keras

    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _commit(),
        "stack": "tf.keras" if is_tf_keras else "keras",
        "versions": {
            "python": platform.python_version(),
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
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
