"""The files of a run: JSON, and arrays from which a run goes on; each is whole or not there (`files.atomic_files`)."""

import json
import random
import zipfile

import numpy as np

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
        raise UserError("is no saved point (%s); start anew with --overwrite" % error, path=path)


def numbered(prefix, weights):
    """Dict `prefix/0000` -> array."""
    return {"%s/%04d" % (prefix, i): w for i, w in enumerate(weights)}


def from_numbered(prefix, arrays):
    """The list that `numbered` took."""
    names = sorted(name for name in arrays if name.startswith(prefix + "/"))
    return [arrays[name] for name in names]


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
