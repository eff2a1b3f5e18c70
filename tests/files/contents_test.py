"""Files of a folder that are replaced together: kills at every call, files of others."""

import os
import shutil

import pytest
from files.kills import killed_everywhere

from kexue_keras.files import StagedContents
from kexue_keras.files import contents as module

pytestmark = pytest.mark.usefixtures("fork", "quick_disk")
NAMES = ("config.json", "metrics.json", "encoder", "old.tsv", "new.tsv")


def fill(folder, text, others):
    os.makedirs(os.path.join(folder, "encoder"), exist_ok=True)
    for name in ("config.json", "metrics.json", os.path.join("encoder", "weights")) + others:
        with open(os.path.join(folder, name), "w") as handle:
            handle.write(text)


def state(folder):
    """The text that all files of the folder have in common, and their names."""
    texts = set()
    for name in ("config.json", "metrics.json", "encoder/weights"):
        with open(os.path.join(folder, name)) as handle:
            texts.add(handle.read())
    (text,) = texts
    wanted = {"config.json", "metrics.json", "encoder", "notes.txt", text + ".tsv"}
    assert set(os.listdir(folder)) == wanted
    return text


def old_run(folder):
    shutil.rmtree(folder, ignore_errors=True)
    os.mkdir(folder)
    fill(folder, "old", ("old.tsv",))
    with open(os.path.join(folder, "notes.txt"), "w") as handle:
        handle.write("mine")


def replace(folder):
    staged = StagedContents(folder, NAMES)
    staged.begin()
    fill(staged.next, "new", ("new.tsv",))
    staged.finish()


def test_killed_at_any_call_the_old_or_the_new_is_there(tmp_path):
    folder, seen = str(tmp_path / "run"), set()

    def check():
        staged = StagedContents(folder, NAMES)
        assert staged.others() == ["notes.txt"]
        staged.settle()
        shutil.rmtree(staged.next, ignore_errors=True)
        seen.add(state(folder))
        replace(folder)
        assert state(folder) == "new"
        with open(os.path.join(folder, "notes.txt")) as handle:
            assert handle.read() == "mine"

    assert killed_everywhere(lambda: old_run(folder), lambda: replace(folder), check) > 20
    assert seen == {"old", "new"}


def test_a_kill_while_the_new_ones_are_discarded_does_not_leave_half_of_them(tmp_path):
    folder = str(tmp_path / "run")

    def prepare():
        old_run(folder)
        staged = StagedContents(folder, NAMES)
        staged.begin()
        fill(staged.next, "new", ("new.tsv",))

    def check():
        staged = StagedContents(folder, NAMES)
        staged.settle()
        if os.path.isdir(staged.next):
            assert len(os.listdir(staged.next)) == 4
            staged.discard()
        assert state(folder) == "old"

    assert killed_everywhere(prepare, lambda: StagedContents(folder, NAMES).discard(), check) > 3


def test_a_kill_while_a_kill_is_made_good(tmp_path):
    folder = str(tmp_path / "run")
    for step in (module.COMPLETE, module.ARRIVING):

        def prepare(step=step):
            old_run(folder)
            staged = StagedContents(folder, NAMES)
            staged.begin()
            fill(staged.next, "new", ("new.tsv",))
            if step == module.ARRIVING:
                os.mkdir(os.path.join(folder, module.PREVIOUS))
                for name in ("config.json", "metrics.json", "encoder", "old.tsv"):
                    os.rename(os.path.join(folder, name), os.path.join(folder, module.PREVIOUS, name))
            os.rename(staged.next, os.path.join(folder, step))

        def check():
            StagedContents(folder, NAMES).settle()
            assert state(folder) == "new"

        assert killed_everywhere(prepare, lambda: StagedContents(folder, NAMES).settle(), check) > 5


def test_files_of_others_are_never_pushed_out(tmp_path):
    folder = str(tmp_path / "run")
    old_run(folder)
    staged = StagedContents(folder, NAMES)
    staged.begin()
    fill(staged.next, "new", ("new.tsv", "notes.txt", "more.txt"))
    staged.finish()
    with open(os.path.join(folder, "notes.txt")) as handle:
        assert handle.read() == "mine"
    assert os.path.exists(os.path.join(folder, "more.txt")) and not os.path.exists(os.path.join(folder, "old.tsv"))


def test_folders_in_a_lower_layer_of_a_container_are_copied(tmp_path, monkeypatch):
    folder, real = str(tmp_path / "run"), os.rename
    old_run(folder)

    def rename(source, target):
        if os.path.isdir(source) and os.path.basename(source) == "encoder":
            raise OSError(18, "Invalid cross-device link")
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    replace(folder)
    assert state(folder) == "new"
