"""Weights in the safetensors format, checked and written by the library of that name.

The library checks lengths, offsets and shapes before anything is read, so a false header costs nothing. Here its
errors get a file name and a reason, and bfloat16, which numpy does not have, is read too.

Reference: https://github.com/huggingface/safetensors.
"""

import json
import os
import re
import struct

import numpy as np

from kexue_keras.checkpoints._variables import Variables
from kexue_keras.errors import WeightsError, shorten
from kexue_keras.files import atomic_path
from kexue_keras.files.paths import check_regular

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
# The library's words from version 0.6 on.
_NEW_WORDS = {
    "HeaderTooSmall": "header too small",
    "HeaderTooLarge": "header too large",
    "InvalidHeaderLength": "invalid header length",
    "InvalidHeaderStart": "invalid start character",
    "InvalidHeaderDeserialization": "invalid JSON in header",
    "InvalidHeader": "invalid UTF-8 in header",
    "MetadataIncompleteBuffer": "incomplete metadata",
    "InvalidOffset": "invalid offset for tensor",
    "TensorInvalidInfo": "invalid shape, data type, or offset",
    "ValidationOverflow": "overflow computing buffer size",
}
_REASONS.update({new: _REASONS[old] for old, new in _NEW_WORDS.items()})
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"}
_DTYPES.update({"%s%d" % (sign.upper(), 8 * n): "<%s%d" % (sign, n) for sign in "iu" for n in (1, 2, 4, 8)})
_LONGEST_HEADER = 5 * 10**6


def read_safetensors(path):
    """`Variables` of a safetensors file; half precision comes as float32, other types as they are.

    Args:
        path: str.

    Returns:
        `Variables`; arrays are read one by one, when they are asked for.

    Raises:
        WeightsError: the file is truncated, its header is false (overlapping or huge offsets, wrong shapes), or
            a number format is unknown here.

    Reference: https://huggingface.co/docs/safetensors.

    >>> import os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'x.safetensors')
    >>> write_safetensors(path, {'a': np.arange(3, dtype='float32')})
    >>> read_safetensors(path)['a']
    array([0., 1., 2.], dtype=float32)
    """
    check_regular(path)
    _check_with_library(path)
    start, header = _header(path)
    entries = {}
    for name in sorted(header):
        if name != "__metadata__":
            entry = header[name]
            shape = tuple(entry["shape"])
            entries[name] = (shape, lambda n=name, e=entry, s=shape: _read(path, start, n, e, s))
    return Variables(path, entries)


def write_safetensors(path, arrays):
    """Write a dict name -> array; the file appears under its name when it is complete.

    Args:
        path: str.
        arrays: dict name -> numpy array.

    Raises:
        OSError: a full disk and the like; the file is not there then, or as before.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with atomic_path(path) as temporary:
        try:
            save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, temporary, metadata={"format": "pt"})
        except SafetensorError as error:
            # A full disk is an error of the library's own there.
            number = re.search(r"os error (\d+)|code: (\d+)", str(error))
            reason = os.strerror(int(number.group(1) or number.group(2))) if number else str(error)
            raise OSError("%s cannot be written: %s" % (os.path.basename(path), reason))


def _check_with_library(path):
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError:
        raise ImportError("reading %s needs the package safetensors: pip install 'safetensors>=0.4,<0.6'" % path)
    try:
        with safe_open(path, framework="numpy"):
            return
    except (SafetensorError, OSError, ValueError) as error:
        said = str(error)
        reason = next((text for word, text in _REASONS.items() if word in said), shorten(said, 120))
        raise WeightsError(
            "%s is no sound safetensors file: %s; nothing was loaded. Download it again." % (path, reason)
        )


def _header(path):
    """(where the numbers begin, the header) of a file that the library has found sound.

    The library goes through the whole header for each name that it is asked for, which takes minutes where there are
    many; here it is gone through once.
    """
    with open(path, "rb") as handle:
        (length,) = struct.unpack("<Q", handle.read(8))
        if length > _LONGEST_HEADER:
            raise WeightsError(
                "%s has a header of %d bytes; that of a model has some ten thousand. Nothing was loaded"
                % (path, length)
            )
        return 8 + length, json.loads(handle.read(length).decode("utf-8"))


def _read(path, start, name, entry, shape):
    dtype = entry["dtype"]
    if dtype not in _DTYPES:
        raise WeightsError(
            "%s: %s is stored as %s, which numpy does not have; store it as F32, F16 or BF16" % (path, name, dtype)
        )
    first, last = entry["data_offsets"]
    try:
        with open(path, "rb") as handle:
            handle.seek(start + first)
            value = np.frombuffer(handle.read(last - first), _DTYPES[dtype]).reshape(shape)
    except (OSError, ValueError, OverflowError) as error:
        raise WeightsError("%s: %s has the impossible shape %s: %s" % (path, name, shape, error))
    if dtype == "BF16":
        # The upper half of a float32.
        return (value.astype("uint32") << 16).view("float32")
    return value.astype("float32") if dtype == "F16" else value
