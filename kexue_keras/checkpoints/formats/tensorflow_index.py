"""The index of a TensorFlow checkpoint, read and checked before TensorFlow sees it.

TensorFlow's own reader ends the whole process when an entry of the index is none, and makes room for whatever size an
entry claims. The index is a table of sorted keys in blocks with checksums (LevelDB's), each value a small protocol
buffer: type, shape, and where in the data file the numbers are. Here every block, entry, shape and place is checked.

Format: tensorflow/core/util/tensor_bundle, tensorflow/core/lib/io/table.
"""

import collections
import os
import struct

import tensorflow as tf
from tensorflow.core.protobuf import tensor_bundle_pb2

from kexue_keras.checkpoints.formats.protobuf_message import parse_message
from kexue_keras.errors import WeightsError, shorten
from kexue_keras.files.paths import check_regular

Entry = collections.namedtuple("Entry", "shape dtype")

_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_FOOTER = 48
# A BERT with its optimizer's slots has 60 kB.
_LARGEST = 2**23
_LONGEST_KEY = 1000


class _Damaged(Exception):
    pass


def read_index(prefix):
    """What variables a checkpoint has; nothing is read but the index.

    Args:
        prefix: str, path without `.index` and `.data-00000-of-00001`.

    Returns:
        dict name -> `Entry` (shape, a tuple; dtype, its name in TensorFlow).

    Raises:
        WeightsError: the index is cut short, damaged or none, or speaks of bytes that the data files do not have.
    """
    path = prefix + ".index"
    check_regular(path)
    try:
        size = os.path.getsize(path)
        if size > _LARGEST:
            raise _Damaged("it has %d bytes; that of a model has some thousand" % size)
        with open(path, "rb") as handle:
            content = handle.read(size)
        entries = collections.OrderedDict(_table(content))
        header = _parsed(tensor_bundle_pb2.BundleHeaderProto, entries.pop(b"", None))
        if header.endianness != header.LITTLE:
            raise _Damaged("its numbers are in big-endian order")
        files = _DataFiles(prefix, header.num_shards)
        found = {}
        for key, value in entries.items():
            entry = _parsed(tensor_bundle_pb2.BundleEntryProto, value)
            # The parts of a variable that was saved in parts have keys of their own; TensorFlow puts them together.
            name = None if key.startswith(b"\0") else _text(key)
            shape, dtype = _checked(entry, name or "a part of a variable", files)
            if name is not None:
                found[name] = Entry(shape, dtype)
    except _Damaged as error:
        raise WeightsError(
            "%s is no readable index of a TensorFlow checkpoint: %s; nothing was loaded. Copy or download it again."
            % (path, error)
        )
    except OSError as error:
        raise WeightsError("%s cannot be read: %s" % (path, error.strerror))
    return found


class _DataFiles(object):
    """Sizes of the data files, each asked for once."""

    def __init__(self, prefix, shards):
        self.prefix, self.shards, self.sizes = prefix, shards, {}

    def size(self, shard):
        if shard not in self.sizes:
            if not 0 <= shard < self.shards:
                raise _Damaged("it speaks of data file %d of %d" % (shard, self.shards))
            path = "%s.data-%05d-of-%05d" % (self.prefix, shard, self.shards)
            check_regular(path)
            self.sizes[shard] = os.path.getsize(path)
        return self.sizes[shard]


