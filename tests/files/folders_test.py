"""Whole folders: what is refused, what a kill at any call leaves, what an error leaves."""

import errno
import os
import shutil
import tempfile

import pytest
from files.kills import killed_everywhere
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras.errors import WeightsError
from kexue_keras.files import folders as module
from kexue_keras.files import restore_interrupted, whole_folder

pytestmark = pytest.mark.usefixtures("fork", "quick_disk")


def write(path, text, **options):
    """A model folder of two files, one in a folder."""
    with whole_folder(path, **options) as folder:
        os.mkdir(os.path.join(folder, "model"))
        for name in ("config.json", os.path.join("model", "weights")):
            with open(os.path.join(folder, name), "w") as handle:
                handle.write(text)


def read(path):
    found = set()
    for name in ("config.json", os.path.join("model", "weights")):
        with open(os.path.join(path, name)) as handle:
            found.add(handle.read())
    return found


def everything(folder):
    return sorted(
        os.path.relpath(os.path.join(place, name), folder)
        for place, folders, files in os.walk(folder)
        for name in folders + files
    )


def test_a_folder_is_made_and_replaced(tmp_path):
    target = tmp_path / "a" / "b" / "out"
    write(target, "old")
    assert read(str(target)) == {"old"}
    with pytest.raises(WeightsError, match="out is there already; .*overwrite=True"):
        write(target, "new")
    write(target, "new", overwrite=True)
    assert read(str(target)) == {"new"}
    assert os.listdir(str(tmp_path / "a" / "b")) == ["out"]
    (tmp_path / "empty").mkdir()
    write(tmp_path / "empty", "x")
    assert sorted(os.listdir(str(tmp_path))) == ["a", "empty"]
    # A link stays a link.
    os.symlink("empty", str(tmp_path / "link"))
    os.symlink("fresh", str(tmp_path / "dangling"))
    write(tmp_path / "link", "y", overwrite=True)
    write(tmp_path / "dangling", "z")
    assert os.path.islink(str(tmp_path / "link")) and read(str(tmp_path / "empty")) == {"y"}
    assert read(str(tmp_path / "fresh")) == {"z"}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name, words",
    [
        ("", "name of the folder is empty"),
        (".", "is the current folder or one above"),
        ("..", "is the current folder or one above"),
        ("../here", "is the current folder or one above"),
        ("/", "is the current folder or one above"),
        ("photos", "there already|carries no mark"),
        ("document.txt", "is a file"),
        ("extended", "there already|also holds .*notes.txt, which would be lost"),
        ("nested", "there already|also holds .*empty, which would be lost"),
        ("parent", "IN is in parent, which would be replaced"),
        ("downloaded", "there already|carries no mark"),
        ("linked", "there already|carries no mark"),
    ],
)
def test_what_is_not_ours_is_never_deleted(tmp_path, monkeypatch, name, words, overwrite):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(str(tmp_path / "here"))
    for folder, file in [("photos", "cat.jpg"), ("downloaded", "config.json"), ("parent/IN", "x"), ("../beside", "x")]:
        os.makedirs(folder)
        with open(os.path.join(folder, file), "w") as handle:
            handle.write("x")
    with open("document.txt", "w") as handle:
        handle.write("x")
    write("extended", "old")
    with open("extended/model/notes.txt", "w") as handle:
        handle.write("mine")
    write("nested", "old")
    os.mkdir("nested/empty")
    os.symlink("photos", "linked")
    before = everything(str(tmp_path))
    with pytest.raises(WeightsError, match=words) as error:
        write(name, "new", overwrite=overwrite, inputs=["parent/IN"])
    assert "\n" not in str(error.value)
    assert everything(str(tmp_path)) == before


