"""Reading safetensors: what is written comes back; a file that is cut short or lies is an error with a reason."""

import json
import os
import resource
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import outcome
from numpy_hf import safetensors_bytes

from kexue_keras.checkpoints.formats.safetensors_file import read_safetensors, write_safetensors
from kexue_keras.errors import WeightsError


def file_of(tmp_path, header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode("utf-8")
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return str(path)


def entry(first, last, shape=(2,), kind="F32"):
    return {"dtype": kind, "shape": list(shape), "data_offsets": [first, last]}


def test_what_is_written_comes_back(tmp_path, rng):
    arrays = {
        "a.b": rng.normal(size=[3, 4]).astype("float32").T,
        "c": np.arange(3),
        "scalar": np.float32(2).reshape([]),
    }
    path = str(tmp_path / "x.safetensors")
    write_safetensors(path, arrays)
    found = read_safetensors(path)
    assert set(found) == set(arrays) and found.shape("a.b") == (4, 3)
    for name in arrays:
        np.testing.assert_array_equal(found[name], arrays[name])
    assert os.listdir(str(tmp_path)) == ["x.safetensors"]


def test_half_precision_comes_as_float32(tmp_path):
    data = np.array([1.5, -2], "<f2").tobytes() + np.array([0x3FC0, 0xC000], "<u2").tobytes()
    found = read_safetensors(
        file_of(tmp_path, {"half": entry(0, 4, kind="F16"), "brain": entry(4, 8, kind="BF16")}, data)
    )
    for name in ("half", "brain"):
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], [1.5, -2])


@pytest.mark.parametrize(
    "header, data, length, reason",
    [
        ({"a": entry(0, 8)}, b"1234567", None, "more or fewer bytes than the file has"),
        ({"a": entry(0, 8)}, b"123456789", None, "more or fewer bytes than the file has"),
        ({"a": entry(0, 8), "b": entry(4, 12)}, b"1" * 12, None, "offsets in its header overlap"),
        ({"a": entry(0, 8), "b": entry(12, 20)}, b"1" * 20, None, "leave a gap"),
        ({"a": entry(2**62, 2**62 + 8)}, b"1" * 8, None, "lie outside of the file"),
        ({"a": entry(8, 0)}, b"1" * 8, None, "offsets in its header"),
        ({"a": entry(0, 8, [3])}, b"1" * 8, None, "a shape in its header does not go with"),
        ({"a": entry(0, 8, [2**40, 2**40])}, b"1" * 8, None, "too large for any computer"),
        ({"a": entry(0, 8, [-2])}, b"1" * 8, None, "not the JSON that the format asks for"),
        ({"a": entry(0, 8, kind="F33")}, b"1" * 8, None, "not the JSON that the format asks for"),
        (b"[]", b"", None, "not the JSON|does not begin"),
        (b"[" * 100000, b"", None, "not the JSON|does not begin"),
        (b"\xff\xfe", b"", None, "is no text"),
        ({}, b"", 1000, "claims a header longer than the file"),
        ({}, b"", 2**64 - 1, "claims a header of more than 100 MB"),
        ({}, b"", 2**40, "claims a header of more than 100 MB"),
    ],
)
def test_a_header_that_lies_is_named(tmp_path, header, data, length, reason):
    path = file_of(tmp_path, header, data, length)
    with pytest.raises(WeightsError, match="x.safetensors is no sound safetensors file: .*(%s).*nothing was" % reason):
        read_safetensors(path)


@pytest.mark.parametrize("content", [b"", b"1234567"])
def test_a_file_without_a_header_is_named(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(WeightsError, match="shorter than the 8 bytes"):
        read_safetensors(str(tmp_path / "x"))


def test_kinds_of_numbers_and_shapes_that_numpy_lacks(tmp_path):
    path = file_of(tmp_path, {"a": entry(0, 2, kind="F8_E4M3"), "b": entry(2, 2, [0, 2**63])}, b"12")
    found = read_safetensors(path)
    with pytest.raises(WeightsError, match="a is stored as F8_E4M3, which numpy does not have"):
        found["a"]
    with pytest.raises(WeightsError, match="b has the impossible shape"):
        found["b"]


@pytest.mark.usefixtures("fork")
def test_a_header_of_many_names_takes_no_minutes(tmp_path):
    names = {"%05d" % i: entry(0, 0, [0], "BF16") for i in range(60000)}
    found = read_safetensors(file_of(tmp_path, names))
    assert len(found) == 60000 and found["00007"].shape == (0,)
    path = file_of(tmp_path, {"x" * 300 + str(i): entry(0, 0, [0]) for i in range(30000)})
    assert outcome(read_safetensors, path).startswith("WeightsError: %s has a header of" % path)


GOOD = safetensors_bytes({name: np.arange(6, dtype="float32").reshape(2, 3) for name in "abc"})


@settings(max_examples=120)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, len(GOOD)),
    st.binary(max_size=20),
)
def test_whatever_is_in_the_file_it_is_read_or_refused(tmp_path_factory, changes, length, more):
    content = bytearray(GOOD)
    for place, value in changes:
        content[place] = value
    path = str(tmp_path_factory.getbasetemp() / "fuzz.safetensors")
    with open(path, "wb") as handle:
        handle.write(bytes(content[:length] if length % 2 else content) + more)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        found = read_safetensors(path)
        for name in found:
            assert found[name].shape == found.shape(name)
    except WeightsError as error:
        assert "fuzz.safetensors" in str(error)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100000


@settings(max_examples=80)
@given(
    st.dictionaries(
        st.sampled_from("abcd"),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "U8"]),
                "shape": st.lists(st.integers(0, 5) | st.integers(0, 2**64), max_size=3),
                "data_offsets": st.lists(st.integers(0, 40) | st.integers(0, 2**64), min_size=2, max_size=2),
            }
        ),
        min_size=1,
    ),
    st.integers(0, 40),
)
def test_headers_of_any_numbers_are_read_or_refused(tmp_path_factory, header, size):
    path = file_of(tmp_path_factory.getbasetemp(), header, b"\1" * size)
    try:
        found = read_safetensors(path)
        for name in found:
            assert found[name].shape == tuple(header[name]["shape"])
    except WeightsError as error:
        assert "x.safetensors" in str(error)


def test_a_file_that_is_called_like_a_part_of_it_is_left_alone(tmp_path):
    path = str(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors.part").write_text("mine")
    write_safetensors(path, {"a": np.zeros(2000, "float32")})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError, match="^x.safetensors cannot be written: File too large$"):
            write_safetensors(path, {"a": np.ones(2000, "float32")})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not read_safetensors(path)["a"].any()
    assert (tmp_path / "x.safetensors.part").read_text() == "mine" and len(os.listdir(str(tmp_path))) == 2