def _checked(entry, name, files):
    try:
        dtype = tf.dtypes.as_dtype(entry.dtype)
        width = dtype.size or 0
        # References to variables, which no file holds, have numbers of their own from 101.
        known = entry.dtype < 100
    except (TypeError, KeyError, ValueError):
        known = False
    if not known:
        raise _Damaged("%s has the unknown type %d" % (name, entry.dtype))
    shape = tuple(dim.size for dim in entry.shape.dim)
    count = 1
    for n in shape:
        count = count * n if n >= 0 and 0 <= count < 2**48 else -1
    if entry.shape.unknown_rank or len(shape) > 64 or not 0 <= count < 2**48:
        raise _Damaged("%s has the impossible shape %s" % (name, shorten(shape)))
    if entry.slices:
        room = sum(files.size(i) for i in range(min(files.shards, 1000)))
        extents = [[(e.start, e.length) for e in part.extent] for part in entry.slices]
        if count * width > room or any(len(extent) != len(shape) for extent in extents):
            raise _Damaged("%s is in parts that do not make it up" % name)
        inside = all(0 <= a and 0 <= n and a + n <= size for e in extents for (a, n), size in zip(e, shape))
        if not inside:
            raise _Damaged("%s has a part that lies outside of it" % name)
        if len(set(map(str, extents))) < len(extents):
            raise _Damaged("%s has a part twice" % name)
        return shape, dtype.name
    if entry.offset < 0 or entry.size < 0 or entry.offset + entry.size > files.size(entry.shard_id):
        raise _Damaged(
            "%s lies outside of the %d bytes that its data file has; that was cut short"
            % (name, files.size(entry.shard_id))
        )
    if dtype != tf.string and dtype.is_numpy_compatible and count * width != entry.size:
        raise _Damaged("%s has the shape %s, but %d bytes" % (name, shape, entry.size))
    return shape, dtype.name


def _parsed(message_class, value):
    if value is None:
        raise _Damaged("it has no header")
    message = parse_message(message_class, value)
    if message is None:
        raise _Damaged("an entry is none")
    return message


def _text(key):
    try:
        return key.decode("utf-8")
    except UnicodeDecodeError:
        raise _Damaged("a variable has a name that is not UTF-8")


def _table(content):
    """Pairs of key and value in the order of the keys, bytes both."""
    if len(content) < _FOOTER or content[-8:] != _MAGIC:
        raise _Damaged("it was cut short or is something else")
    handles, last = content[-_FOOTER:-8], None
    _, handles = _handle(handles)
    place, _ = _handle(handles)
    budget, end = 8 * _LARGEST, 0
    for _, value in _entries(_block(content, place)):
        block, _ = _handle(value)
        if block[0] < end:
            raise _Damaged("its blocks overlap")
        end = sum(block)
        for key, value in _entries(_block(content, block)):
            budget -= len(key)
            if (last is not None and key <= last) or budget < 0:
                raise _Damaged("its names are not in order")
            last = key
            yield key, value


def _block(content, place):
    offset, size = place
    if offset + size + 5 > len(content):
        raise _Damaged("a block lies outside of it")
    checked = content[offset : offset + size + 1]
    if checked[-1]:
        raise _Damaged("it is compressed, as TensorFlow's before 1.0 were")
    (expected,) = struct.unpack("<I", content[offset + size + 1 : offset + size + 5])
    crc = _crc32c(checked)
    if ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF != expected:
        raise _Damaged("a checksum differs")
    return checked[:-1]


def _entries(block):
    if len(block) < 4:
        raise _Damaged("a block is too short")
    (restarts,) = struct.unpack("<I", block[-4:])
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise _Damaged("a block is too short")
    points = struct.unpack("<%dI" % restarts, block[end:-4])
    if any(a >= b for a, b in zip(points, points[1:])) or any(point > end for point in points):
        raise _Damaged("a block is out of order")
    place, key = 0, b""
    while place < end:
        (shared, place), (rest, place), (length, place) = _three(block, place, end)
        if shared > len(key) or place + rest + length > end or shared + rest > _LONGEST_KEY:
            raise _Damaged("an entry lies outside of its block")
        key = key[:shared] + block[place : place + rest]
        yield key, block[place + rest : place + rest + length]
        place += rest + length


def _three(block, place, end):
    found = []
    for _ in range(3):
        value, place = _varint(block, place, end)
        found.append((value, place))
    return found


def _handle(content):
    offset, place = _varint(content, 0, len(content))
    size, place = _varint(content, place, len(content))
    return (offset, size), content[place:]


def _varint(content, place, end):
    value = 0
    for shift in range(0, 64, 7):
        if place >= end:
            break
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise _Damaged("a number in it has no end")


def _crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82F63B78 if n & 1 else 0)
        table.append(n)
    return table


_CRC = _crc_table()


def _crc32c(content):
    crc, table = 0xFFFFFFFF, _CRC
    for byte in content:
        crc = table[(crc ^ byte) & 255] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
