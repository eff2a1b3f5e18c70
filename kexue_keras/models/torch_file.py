"""pytorch_model.bin without PyTorch and without executing what is pickled in it.

The file is a pickle, which says what tensors there are, and their bytes, in a zip archive since PyTorch 1.6. A
pickle can name any function to be called; here the few names that tensors need stand for functions of this file, and
any other name is refused before anything is called.
"""

import collections
import io
import os
import pickle
import zipfile

import numpy as np

from kexue_keras.errors import WeightsError
from kexue_keras.models.variables import Variables

_STORAGES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
Storage = collections.namedtuple("Storage", "kind key")
Tensor = collections.namedtuple("Tensor", "storage offset shape strides")


class _Refused(Exception):
    pass


def read_torch(path):
    """`Variables` of a file that `torch.save` wrote from a dict of tensors, in its zip format or the one before 1.6.

    Args:
        path: str.

    Returns:
        `Variables`; arrays are read one by one, when they are asked for. Half precision comes as float32.

    Raises:
        WeightsError: the pickle names anything but tensors, or the file is cut short or damaged.
    """
    try:
        with open(path, "rb") as handle:
            old = handle.read(1) == b"\x80"
        tensors, sizes, read = (_open_old if old else _open_zip)(path)
        for name, tensor in tensors.items():
            _check(name, tensor, sizes)
    except zipfile.BadZipFile as error:
        raise WeightsError(
            "%s is no file of PyTorch or was cut short: %s; nothing was loaded. Download it again." % (path, error)
        )
    except _Refused as error:
        raise WeightsError("%s is not read: %s; nothing was loaded" % (path, error))
    entries = {n: (t.shape, lambda n=n, t=t: _read(path, n, t, read)) for n, t in tensors.items()}
    return Variables(path, entries)


def _open_zip(path):
    """Tensors, how many bytes each storage has, and a function that reads one."""
    with zipfile.ZipFile(path) as archive:
        infos = {info.filename: info for info in archive.infolist()}
        listing = [name for name in infos if name.endswith("data.pkl")]
        if len(listing) != 1:
            raise _Refused("it has %d entries called data.pkl instead of one" % len(listing))
        whole = os.path.getsize(path)
        for info in infos.values():
            # What torch.save writes is stored as it is; a compressed entry could blow up when read.
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > whole:
                raise _Refused("its entry %s is compressed or larger than the file" % info.filename)
        tensors = _tensors(_unpickled(_Unpickler(io.BytesIO(archive.read(listing[0])))))
        folder = listing[0][: -len("data.pkl")]
        if folder + "byteorder" in infos and archive.read(folder + "byteorder") != b"little":
            raise _Refused("its numbers are in big-endian order")

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
        reader = _Bounded(handle, whole)
        if _unpickled(_Unpickler(reader)) != _MAGIC:
            raise _Refused("it is a pickle, but none that torch.save wrote")
        _unpickled(_Unpickler(reader))
        if not _unpickled(_Unpickler(reader)).get("little_endian", True):
            raise _Refused("its numbers are in big-endian order")
        unpickler = _Unpickler(reader)
        tensors = _tensors(_unpickled(unpickler))
        keys = _unpickled(_Unpickler(reader))
        for key in keys if isinstance(keys, list) else ():
            if key not in unpickler.kinds:
                raise _Refused("it has the storage %.40r, which no tensor refers to" % (key,))
            count = handle.read(8)
            size = int.from_bytes(count, "little", signed=True) * _width(unpickler.kinds[key])
            if len(count) < 8 or not 0 <= size <= whole - handle.tell():
                raise _Refused("it was cut short")
            places[key] = (handle.tell(), size)
            handle.seek(size, os.SEEK_CUR)

    def read(key):
        with open(path, "rb") as handle:
            handle.seek(places[key][0])
            return handle.read(places[key][1])

    return tensors, {key: size for key, (_, size) in places.items()}, read


_MAGIC = 0x1950A86A20F9469CFC6C


