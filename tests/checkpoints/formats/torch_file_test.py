"""Reading pytorch_model.bin: tensors come out, nothing in the pickle is executed, damage is an error."""

import collections
import io
import os
import pickle
import resource
import struct
import sys
import types
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import outcome

from kexue_keras.checkpoints.formats.torch_file import read_torch
from kexue_keras.errors import WeightsError


# What a pickle of PyTorch refers to, under the names that it has there.
def _rebuild_tensor_v2(*_):
    raise AssertionError("called while reading")


class FloatStorage(object):
    pass


class BFloat16Storage(object):
    pass


class LongStorage(object):
    pass


KINDS = {"float32": FloatStorage, "bfloat16": BFloat16Storage, "int64": LongStorage}


class FakeTensor(object):
    def __init__(self, key, kind, offset, shape, strides, size):
        self.place = (key, KINDS[kind], size)
        self.form = (offset, shape, strides)

    def __reduce__(self):
        return _rebuild_tensor_v2, (self.place,) + self.form + (False, collections.OrderedDict())


class Pickler(pickle._Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, tuple) and len(thing) == 3 and thing[1] in KINDS.values():
            return ("storage", thing[1], thing[0], "cpu", thing[2]) + self.more


@pytest.fixture
def torch_names(monkeypatch):
    name_as_torch(monkeypatch)


