"""pytorch_model.bin without PyTorch and without executing what is pickled in it.

The file is a pickle, which says what tensors there are (`torch_pickle.py`), and their bytes, in a zip archive since
PyTorch 1.6.
"""

import io
import os
import struct
import zipfile

import numpy as np

from kexue_keras.checkpoints._variables import Variables
from kexue_keras.checkpoints.formats.torch_pickle import Bounded, Refused, Storage, Tensor, Unpickler
from kexue_keras.errors import WeightsError, shorten
from kexue_keras.files.paths import check_regular

# What the zip archive of a damaged or malicious file can raise: names that are not UTF-8 (ValueError), entries that are
# encrypted (RuntimeError) or packed in unknown ways (NotImplementedError), places outside of the file.
_ZIP_ERRORS = (zipfile.BadZipFile, ValueError, RuntimeError, OSError, EOFError, KeyError, OverflowError, struct.error)
_LARGEST_PICKLE = 2**26


def read_torch(path):
    """`Variables` of a file that `torch.save` wrote from a dict of tensors, in its zip format or the one before 1.6.

    Args:
        path: str.

    Returns:
        `Variables`; arrays are read one by one, when they are asked for. Half precision comes as float32.

    Raises:
        WeightsError: the pickle names anything but tensors, or the file is cut short or damaged.
    """
    check_regular(path)
    try:
        with open(path, "rb") as handle:
            old = handle.read(1) == b"\x80"
        tensors, sizes, read = (_open_old if old else _open_zip)(path)
        for name, tensor in tensors.items():
            _check(name, tensor, sizes)
    except Refused as error:
        raise WeightsError("%s is not read: %s; nothing was loaded" % (path, error))
    except _ZIP_ERRORS as error:
        raise WeightsError(
            "%s is no file of PyTorch or was cut short: %s; nothing was loaded. Download it again."
            % (path, shorten(error, 120))
        )
    entries = {n: (t.shape, lambda n=n, t=t: _read(path, n, t, read)) for n, t in tensors.items()}
    return Variables(path, entries)


def _open_zip(path):
    """Tensors, how many bytes each storage has, and a function that reads one."""
    with zipfile.ZipFile(path) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        listing = [name for name in infos if name.endswith("data.pkl")]
        if len(listing) != 1:
            raise Refused("it has %d entries called data.pkl instead of one" % len(listing))
        whole = os.path.getsize(path)
        for info in infos.values():
            # What torch.save writes is stored as it is; a compressed entry could blow up when read.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > whole:
                raise Refused("its entry %s is compressed or larger than the file" % _shown(info.filename))
            if info.flag_bits & 0x2041:
                raise Refused("its entry %s is encrypted" % _shown(info.filename))
        size = infos[listing[0]].file_size
        if size > _LARGEST_PICKLE:
            raise Refused("its pickle has %d bytes; that of a model has some hundred thousand" % size)
        tensors = _tensors(Unpickler(Bounded(io.BytesIO(archive.read(listing[0])), size)).read_one())
        folder = listing[0][: -len("data.pkl")]
        if folder + "byteorder" in infos and archive.read(folder + "byteorder") != b"little":
            raise Refused("its numbers are in big-endian order")

    def read(key):
        with zipfile.ZipFile(path) as archive:
            return archive.read(folder + "data/" + key)

    start = len(folder + "data/")
    sizes = {name[start:]: i.file_size for name, i in infos.items() if name.startswith(folder + "data/")}
    return tensors, sizes, read


def _open_old(path):
    """The same for the format before PyTorch 1.6: five pickles, then the storages one after the other."""
    whole = os.path.getsize(path)
    places = {}
    with open(path, "rb") as handle:
        reader = Bounded(handle, whole)
        magic = Unpickler(reader).read_one()
        if type(magic) is not int or magic != _MAGIC:
            raise Refused("it is a pickle, but none that torch.save wrote")
        _, system = Unpickler(reader).read_one(), Unpickler(reader).read_one()
        if type(system) is not dict:
            raise Refused("it is a pickle, but none that torch.save wrote")
        if system.get("little_endian", True) is not True:
            raise Refused("its numbers are in big-endian order")
        unpickler = Unpickler(reader)
        tensors = _tensors(unpickler.read_one())
        keys = Unpickler(reader).read_one()
        for key in keys if isinstance(keys, list) else ():
            if type(key) is not str or key not in unpickler.dtypes:
                raise Refused("it has a storage (%s) to which no tensor refers" % type(key).__name__)
            count = handle.read(8)
            size = int.from_bytes(count, "little", signed=True) * _width(unpickler.dtypes[key])
            if len(count) < 8 or not 0 <= size <= whole - handle.tell():
                raise Refused("it was cut short")
            places[key] = (handle.tell(), size)
            handle.seek(size, os.SEEK_CUR)

    def read(key):
        with open(path, "rb") as handle:
            handle.seek(places[key][0])
            return handle.read(places[key][1])

    return tensors, {key: size for key, (_, size) in places.items()}, read


_MAGIC = 0x1950A86A20F9469CFC6C


def _tensors(found):
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(n, str) for n in found):
        raise Refused("it holds a %s instead of a dict of tensors" % type(found).__name__)
    others = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if others:
        raise Refused("%s is no tensor; it is a training state, not weights" % _shown(others[0]))
    return dict(found)


def _shown(name):
    """A name from the file on one line, without what a terminal would obey."""
    return shorten(ascii(name)[1:-1], 80)


def _check(name, tensor, sizes):
    numbers = [tensor.offset, *tensor.shape, *tensor.strides]
    sound = isinstance(tensor.storage, Storage) and len(tensor.shape) == len(tensor.strides)
    sound = sound and all(isinstance(n, int) and 0 <= n < 2**48 for n in numbers)
    size = sizes.get(tensor.storage.key) if sound else None
    if size is not None:
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
        count, room = 1, 1
        for n in tensor.shape:
            count, room = count * n, room * max(n, 1)
        # Strides of 0 would let a small file claim a huge tensor; and numpy makes no empty one of any shape.
        if max(last + 1, count) * _width(tensor.storage.dtype) <= size if count else room < 2**48:
            return
    raise Refused(
        "%s (shape %s) lies outside of the bytes that it has; it was cut short" % (_shown(name), tensor.shape)
    )


def _width(dtype):
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize


def _read(path, name, tensor, read):
    try:
        content = read(tensor.storage.key)
    except _ZIP_ERRORS as error:
        raise WeightsError(
            "%s: %s cannot be read: %s. Download the file again." % (path, _shown(name), shorten(error, 120))
        )
    dtype = tensor.storage.dtype
    if dtype == "bfloat16":
        flat = (np.frombuffer(content, "<u2").astype("uint32") << 16).view("float32")
    else:
        flat = np.frombuffer(content[: len(content) // _width(dtype) * _width(dtype)], dtype)
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, flat.dtype)
    strides = [s * flat.itemsize for s in tensor.strides]
    value = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False).copy()
    return value.astype("float32") if value.dtype == np.float16 else value
