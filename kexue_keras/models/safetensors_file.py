"""Weights in the safetensors format, read and written by the library of that name.

The library checks lengths, offsets and shapes before anything is read and maps the file into memory, so a header that
lies costs nothing. Here its errors get a file name and a reason, and bfloat16, which numpy does not have, is read too.

Reference: https://github.com/huggingface/safetensors.
"""

import json
import os
import struct

import numpy as np

from kexue_keras.errors import WeightsError, shorten
from kexue_keras.files.paths import check_regular
from kexue_keras.models.variables import Variables

# What the library's words for a broken file mean.
_REASONS = {
    "HeaderTooSmall": "it is shorter than the 8 bytes with the length of its header; it was cut short",
    "HeaderTooLarge": "it claims a header of more than 100 MB",
    "InvalidHeaderLength": "it claims a header longer than the file; it was cut short, or is no safetensors file",
    "InvalidHeaderStart": "its header does not begin with {",
    "InvalidHeaderDeserialization": "its header is not the JSON that the format asks for",
    "InvalidHeader": "its header is no text",
    "MetadataIncompleteBuffer": "its header describes more or fewer bytes than the file has; it was cut short",
    "InvalidOffset": "the offsets in its header overlap, leave a gap or lie outside of the file",
    "TensorInvalidInfo": "a shape in its header does not go with the number of bytes",
    "ValidationOverflow": "a shape in its header is too large for any computer",
}


def read_safetensors(path):
    """`Variables` of a safetensors file; half precision comes as float32, what is no number of that kind as it is.

    Args:
        path: str.

    Returns:
        `Variables`; arrays are read one by one, when they are asked for.

    Raises:
        WeightsError: the file is cut short, its header lies (overlapping or huge offsets, shapes that do not fit), or
            a number format is unknown here.

    Reference: https://huggingface.co/docs/safetensors.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'x.safetensors')
    >>> write_safetensors(path, {'a': np.arange(3, dtype='float32')})
    >>> read_safetensors(path)['a']
    array([0., 1., 2.], dtype=float32)
    """
    names, types = {}, {}
    with _opened(path) as file:
        for name in file.keys():
            part = file.get_slice(name)
            types[name], names[name] = part.get_dtype(), tuple(part.get_shape())
    entries = {n: (names[n], lambda n=n: _read(path, n, types[n], names[n])) for n in sorted(names)}
    return Variables(path, entries)


def write_safetensors(path, arrays):
    """Write a dict name -> array; the file appears under its name when it is complete.

    Args:
        path: str.
        arrays: dict name -> numpy array.
    """
    from safetensors.numpy import save_file

    save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, path + ".part", metadata={"format": "pt"})
    os.replace(path + ".part", path)


def _opened(path):
    check_regular(path)
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ImportError("reading %s needs the package safetensors: pip install 'safetensors>=0.4,<0.6'" % path)
    try:
        return safe_open(path, framework="numpy")
    except (SafetensorError, OSError, ValueError) as error:
        said = str(error)
        reason = next((text for word, text in _REASONS.items() if word in said), shorten(said, 120))
        raise WeightsError(
            "%s is no sound safetensors file: %s; nothing was loaded. Download it again." % (path, reason)
        )


def _read(path, name, kind, shape):
    if kind == "BF16":
        # The upper half of a float32.
        return (_bytes(path, name).view("<u2").astype("uint32") << 16).view("float32").reshape(shape)
    try:
        with _opened(path) as file:
            value = file.get_tensor(name)
    except (AttributeError, TypeError, KeyError):
        raise WeightsError(
            "%s: %s is stored as %s, which numpy does not have; store it as F32, F16 or BF16" % (path, name, kind)
        )
    except ValueError as error:
        raise WeightsError("%s: %s has the impossible shape %s: %s" % (path, name, shape, error))
    return value.astype("float32") if value.dtype == np.float16 else value


def _bytes(path, name):
    """The bytes of a tensor in a file that `_opened` has found sound."""
    with open(path, "rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        first, last = json.loads(handle.read(length).decode("utf-8"))[name]["data_offsets"]
        handle.seek(8 + length + first)
        return np.frombuffer(handle.read(last - first), "uint8")
