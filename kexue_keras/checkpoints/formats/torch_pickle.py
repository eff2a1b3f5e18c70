"""The pickle in pytorch_model.bin, read without executing anything and without being kept busy.

A pickle is a program for a small machine. It can name any function to be called, set attributes of what it was
given, and in a few hundred bytes build things that take hours to hash or to print (tuples of tuples of tuples, each
twice in the next) or numbers of a million digits. So this machine knows only the instructions that `torch.save` writes
for a dict of tensors; the few names that tensors need stand for objects that nobody can change; keys are texts and
small numbers; errors name the type of what is wrong, never its contents; and there is a limit to the instructions.
"""

import collections
import pickle

from kexue_keras.errors import shorten

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
# A tensor takes about 60 reads of 300 bytes in all; the largest published models have some thousands of tensors.
_MOST_READS = 500000
_MOST_BYTES = 2**26
_LONGEST_TEXT = 2**20
_MOST_DIMENSIONS = 64

Storage = collections.namedtuple("Storage", "dtype key")
Tensor = collections.namedtuple("Tensor", "storage offset shape strides")


class Refused(Exception):
    """What is wrong with the file, in words that follow 'it is not read: '."""


class _Name(object):
    """What a name in a pickle stands for; it has no attributes that a pickle could set."""

    __slots__ = ()


class _StorageType(_Name):
    __slots__ = ("dtype",)

    def __init__(self, dtype):
        object.__setattr__(self, "dtype", dtype)

    def __setattr__(self, name, value):
        raise AttributeError("a name in a pickle is not to be changed")


class _OrderedDict(_Name):
    __slots__ = ()


class _RebuildTensor(_Name):
    __slots__ = ()


class _RebuildParameter(_Name):
    __slots__ = ()


