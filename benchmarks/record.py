"""Measurements: one row each in benchmarks/results/NAME.jsonl, with versions, stack, machine and time; ratios."""

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


def rows(name, results=RESULTS):
    """All rows of results/`name`.jsonl, a list of dicts; empty if there is no such file."""
    path = os.path.join(results, name + ".jsonl")
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as handle:
        return [json.loads(line) for line in handle if line.strip()]


def recorded(name, results=RESULTS, **keys):
    """Whether there is a row with these values, so that a run that was cut off goes on where it was."""
    return any(all(row.get(k) == v for k, v in keys.items()) for row in rows(name, results))


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