def test_names_like_our_own_are_not_touched(tmp_path):
    write(tmp_path / "out", "old")
    for name in ("out.part", "out.old", "out.new", ".out", ".out.tmp", "notes.2021.tmp"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").write_text("x")
    before = everything(str(tmp_path))
    write(tmp_path / "out", "new", overwrite=True)
    assert everything(str(tmp_path)) == before and read(str(tmp_path / "out")) == {"new"}


@pytest.mark.parametrize("there", [True, False])
def test_killed_at_any_call_the_old_or_the_new_is_there_and_the_same_call_goes_through(tmp_path, there):
    target, place = str(tmp_path / "place" / "out"), str(tmp_path / "place")
    seen = set()

    def prepare():
        shutil.rmtree(place, ignore_errors=True)
        os.mkdir(place)
        if there:
            write(target, "old")

    def check():
        kept = sorted(os.listdir(place))
        restore_interrupted(target)  # as every function does that reads or writes a folder
        assert os.listdir(place) in ([], ["out"]), kept
        if there or os.path.isdir(target):
            (state,) = read(target)
            seen.add(state)
        write(target, "newer", overwrite=True)
        assert read(target) == {"newer"} and os.listdir(place) == ["out"]

    calls = killed_everywhere(prepare, lambda: write(target, "new", overwrite=True), check)
    assert calls > 8 and seen == ({"old", "new"} if there else {"new"})


@pytest.mark.parametrize("call", ["mkdir", "rename", "fsync", "open"])
def test_an_error_at_any_call_leaves_the_old_and_nothing_else(tmp_path, monkeypatch, call):
    place = tmp_path / "place"
    target = str(place / "deep" / "out")
    for there in (True, False):
        for at in range(1, 50):
            shutil.rmtree(str(place), ignore_errors=True)
            place.mkdir()
            if there:
                write(target, "old")
            before, calls, real = everything(str(place)), [0], getattr(os, call)

            def fail(*args, **kwargs):
                calls[0] += 1
                if calls[0] == at:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return real(*args, **kwargs)

            monkeypatch.setattr(os, call, fail)
            try:
                write(target, "new", overwrite=True)
            except OSError:
                assert everything(str(place)) == before
            finally:
                monkeypatch.setattr(os, call, real)
            if calls[0] < at:
                break
        assert calls[0] < at and read(target) == {"new"}


def test_the_working_folder_of_a_living_process_is_left_alone(tmp_path):
    target = tmp_path / "out"
    with whole_folder(target) as folder:
        with open(os.path.join(folder, "config.json"), "w") as handle:
            handle.write("first")
        restore_interrupted(target)
        assert os.path.isdir(folder)
        write(target, "second")  # another one, which is quicker
        with pytest.raises(WeightsError, match="there already"):
            with whole_folder(target):
                pass
        shutil.rmtree(str(target))
    assert os.listdir(str(tmp_path)) == ["out"] and (tmp_path / "out" / "config.json").read_text() == "first"


def test_of_two_that_swap_at_once_one_wins_and_nothing_is_mixed(tmp_path, monkeypatch):
    target, real, nested = str(tmp_path / "out"), module._swap, []
    write(target, "old")

    def swap(*args):
        if not nested:
            nested.append(True)
            write(target, "quick", overwrite=True)
        real(*args)

    monkeypatch.setattr(module, "_swap", swap)
    write(target, "slow", overwrite=True)
    assert read(target) == {"slow"} and os.listdir(str(tmp_path)) == ["out"]


def test_long_names_and_impossible_ones(tmp_path):
    longest = tmp_path / ("名" * 85)
    write(longest, "old")
    write(longest, "new", overwrite=True)
    assert read(str(longest)) == {"new"} and len(os.listdir(str(tmp_path))) == 1
    (tmp_path / "file").write_text("x")
    os.symlink("file/below", str(tmp_path / "dangling"))
    before = everything(str(tmp_path))
    for name, number in [("a" * 300, errno.ENAMETOOLONG), ("file/out", errno.ENOTDIR), ("dangling", errno.ENOTDIR)]:
        with pytest.raises(OSError) as error:
            write(tmp_path / name, "new")
        assert error.value.errno == number
    assert everything(str(tmp_path)) == before


PLACES = st.sampled_from(["a", "b", "a/b", "a/a", "b/a/b", ".a", "a.part", ".a.kexue_keras-new", ""])
STEPS = st.lists(st.tuples(st.sampled_from(["mine", "save", "overwrite"]), PLACES), min_size=3, max_size=12)


@given(STEPS)
def test_whatever_is_done_no_file_of_the_users_is_lost(steps):
    with tempfile.TemporaryDirectory() as place, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        mine, saved = {}, {}
        for number, (what, name) in enumerate(steps):
            path = os.path.join(place, name)
            if what == "mine":
                os.makedirs(path, exist_ok=True)
                mine[os.path.join(path, "%d.txt" % number)] = str(number)
                with open(os.path.join(path, "%d.txt" % number), "w") as handle:
                    handle.write(str(number))
            else:
                try:
                    write(path if name else "", str(number), overwrite=what == "overwrite")
                    # Only what was saved there as a whole may have gone.
                    assert not any(file.startswith(path + os.sep) for file in mine)
                    saved = {k: v for k, v in saved.items() if not k.startswith(path + os.sep)}
                    saved[path] = str(number)
                except WeightsError:
                    pass
            for file, text in mine.items():
                with open(file) as handle:
                    assert handle.read() == text
            for folder, text in saved.items():
                assert read(folder) == {text}