def name_as_torch(monkeypatch):
    """While a file is written, these things have the names that they have in PyTorch."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for thing, module in [(_rebuild_tensor_v2, utils)] + [(kind, torch) for kind in KINDS.values()]:
        setattr(module, thing.__name__, thing)
        monkeypatch.setattr(thing, "__module__", module.__name__)
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)


def pickled(thing, more=()):
    file = io.BytesIO()
    pickler = Pickler(file, protocol=2)
    pickler.more = more
    pickler.dump(thing)
    return file.getvalue()


def write_zip(path, content, storages, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(str(path), "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        for key, data in storages.items():
            archive.writestr("archive/data/" + key, data)
    return str(path)


def example():
    """(state dict, storages, the arrays they stand for): plain, a transposed view, shared storage, bfloat16."""
    a = np.arange(12, dtype="float32")
    state = collections.OrderedDict()
    state["a"] = FakeTensor("0", "float32", 0, (3, 4), (4, 1), 12)
    state["turned"] = FakeTensor("0", "float32", 0, (4, 3), (1, 4), 12)
    state["part"] = FakeTensor("0", "float32", 8, (2, 2), (2, 1), 12)
    state["brain"] = FakeTensor("1", "bfloat16", 0, (2,), (1,), 2)
    state["ids"] = FakeTensor("2", "int64", 0, (), (), 1)
    state._metadata = {"": {"version": 1}}
    storages = {"0": a.tobytes(), "1": np.array([0x3FC0, 0xC000], "<u2").tobytes(), "2": np.int64(5).tobytes()}
    square = a.reshape(3, 4)
    arrays = {"a": square, "turned": square.T, "part": a[8:].reshape(2, 2), "brain": [1.5, -2], "ids": 5}
    return state, storages, arrays


def old_format(state, storages, keys=None):
    start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001, "type_sizes": {}}]
    widths = {"0": 4, "1": 2, "2": 8}
    content = b"".join(pickle.dumps(part, 2) for part in start) + pickled(state, (None,))
    content += pickle.dumps(sorted(storages) if keys is None else keys, 2)
    return content + b"".join(struct.pack("<q", len(d) // widths[k]) + d for k, d in sorted(storages.items()))


@pytest.mark.parametrize("old", [False, True])
def test_tensors_come_out(tmp_path, torch_names, old):
    state, storages, arrays = example()
    path = str(tmp_path / "x.bin")
    if old:
        (tmp_path / "x.bin").write_bytes(old_format(state, storages))
    else:
        write_zip(path, pickled(state), storages)
    found = read_torch(path)
    assert set(found) == set(arrays)
    for name in arrays:
        np.testing.assert_array_equal(found[name], arrays[name])
        assert found.shape(name) == np.shape(arrays[name])
    assert found["brain"].dtype == np.float32


class Evil(object):
    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "evil, name",
    [
        (lambda mark: Evil(os.system, "touch " + mark), "posix.system"),
        (lambda mark: Evil(eval, "open(%r, 'w')" % mark), "builtins.eval|__builtin__.eval"),
        (lambda mark: Evil(getattr, "x", "upper"), "getattr"),
        (lambda mark: Evil(io.open, mark, "w"), "io.open"),
    ],
)
def test_nothing_in_the_pickle_is_executed(tmp_path, torch_names, evil, name, old):
    mark = str(tmp_path / "mark")
    content = pickled({"a": evil(mark)})
    path = tmp_path / "x.bin"
    if old:
        start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        path.write_bytes(b"".join(pickle.dumps(part, 2) for part in start) + content)
    else:
        write_zip(path, content, {})
    with pytest.raises(WeightsError, match="x.bin is not read: its pickle names (.*%s).*nothing was loaded" % name):
        read_torch(str(path))
    assert not os.path.exists(mark)


def test_what_is_no_dict_of_tensors_is_named(tmp_path, torch_names):
    state, storages, _ = example()
    for thing, message in (
        ([1], "holds a list instead of a dict"),
        ({"epoch": 3}, "epoch is no tensor; it is a training state"),
        ({"a": FakeTensor("9", "float32", 0, (2,), (1,), 2)}, "a .shape .2,.. lies outside of the bytes"),
        ({"a": FakeTensor("0", "float32", 11, (2,), (1,), 12)}, "lies outside"),
        ({"a": FakeTensor("0", "float32", -1, (2,), (1,), 12)}, "lies outside"),
        ({"a": FakeTensor("0", "float32", 0, (2**40, 2**7), (0, 0), 12)}, "lies outside"),
        ({"a": FakeTensor("0", "float32", 0, (2**60,), (1,), 12)}, "lies outside"),
    ):
        with pytest.raises(WeightsError, match=message):
            read_torch(write_zip(tmp_path / "x.bin", pickled(thing), storages))
    nested = read_torch(write_zip(tmp_path / "x.bin", pickled({"state_dict": dict(state)}), storages))
    assert "turned" in nested


def test_bombs_and_other_files_are_refused(tmp_path, torch_names):
    state, storages, _ = example()
    bomb = dict(storages, big=b"\0" * 10**7)
    with pytest.raises(WeightsError, match="compressed or larger"):
        read_torch(write_zip(tmp_path / "x.bin", pickled(state), bomb, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(str(tmp_path / "y.bin"), "w") as archive:
        archive.writestr("readme", "x")
    with pytest.raises(WeightsError, match="0 entries called data.pkl"):
        read_torch(str(tmp_path / "y.bin"))
    (tmp_path / "z.bin").write_bytes(pickle.dumps({"a": 1}, 2))
    with pytest.raises(WeightsError, match="none that torch.save wrote"):
        read_torch(str(tmp_path / "z.bin"))
    whole = (tmp_path / "x.bin").read_bytes()
    (tmp_path / "x.bin").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="no file of PyTorch or was cut short"):
        read_torch(str(tmp_path / "x.bin"))
    # The memo of C's unpickler would take 32 GB for this.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for trap in (
        b"\x80\x02}r\xff\xff\xff\x7f.",
        b"\x80\x02X\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7f.",
    ):
        with pytest.raises(WeightsError):
            read_torch(write_zip(tmp_path / "x.bin", trap + b"x", {}))
            raise WeightsError  # an empty dict is no harm
        (tmp_path / "z.bin").write_bytes(trap)
        with pytest.raises(WeightsError, match="z.bin is not read"):
            read_torch(str(tmp_path / "z.bin"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 200000


def doubled(times):
    """Instructions that build `(t, t)` of `(t, t)` of ...: 3 bytes a level, twice the work to hash or print."""
    return b")" + b"".join(b"q%c" % i + b"h%c" % i + b"\x86" for i in range(times))


HUGE = b"\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6  # LONG4: 2.4 million digits, minutes to print
STORAGE = b"(X\x07\0\0\0storage%sX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQ"
FLOATS = b"ctorch\nFloatStorage\n"


TRAPS = dict(
    [
        ("hash_key", b"}" + doubled(60) + b"K\x01s"),
        ("hash_keys", b"}(" + doubled(60) + b"K\x01u"),
        ("hash_key_of_ordered_dict", b"ccollections\nOrderedDict\n](" + doubled(60) + b"K\x01\x86e\x85R"),
        ("persid_repr", doubled(60) + b"Q"),
        ("persid_repr_of_a_list", b"]q\0" + b"](h\0h\0eq\0" * 60 + b"Q"),
        ("storage_type", STORAGE % doubled(60)),
        ("storage_key", b"(X\x07\0\0\0storage" + FLOATS + doubled(60) + b"X\x03\0\0\0cpuK\x04tQ"),
        ("huge_number_as_key", b"}" + HUGE + b"K\x01s"),
        ("huge_number_as_storage_key", STORAGE.replace(b"X\x01\0\0\x000", HUGE) % FLOATS),
        ("huge_number_in_digits", b"}L" + b"7" * 10**6 + b"L\nK\x01s"),
        ("huge_number_as_value", b"}X\x01\0\0\0a" + HUGE + b"s"),
        ("huge_text", b"}X\xff\xff\xff\x7f" + b"a" * 10**6),
        ("more_and_more", b"]" + b"q\x00(" + b"h\x00" * 200 + b"e"),
        (
            "list_named_again_and_again",
            b"](" + b"NN\x86" * 30000 + b"eq\x000" + b"ccollections\nOrderedDict\nh\0\x85R0" * 3000,
        ),
        ("deep", b")" + b"\x85" * 200000),
        ("many_instructions", b"}" * 600000),
        ("nothing_but_pops", b"N0" * 10**5 + b"}"),
        ("shape", b"ctorch._utils\n_rebuild_tensor_v2\n(" + STORAGE % FLOATS + b"K\0" + doubled(60) + b"))tR"),
        ("system_of_an_old_file", doubled(60)),
    ]
)


@pytest.mark.usefixtures("fork")
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("name", sorted(TRAPS))
def test_a_pickle_cannot_keep_its_reader_busy(tmp_path, name, old):
    path = str(tmp_path / "x.bin")
    content = b"\x80\x04" + TRAPS[name] + b"."
    if old:
        start = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
        if name.startswith("system"):
            start = start[:2]
        (tmp_path / "x.bin").write_bytes(b"".join(pickle.dumps(part, 2) for part in start) + content + b"\x80\x02].")
    else:
        write_zip(path, content, {})
    assert outcome(read_torch, path).startswith("WeightsError: %s" % path)


@pytest.mark.parametrize(
    "target",
    [b"ccollections\nOrderedDict\n", b"ctorch._utils\n_rebuild_tensor_v2\n", FLOATS]
    + [b"ctorch._utils\n_rebuild_parameter\n", STORAGE % FLOATS, b"]", b")", b"K\x01"],
)
def test_a_pickle_sets_no_attributes(tmp_path, target):
    from kexue_keras.checkpoints.formats import torch_file, torch_pickle

    def attributes():
        things = [thing for module in (torch_file, torch_pickle) for thing in vars(module).values()]
        things += list(torch_pickle._NAMES.values())
        return {id(thing): sorted(vars(thing)) for thing in things if hasattr(thing, "__dict__")}

    before = attributes()
    for state in (b"}X\x05\0\0\0paintK\x01s", b"N}X\x04\0\0\0kindK\x01s\x86"):
        path = write_zip(tmp_path / "x.bin", b"\x80\x02" + target + state + b"b.", {})
        with pytest.raises(WeightsError, match="its pickle sets attributes of a "):
            read_torch(path)
    assert attributes() == before
    for thing in torch_pickle._NAMES.values():
        for name in ("kind", "other", "__class__"):
            with pytest.raises((AttributeError, TypeError)):
                setattr(thing, name, "<f8")


def test_zip_entries_that_are_odd_are_named(tmp_path, torch_names):
    state, storages, _ = example()
    write_zip(tmp_path / "x.bin", pickled(state), storages)
    whole = (tmp_path / "x.bin").read_bytes()
    first = whole.index(b"PK\x01\x02")
    for flags, message in ((0x1, "archive/data.pkl is encrypted"), (0x40, "encrypted"), (0x800, "no file of PyTorch")):
        content = bytearray(whole)
        content[first + 8 : first + 10] = struct.pack("<H", flags)
        if flags == 0x800:  # the name is UTF-8, it says
            content[first + 46] = 0xFF
        (tmp_path / "x.bin").write_bytes(bytes(content))
        with pytest.raises(WeightsError, match="x.bin is .*%s" % message):
            read_torch(str(tmp_path / "x.bin"))


@settings(max_examples=150)
@given(
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 10**6),
)
def test_whatever_is_in_the_file_it_is_read_or_refused(sound_files, old, changes, length):
    content = bytearray(sound_files[old])
    for place, value in changes:
        content[place % len(content)] = value
    if length % 3 == 0:
        content = content[: length % len(content)]
    path = os.path.join(sound_files["folder"], "fuzz.bin")
    with open(path, "wb") as handle:
        handle.write(bytes(content))
    try:
        found = read_torch(path)
        for name in found:
            assert found[name].shape == found.shape(name)
    except WeightsError as error:
        assert "fuzz.bin" in str(error)


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory):
    """A file of each format, as bytes."""
    folder = tmp_path_factory.mktemp("torch")
    with pytest.MonkeyPatch.context() as patch:
        name_as_torch(patch)
        state, storages, _ = example()
        write_zip(folder / "x", pickled(state), storages)
        old = old_format(state, storages)
    (folder / "old").write_bytes(old)
    assert len(read_torch(str(folder / "x"))) == len(read_torch(str(folder / "old"))) == 5
    return {False: (folder / "x").read_bytes(), True: old, "folder": str(folder)}
