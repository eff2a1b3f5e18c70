"""Atomic files: after a kill or an error at any call the old content or the new one is there, whole."""

import errno
import os
import re
import resource
import signal
import time

import pytest
from files.kills import killed_everywhere
from forking import fork

from kexue_keras.files import FolderLock, atomic, atomic_path, describe, remove_leftovers

pytestmark = pytest.mark.usefixtures("fork")


def write(path, text):
    with atomic(path, "w") as handle:
        handle.write(text)


def test_a_failure_while_writing_leaves_the_old_file_and_no_rest(tmp_path):
    path = str(tmp_path / "a.txt")
    write(path, "old")
    with pytest.raises(RuntimeError):
        with atomic(path, "w") as handle:
            handle.write("new")
            raise RuntimeError
    with pytest.raises(RuntimeError):
        with atomic_path(path) as temporary:
            assert temporary.endswith(".txt")
            raise RuntimeError
    assert os.listdir(str(tmp_path)) == ["a.txt"]
    assert open(path).read() == "old"


def test_killed_at_any_call_the_old_or_the_new_is_there_and_the_rest_is_known_as_ours(tmp_path):
    path, seen = str(tmp_path / "a.txt"), set()

    def check():
        seen.add(open(path).read())
        remove_leftovers(str(tmp_path))
        assert os.listdir(str(tmp_path)) == ["a.txt"]

    how = {"calls_too": ["fsync", "close"]}
    assert killed_everywhere(lambda: write(path, "old"), lambda: write(path, "new"), check, **how) > 6
    assert seen == {"old", "new"}


def test_only_what_has_our_mark_is_removed(tmp_path):
    names = ["notes.2021.tmp", "config.json.123.tmp", "model.5.tmp.h5", ".kexue_keras-notes.tmp", ".kexue_keras-lock"]
    for name in names:
        (tmp_path / name).write_text("mine")
    with pytest.raises(RuntimeError):
        with atomic(str(tmp_path / "b")) as handle:
            ours = os.path.basename(handle.name)
            raise RuntimeError
    for name in (ours, ours + ".h5"):
        (tmp_path / name).write_text("")
    remove_leftovers(str(tmp_path))
    assert sorted(os.listdir(str(tmp_path))) == sorted(names)


def test_links_stay_and_names_may_be_long(tmp_path):
    (tmp_path / "folder").mkdir()
    os.symlink("folder/file", str(tmp_path / "link"))
    write(tmp_path / "link", "1")
    write(tmp_path / "link", "2")
    assert os.path.islink(str(tmp_path / "link")) and (tmp_path / "folder" / "file").read_text() == "2"
    write(tmp_path / ("名" * 84 + "a"), "3")
    write(os.devnull, "4")
    assert not os.path.isfile(os.devnull)


@pytest.mark.parametrize(
    "name, number",
    [
        ("", errno.ENOENT),
        ("nowhere/file", errno.ENOENT),
        ("file/below", errno.ENOTDIR),
        ("folder", errno.EISDIR),
        ("dangling", errno.ENOENT),
        ("a" * 300, errno.ENAMETOOLONG),
        ("/dev/full", errno.ENOSPC),
        ("large", errno.EFBIG),
    ],
)
def test_an_error_names_the_file_that_was_asked_for(tmp_path, monkeypatch, name, number):
    monkeypatch.chdir(str(tmp_path))
    os.mkdir("folder")
    os.symlink("nowhere/file", "dangling")
    for known in ("file", "large"):
        with open(known, "w") as handle:
            handle.write("old")
    before, limits = sorted(os.listdir(".")), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        if name == "large":
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
        with pytest.raises(OSError) as error:
            write(name, "new" * 10000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert error.value.errno == number and sorted(os.listdir(".")) == before
    assert describe(error.value).startswith(name + ": " if name else ": ") and "\n" not in describe(error.value)
    assert open("large").read() == "old"


def test_what_libraries_say_of_a_full_disk_gets_its_hint():
    said = "Can't write data (file write failed: errno = 28, error message = 'No space left on device')"
    assert re.search("No space left on device.*; make room on that disk", describe(OSError(said)))


def test_kill_at_random_moments_never_leaves_a_broken_file(tmp_path):
    path = str(tmp_path / "a.txt")
    for moment in range(6):
        child = fork()
        if child == 0:
            for i in range(10**6):
                write(path, "%d\n" % i * 20000)
        deadline = time.time() + 20
        while not os.path.exists(path) and time.time() < deadline:
            time.sleep(0.001)
        time.sleep(0.007 * moment)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        lines = open(path).read().split()
        assert len(set(lines)) == 1 and len(lines) == 20000
    remove_leftovers(str(tmp_path))
    assert os.listdir(str(tmp_path)) == ["a.txt"]


def test_a_lock_is_held_by_one_and_let_go_of_by_a_kill(tmp_path):
    first, second = FolderLock(str(tmp_path)), FolderLock(str(tmp_path))
    with first:
        with pytest.raises(Exception, match="another process is at work in this folder"):
            second.acquire()
    child = fork()
    if child == 0:
        # One of its own: newer versions of filelock refuse those of another process.
        FolderLock(str(tmp_path)).acquire()
        os._exit(9)
    assert os.WEXITSTATUS(os.waitpid(child, 0)[1]) == 9
    with first:
        assert first.is_held and not second.is_held
