"""The index of a TensorFlow checkpoint: what TensorFlow wrote is read, and any damage is an error, never the end."""

import os
import struct

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import outcome
from tensorflow.core.protobuf import tensor_bundle_pb2

from kexue_keras.backend import tf1
from kexue_keras.checkpoints._variables import read_tensorflow
from kexue_keras.checkpoints._write import write_tensorflow
from kexue_keras.checkpoints.formats.tensorflow_index import _crc32c, read_index
from kexue_keras.errors import WeightsError


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """(prefix, arrays) of a checkpoint that TensorFlow wrote, with an index of several blocks."""
    folder = tmp_path_factory.mktemp("index")
    rng = np.random.RandomState(1)
    arrays = {"bert/encoder/layer_%d/kernel/adam_m" % i: rng.normal(size=[2, i % 3]) for i in range(150)}
    arrays.update({"%03d/" % i + "long/" * 180: np.full([1], i, "float32") for i in range(320)})
    arrays.update({"x": np.float32(3), "half": np.ones(2, "float16"), "flag": np.array([True]), "n": np.arange(3)})
    write_tensorflow(str(folder / "model.ckpt"), arrays)
    return str(folder / "model.ckpt"), arrays


def test_what_tensorflow_wrote_is_read(sound):
    prefix, arrays = sound
    assert os.path.getsize(prefix + ".index") > 2**18  # the size of a block
    assert {n: list(e.shape) for n, e in read_index(prefix).items()} == dict(tf.train.list_variables(prefix))
    found = read_tensorflow(prefix)
    for name, value in arrays.items():
        np.testing.assert_array_equal(found[name], value)
    assert found["half"].dtype == np.float32


def test_a_variable_saved_in_parts_is_put_together(tmp_path):
    with tf.Graph().as_default(), tf1.Session() as session:
        value = np.arange(20, dtype="float32").reshape(10, 2)
        tf1.get_variable("x", initializer=value[:5])
        cut = tf1.fixed_size_partitioner(3)
        parts = tf1.get_variable("y", [10, 2], partitioner=cut, initializer=tf1.random_normal_initializer())
        session.run(tf1.global_variables_initializer())
        expected = session.run(tf.convert_to_tensor(parts))
        tf1.train.Saver().save(session, str(tmp_path / "model.ckpt"))
    found = read_tensorflow(str(tmp_path / "model.ckpt"))
    assert set(found) == {"x", "y"}
    np.testing.assert_array_equal(found["y"], expected)


def test_folders_with_characters_of_patterns(sound, tmp_path, monkeypatch):
    prefix, arrays = sound
    folder = tmp_path / "bert[base]*? \\x"
    folder.mkdir()
    for suffix in (".index", ".data-00000-of-00001"):
        os.symlink(prefix + suffix, str(folder / ("m[1]" + suffix)))
    np.testing.assert_array_equal(read_tensorflow(folder / "m[1]")["x"], arrays["x"])
    odd = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff")
    for suffix in (".index", ".data-00000-of-00001"):
        os.symlink(prefix + suffix, odd + suffix)
    np.testing.assert_array_equal(read_tensorflow(odd)["x"], arrays["x"])
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(read_tensorflow("m[1]")["x"], arrays["x"])


def test_what_are_no_numbers_is_named_when_it_is_asked_for(tmp_path):
    arrays = {"text": np.array([b"x"], dtype=object), "complex": np.array([1j]), "x": np.ones(2, "float32")}
    write_tensorflow(str(tmp_path / "m"), arrays)
    found = read_tensorflow(str(tmp_path / "m"))
    assert found["x"].tolist() == [1, 1]
    for name, dtype in (("text", "string"), ("complex", "complex128")):
        with pytest.raises(WeightsError, match="m: %s holds values of the type %s, no weights" % (name, dtype)):
            found[name]


def varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def block(entries):
    content = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in entries)
    content += struct.pack("<II", 0, 1) + b"\0"
    crc = _crc32c(content)
    return content + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def write_index(path, entries, header=None):
    """An index by hand: one block, sound checksums, whatever entries."""
    if header is None:
        header = tensor_bundle_pb2.BundleHeaderProto(num_shards=1).SerializeToString()
    data = block([(b"", header)] + entries)
    listing = block([(b"\xff", varint(0) + varint(len(data) - 5))])
    empty = block([])
    handles = varint(len(data) + len(listing)) + varint(len(empty) - 5) + varint(len(data)) + varint(len(listing) - 5)
    footer = handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    with open(str(path) + ".index", "wb") as handle:
        handle.write(data + listing + empty + footer)
    with open(str(path) + ".data-00000-of-00001", "wb") as handle:
        handle.write(b"\0" * 64)
    return str(path)


def entry(shape=(2,), dtype=1, **fields):
    made = tensor_bundle_pb2.BundleEntryProto(dtype=dtype, **dict({"size": 8}, **fields))
    for n in shape:
        made.shape.dim.add(size=n)
    return made.SerializeToString()