_NAMES = {
    ("collections", "OrderedDict"): _OrderedDict(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
}
_NAMES.update({("torch", name): _StorageType(dtype) for name, dtype in _STORAGES.items()})


class Bounded(object):
    """A file of which no more can be asked for than it has, and not without end.

    Args:
        handle: binary file.
        size: int, its bytes.
    """

    def __init__(self, handle, size):
        self.handle, self.size, self.reads, self.bytes = handle, size, _MOST_READS, _MOST_BYTES

    def spend(self, count, size=0):
        """Count work and bytes; raises `Refused` when it is too much."""
        self.reads -= count
        self.bytes -= size
        if self.reads < 0 or self.bytes < 0:
            raise Refused("its pickle has more instructions than any model's weights need")

    def read(self, count):
        """At most `count` bytes, at most what is left."""
        self.spend(1, count)
        if count > _LONGEST_TEXT:
            raise Refused("its pickle has a text of %d bytes" % count)
        return self.handle.read(max(0, min(count, self.size - self.handle.tell())))

    def readline(self):
        """A line of at most 1000 bytes: names are not longer."""
        self.spend(1, 1000)
        return self.handle.readline(1000)


# The C unpickler makes room for as many results as a pickle claims to have; the one in Python does not.
class Unpickler(pickle._Unpickler):
    """Reads one pickle from a `Bounded` file.

    Attributes:
        dtypes: dict key of a storage -> dtype of its numbers, of all storages that the pickle refers to.
    """

    def __init__(self, file):
        super(Unpickler, self).__init__(file)
        self.file, self.dtypes = file, {}

    def read_one(self):
        """What the pickle holds: dict, list, tuple, str, number, `Tensor`.

        Raises:
            Refused: it is damaged, or more than weights need.
        """
        try:
            return self.load()
        except Refused:
            raise
        except RecursionError:
            raise Refused("its pickle is damaged")
        except Exception as error:  # a damaged pickle can fail in any way
            raise Refused("its pickle is damaged (%s: %s)" % (type(error).__name__, shorten(error, 80)))

    def find_class(self, module, name):
        found = _NAMES.get((module, name))
        if found is None:
            named = shorten(ascii("%s.%s" % (module, name))[1:-1], 80)
            raise Refused("its pickle names %s; only tensors in a dict are read" % named)
        return found

    def persistent_load(self, saved):
        sound = type(saved) is tuple and 3 <= len(saved) <= 8 and _is_text(saved[0], "storage")
        sound = sound and type(saved[1]) is _StorageType and type(saved[2]) in (str, int)
        if not sound:
            raise Refused("its pickle refers to a %s where a storage was expected" % type(saved).__name__)
        if len(saved) > 5 and saved[5] is not None:
            raise Refused("its pickle refers to a part of a storage, as PyTorch did before 0.4")
        storage = Storage(saved[1].dtype, str(saved[2]))
        self.dtypes[storage.key] = storage.dtype
        return storage

    def _load_frame(self):
        # Frames only say how much can be read at once.
        self.read(8)

    def _load_long1(self):
        size = self.read(1)[0]
        # The longest number is the magic one at the beginning of an old file, 10 bytes.
        if size > 16:
            raise Refused("its pickle has a number of %d bytes" % size)
        self.append(int.from_bytes(self.read(size), "little", signed=True))

    def _load_setitem(self):
        value, key = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [key, value])

    def _load_setitems(self):
        items = self.pop_mark()
        self._set(self.stack[-1], items)

    def _set(self, target, items):
        if type(target) is not dict:
            raise Refused("its pickle sets items of a %s" % type(target).__name__)
        for key, value in zip(items[::2], items[1::2]):
            target[_checked_key(key)] = value

    def _load_append(self):
        value = self.stack.pop()
        self._extend([value])

    def _load_appends(self):
        self._extend(self.pop_mark())

    def _extend(self, values):
        target = self.stack[-1]
        if type(target) is not list:
            raise Refused("its pickle appends to a %s" % type(target).__name__)
        target.extend(values)

    def _load_build(self):
        self.stack.pop()
        # A state dict carries `_metadata` as an attribute; it says nothing about the weights.
        if type(self.stack[-1]) is not dict:
            raise Refused("its pickle sets attributes of a %s" % type(self.stack[-1]).__name__)

    def _load_reduce(self):
        arguments, name = self.stack.pop(), self.stack[-1]
        if not isinstance(name, _Name) or type(name) is _StorageType or type(arguments) is not tuple:
            raise Refused("its pickle calls a %s" % type(name).__name__)
        self.stack[-1] = _CALLS[type(name)](self, *arguments[:8])

    def _ordered_dict(self, items=(), *_):
        if type(items) not in (list, tuple):
            raise Refused("its pickle makes a dict from a %s" % type(items).__name__)
        # The same list can be named again and again.
        self.file.spend(len(items))
        found = {}
        for item in items:
            if type(item) not in (list, tuple) or len(item) != 2:
                raise Refused("its pickle makes a dict from what are no pairs")
            found[_checked_key(item[0])] = item[1]
        return found

    def _tensor(self, storage, offset, shape, strides, *_):
        for numbers in (shape, strides, (offset,)):
            few = type(numbers) is tuple and len(numbers) <= _MOST_DIMENSIONS
            if not few or not all(type(n) is int for n in numbers):
                raise Refused("its pickle has a tensor whose offset, shape or strides are no whole numbers")
        if type(storage) is not Storage:
            raise Refused("its pickle has a tensor without a storage")
        return Tensor(storage, offset, shape, strides)

    def _parameter(self, tensor, *_):
        return tensor


def _is_text(thing, text):
    return type(thing) is str and thing == text


def _checked_key(key):
    if type(key) not in (str, int, bool, float, type(None)):
        raise Refused("its pickle has a %s as key of a dict" % type(key).__name__)
    return key


class _Instructions(dict):
    def __missing__(self, code):
        raise Refused("its pickle has the instruction %r, which no weights need" % chr(code))


_CALLS = {
    _OrderedDict: Unpickler._ordered_dict,
    _RebuildTensor: Unpickler._tensor,
    _RebuildParameter: Unpickler._parameter,
}
_AS_THEY_ARE = (
    "PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 BINFLOAT BINUNICODE SHORT_BINUNICODE BINSTRING "
    "SHORT_BINSTRING EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 BINPUT LONG_BINPUT MEMOIZE BINGET "
    "LONG_BINGET BINPERSID GLOBAL STACK_GLOBAL"
).split()
Unpickler.dispatch = _Instructions(
    {getattr(pickle, n)[0]: Unpickler.dispatch[getattr(pickle, n)[0]] for n in _AS_THEY_ARE}
)
Unpickler.dispatch.update(
    {
        pickle.FRAME[0]: Unpickler._load_frame,
        pickle.LONG1[0]: Unpickler._load_long1,
        pickle.SETITEM[0]: Unpickler._load_setitem,
        pickle.SETITEMS[0]: Unpickler._load_setitems,
        pickle.APPEND[0]: Unpickler._load_append,
        pickle.APPENDS[0]: Unpickler._load_appends,
        pickle.BUILD[0]: Unpickler._load_build,
        pickle.REDUCE[0]: Unpickler._load_reduce,
    }
)