class _Bounded(object):
    """A file of which no more can be asked for than it has, so that a length that lies takes no memory."""

    def __init__(self, handle, size):
        self.handle, self.size = handle, size
        self.readline = handle.readline

    def read(self, count):
        return self.handle.read(max(0, min(count, self.size - self.handle.tell())))


# The C unpickler makes room for as many results as a pickle claims to have; the one in Python does not.
class _Unpickler(pickle._Unpickler):
    def __init__(self, file):
        super(_Unpickler, self).__init__(file)
        self.kinds = {}

    def find_class(self, module, name):
        if module == "torch" and name in _STORAGES:
            return name
        allowed = {
            ("collections", "OrderedDict"): _ordered_dict,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): _parameter,
        }
        if (module, name) not in allowed:
            raise _Refused("its pickle names %s.%s; only tensors in a dict are read" % (module, name))
        return allowed[module, name]

    def get_extension(self, code):
        raise _Refused("its pickle uses the extension code %d" % code)

    def persistent_load(self, saved):
        if not (isinstance(saved, tuple) and len(saved) >= 3 and saved[0] == "storage" and saved[1] in _STORAGES):
            raise _Refused("its pickle refers to %.80r where a storage was expected" % (saved,))
        if len(saved) > 5 and saved[5] is not None:
            raise _Refused("its pickle refers to a part of a storage, as PyTorch did before 0.4")
        storage = Storage(_STORAGES[saved[1]], str(saved[2]))
        self.kinds[storage.key] = storage.kind
        return storage


class _Dict(dict):
    # A state dict carries `_metadata` as an attribute; it says nothing about the weights.
    def __setstate__(self, state):
        pass


def _ordered_dict(*items):
    return _Dict(*items)


def _tensor(storage, offset, shape, strides, *_):
    return Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor, *_):
    return tensor


def _unpickled(unpickler):
    try:
        return unpickler.load()
    except _Refused:
        raise
    except Exception as error:  # a damaged pickle can fail in any way
        raise _Refused("its pickle is damaged (%s: %s)" % (type(error).__name__, error))


def _tensors(found):
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(n, str) for n in found):
        raise _Refused("it holds a %s instead of a dict of tensors" % type(found).__name__)
    others = [name for name, value in found.items() if not isinstance(value, Tensor)]
    if others:
        raise _Refused("%s is no tensor; it is a training state, not weights" % others[0])
    return dict(found)


def _check(name, tensor, sizes):
    numbers = [tensor.offset, *tensor.shape, *tensor.strides]
    sound = isinstance(tensor.storage, Storage) and len(tensor.shape) == len(tensor.strides)
    sound = sound and all(isinstance(n, int) and 0 <= n < 2**48 for n in numbers)
    size = sizes.get(tensor.storage.key) if sound else None
    if size is not None:
        last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides))
        count = 1
        for n in tensor.shape:
            count *= n
        # Strides of 0 would let a small file claim a huge tensor.
        if count == 0 or max(last + 1, count) * _width(tensor.storage.kind) <= size:
            return
    raise _Refused("%s (shape %s) lies outside of the bytes that it has; it was cut short" % (name, tensor.shape))


def _width(kind):
    return 2 if kind == "bfloat16" else np.dtype(kind).itemsize


def _read(path, name, tensor, read):
    try:
        content = read(tensor.storage.key)
    except (zipfile.BadZipFile, OSError, EOFError) as error:
        raise WeightsError("%s: %s cannot be read: %s. Download the file again." % (path, name, error))
    kind = tensor.storage.kind
    if kind == "bfloat16":
        flat = (np.frombuffer(content, "<u2").astype("uint32") << 16).view("float32")
    else:
        flat = np.frombuffer(content[: len(content) // _width(kind) * _width(kind)], kind)
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, flat.dtype)
    strides = [s * flat.itemsize for s in tensor.strides]
    value = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.shape, strides, writeable=False).copy()
    return value.astype("float32") if value.dtype == np.float16 else value