@pytest.mark.parametrize(
    "entries, message",
    [
        ([(b"x", b"\xff\xff\xff")], "an entry is none"),
        ([(b"x", entry(dtype=77))], "x has the unknown type 77"),
        ([(b"x", entry(dtype=101))], "x has the unknown type 101"),
        ([(b"x", entry([-2]))], "x has the impossible shape"),
        ([(b"x", entry([2**40, 2**40]))], "x has the impossible shape"),
        ([(b"x", entry([2**40], size=2**42))], "x lies outside of the 64 bytes"),
        ([(b"x", entry(offset=60))], "x lies outside"),
        ([(b"x", entry(offset=-8))], "x lies outside"),
        ([(b"x", entry([2**30]))], "x has the shape .1073741824,., but 8 bytes"),
        ([(b"x", entry(shard_id=3))], "data file 3 of 1"),
        ([(b"y", entry()), (b"x", entry())], "names are not in order"),
        ([(b"x", entry()), (b"x", entry())], "names are not in order"),
        ([(b"\xff\xfe", entry())], "name that is not UTF-8"),
        ([(b"x\x1b[2J", entry())], "variable of the name 'x.x1b.2J'|x1b"),
        ([(b"x" * 2000, entry())], "lies outside of its block"),
    ],
)
def test_entries_that_lie_are_named(tmp_path, entries, message):
    path = write_index(tmp_path / "m", entries)
    with pytest.raises(WeightsError, match=message):
        read_tensorflow(path)


def test_a_small_index_by_hand_is_read_by_tensorflow_too(tmp_path):
    path = write_index(tmp_path / "m", [(b"x", entry())])
    assert read_index(path)["x"].shape == (2,) and tf.train.list_variables(path) == [("x", [2])]
    for header, message in (
        (b"\xff", "an entry is none"),
        (b"", "data file 0 of 0"),
        (b"\x08\x01\x10\x01", "big-endian"),
    ):
        with pytest.raises(WeightsError, match=message):
            read_index(write_index(tmp_path / "m", [(b"x", entry())], header))


@pytest.mark.usefixtures("fork")
def test_keys_that_repeat_each_other_take_no_memory(tmp_path):
    long = b"x" * 900
    entries = (
        b"\0"
        + varint(len(long))
        + b"\0"
        + long
        + b"".join(b"\x87\x07\x01\0" + bytes([i % 256]) for i in range(10**5))
    )
    content = entries + struct.pack("<II", 0, 1) + b"\0"
    crc = _crc32c(content)
    data = content + struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
    listing = block([(b"\xff", varint(0) + varint(len(data) - 5))])
    handles = varint(0) + varint(len(data) - 5) + varint(len(data)) + varint(len(listing) - 5)
    content = data + listing + handles.ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)
    (tmp_path / "m.index").write_bytes(content)
    assert outcome(read_index, str(tmp_path / "m")).startswith("WeightsError: ")


def test_a_cut_index_is_named_wherever_it_is_cut(sound, tmp_path):
    content = open(sound[0] + ".index", "rb").read()
    os.symlink(sound[0] + ".data-00000-of-00001", str(tmp_path / "m.data-00000-of-00001"))
    for length in list(range(0, 100)) + list(range(100, len(content), 9973)) + [len(content) - 1]:
        (tmp_path / "m.index").write_bytes(content[:length])
        with pytest.raises(WeightsError, match="m.index is no readable index of a TensorFlow checkpoint"):
            read_tensorflow(str(tmp_path / "m"))
    (tmp_path / "m.index").write_bytes(content)
    (tmp_path / "m.data-00000-of-00001").unlink()
    (tmp_path / "m.data-00000-of-00001").write_bytes(b"\0" * 100)
    with pytest.raises(WeightsError, match="lies outside of the 100 bytes that its data file has; that was cut short"):
        read_tensorflow(str(tmp_path / "m"))


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=5),
    st.integers(0, 10**6),
    st.booleans(),
)
def test_whatever_is_in_the_index_it_is_read_or_refused(tmp_path_factory, changes, length, checksum):
    """Also behind sound checksums, where a byte of an entry is changed."""
    folder = tmp_path_factory.getbasetemp()
    good = [(b"a/kernel", entry([2, 3], size=24)), (b"b", entry([4], offset=24, size=16)), (b"c", entry([], size=4))]
    if checksum:
        changed = []
        for place, (key, value) in enumerate(good):
            content = bytearray(value)
            for where, byte in changes:
                if where % 3 == place:
                    content[where % len(content)] = byte
            changed.append((key, bytes(content)))
        path = write_index(folder / "fuzz", changed)
    else:
        path = write_index(folder / "fuzz", good)
        with open(path + ".index", "rb") as handle:
            content = bytearray(handle.read())
        for where, byte in changes:
            content[where % len(content)] = byte
        with open(path + ".index", "wb") as handle:
            handle.write(content[: length % len(content)] if length % 3 == 0 else content)
    try:
        found = read_tensorflow(path)
        for name in found:
            assert np.shape(found[name]) == found.shape(name)
    except WeightsError as error:
        assert "fuzz" in str(error)
