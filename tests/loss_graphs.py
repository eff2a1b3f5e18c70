"""Losses as numpy functions: the graph is built once, then evaluated with many inputs."""

import json
import os

import numpy as np
import tensorflow as tf
from conftest import ROOT

from kexue_keras.backend import get_session, tf1


def evaluator(loss, *inputs, wrt=None, second=False):
    """`loss(*tensors)` as a function of arrays.

    Args:
        loss: function of tensors.
        *inputs: a pair (dtype, shape) each; shape None for unknown rank.
        wrt: index of the input whose gradient (of the sum) is returned too.
        second: return the gradient of the sum of squares of that gradient too.
    """
    placeholders = [tf1.placeholder(dtype, shape) for dtype, shape in inputs]
    fetches = loss(*placeholders)
    if wrt is not None:
        gradient = tf.gradients(fetches, placeholders[wrt])[0]
        fetches = [fetches, tf.convert_to_tensor(gradient)]
        if second:
            again = tf.gradients(tf.square(gradient), placeholders[wrt])[0]
            fetches.append(tf.convert_to_tensor(again))

    def evaluate(*arrays):
        assert len(arrays) == len(placeholders)
        return get_session().run(fetches, dict(zip(placeholders, map(np.asarray, arrays))))

    return evaluate


def _numbers(x):
    if isinstance(x, list):
        return [_numbers(v) for v in x]
    return float(x) if isinstance(x, str) and x in ("inf", "-inf") else x


def oracles(section, *names):
    """The oracles of `section` in tests/oracles.json without the known faults; with `names`, only these, by name."""
    with open(os.path.join(ROOT, "tests", "oracles.json"), encoding="utf-8") as handle:
        entries = [e for e in json.load(handle)[section] if e.get("kind") != "known_fault"]
    for entry in entries:
        entry["inputs"] = {k: _numbers(v) for k, v in entry["inputs"].items()}
    return {e["name"]: e for e in entries if not names or e["name"] in names}


def slope(function, x, step=1e-6):
    """Gradient of a float64 numpy function with values summed, by central differences."""
    x = np.array(x, "float64")
    gradient = np.zeros_like(x)
    for i in np.ndindex(*x.shape):
        if np.isfinite(x[i]):
            moved = x.copy()
            moved[i] = x[i] + step
            up = np.sum(function(moved))
            moved[i] = x[i] - step
            gradient[i] = (up - np.sum(function(moved))) / (2 * step)
    return gradient
