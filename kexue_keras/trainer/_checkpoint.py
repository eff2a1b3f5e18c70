"""The one file of arrays that training writes: points, best weights, heads; whole or not there (`files.atomic_files`).

Such a file may have been changed or cut by anybody, so what is read is compared with what the run can have written
before any of it is used.
"""

import json
import random
import zipfile

import numpy as np

from kexue_keras.backend import K
from kexue_keras.errors import UserError
from kexue_keras.files import atomic


def save_arrays(path, arrays, meta=None):
    """Write a dict of arrays and a JSON-able `meta` into one .npz, atomically."""
    text = np.frombuffer(json.dumps(meta).encode(), "uint8")
    # Not numpy.savez: it leaves its archive open where the disk is full, which then complains on its own.
    with atomic(path) as handle, zipfile.ZipFile(handle, "w", allowZip64=True) as archive:
        for name, array in dict(arrays, __meta__=text).items():
            with archive.open(name + ".npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)


def load_arrays(path):
    """(dict of arrays, meta) from `save_arrays`.

    Raises:
        UserError: not such a file.
    """
    try:
        with np.load(path) as packed:
            arrays = {name: packed[name] for name in packed.files}
        return arrays, json.loads(arrays.pop("__meta__").tobytes().decode())
    except Exception as error:  # zipfile, zlib, numpy and json each have their own
        raise UserError("is not a checkpoint (%s); start over with --overwrite" % error, path=path)


def numbered(prefix, weights):
    """Dict `prefix/0000` -> array."""
    return {"%s/%04d" % (prefix, i): w for i, w in enumerate(weights)}


def from_numbered(prefix, arrays):
    """The list that `numbered` took."""
    names = sorted(name for name in arrays if name.startswith(prefix + "/"))
    return [arrays[name] for name in names]


def save_point(path, model, meta, **arrays):
    """Write weights of model and optimizer, the state of the random generators and `arrays`, with `meta`."""
    state, keys = random_state()
    arrays.update(numbered("model", model.get_weights()), random=keys)
    arrays.update(numbered("optimizer", model.optimizer.get_weights()))
    save_arrays(path, arrays, dict(meta, random=state, learning_rate=learning_rate(model.optimizer)))


def restore_point(path, model, arrays, meta):
    """Set what `save_point` wrote; the optimizer has its variables already.

    Raises:
        UserError: arrays or states that this model cannot have written.
    """
    weights = model_weights(path, model, arrays)
    try:
        model.optimizer.set_weights(from_numbered("optimizer", arrays))
    except ValueError as error:
        raise no_point(path, error)
    model.set_weights(weights)
    if meta["learning_rate"] is not None:
        K.set_value(model.optimizer.learning_rate, meta["learning_rate"])
    try:
        set_random_state(meta["random"], arrays["random"])
    except (TypeError, ValueError, LookupError, OverflowError, AttributeError) as error:
        raise no_point(path, "the state of the random numbers cannot be set (%s)" % error)


def model_weights(path, model, arrays):
    """The weights of a model that a file holds.

    Raises:
        UserError: others than the model has, or not finite. Keras sets as many as there are and says nothing.
    """
    weights, like = from_numbered("model", arrays), model.get_weights()
    if len(weights) != len(like):
        raise no_point(path, "it has %d arrays of weights, the model %d" % (len(weights), len(like)))
    for number, (array, other) in enumerate(zip(weights, like)):
        if array.shape != other.shape or array.dtype.kind != other.dtype.kind:
            found = (number, array.dtype, list(array.shape), other.dtype, list(other.shape))
            raise no_point(path, "array %d of the weights is %s %s, in the model %s %s" % found)
    if not all(np.isfinite(w).all() for w in weights):
        raise no_point(path, "its weights are NaN or infinite")
    return weights


def learning_rate(optimizer):
    """The rate that a callback may have changed; it is no weight of the optimizer. None if it cannot be read."""
    try:
        return float(K.get_value(optimizer.learning_rate))
    except Exception:  # a schedule object, or no rate at all
        return None


def random_state():
    """State of Python's and numpy's global generators: (JSON-able, array)."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {"python": random.getstate(), "numpy": [name, position, has_gauss, cached]}, keys


def set_random_state(meta, keys):
    """Take back what `random_state` gave, also after a round trip through JSON."""
    version, internal, gauss = meta["python"]
    random.setstate((version, tuple(internal), gauss))
    name, position, has_gauss, cached = meta["numpy"]
    np.random.set_state((name, keys, position, has_gauss, cached))


def no_point(path, why):
    """`UserError` for a file that does not hold what it should."""
    return UserError("is not a checkpoint of this run: %s; start over with --overwrite" % why, path=path)
