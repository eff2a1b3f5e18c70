"""Files that are either whole or not there, and the point from which a run goes on.

Everything is written to a temporary file in the same folder, forced to disk and then renamed; a kill at any moment
leaves the old file or the new one.
"""

import contextlib
import glob
import json
import os
import random

import numpy as np

from kexue_keras.data import UserError


@contextlib.contextmanager
def atomic(path, mode="wb"):
    """Open a file for writing that takes its name only when it is complete.

    Args:
        path: name in the end.
        mode: 'wb' or 'w' (UTF-8).

    Yields:
        file handle; its `name` is the temporary one.
    """
    temporary = "%s.%d.tmp" % (path, os.getpid())
    handle = open(temporary, mode, encoding=None if "b" in mode else "utf-8", newline=None if "b" in mode else "\n")
    try:
        with handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    _sync_folder(os.path.dirname(os.path.abspath(path)))


@contextlib.contextmanager
def atomic_path(path):
    """Like `atomic`, for writers that want a file name; the suffix is kept."""
    stem, suffix = os.path.splitext(path)
    temporary = "%s.%d.tmp%s" % (stem, os.getpid(), suffix)
    try:
        yield temporary
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    _sync_folder(os.path.dirname(os.path.abspath(path)))


def _sync_folder(folder):
    """Without it a crash of the machine may forget the renaming."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder):
    """Delete temporary files that a killed process left in `folder`."""
    for path in glob.glob(os.path.join(glob.escape(folder), "*.[0-9]*.tmp*")):
        os.remove(path)


def write_json(path, value):
    """Write JSON, atomically."""
    with atomic(path, "w") as handle:
        json.dump(value, handle, ensure_ascii=False, indent=1, sort_keys=True)
        handle.write("\n")


def save_arrays(path, arrays, meta=None):
    """Write a dict of arrays and a JSON-able `meta` into one .npz, atomically."""
    text = np.frombuffer(json.dumps(meta).encode(), "uint8")
    with atomic(path) as handle:
        np.savez(handle, __meta__=text, **arrays)


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
