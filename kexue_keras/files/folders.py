"""Folders of files that belong together (a saved model), replaced as a whole: the one place that does so.

A folder is built in a working folder of a unique name beside its place, `.NAME.kexue_keras-xxxx/`:

1. `new` is filled, and a mark is put into it that lists its files;
2. what has the name is moved to `old`, if it carries such a mark and holds nothing that the mark does not list;
3. `new` takes the name; 4. `old` is deleted.

A kill between 2 and 3 leaves the name free and everything in `old`; whoever is next to write or to load that name puts
it back (`restore_interrupted`). A working folder is locked by its maker, so nobody takes that of a living process away.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import uuid

from kexue_keras.errors import UserError, WeightsError
from kexue_keras.files.atomic_files import MARK, sync_folder, sync_tree
from kexue_keras.files.lock import FolderLock

CONTENTS = MARK + "contents.json"


@contextlib.contextmanager
def whole_folder(path, *, overwrite=False, inputs=()):
    """Make a folder that takes its name when it is complete.

    Args:
        path: str or path-like, a folder that does not exist or is empty, or with `overwrite` one that was made here.
        overwrite: bool, replace such a folder.
        inputs: paths of what is being read, which must not go with it.

    Yields:
        str, an empty folder to fill.

    Raises:
        WeightsError: see `check_target`.
        OSError: a full disk and the like; what was there is as before.
    """
    target = check_target(path, overwrite=overwrite, inputs=inputs)
    made = _make_parents(os.path.dirname(target))
    try:
        with _working_folder(target) as work:
            new = os.path.join(work, "new")
            os.mkdir(new)
            with _named(os.fspath(path), new):
                yield new
                _write_mark(new)
                sync_tree(new)
            # Once more: building takes long.
            check_target(path, overwrite=overwrite, inputs=inputs)
            _swap(new, target, work)
    except BaseException:
        for folder in reversed(made):
            with contextlib.suppress(OSError):
                os.rmdir(folder)
        raise


@contextlib.contextmanager
def _named(path, new):
    """Errors name the place that was asked for, not the working folder; those of libraries name it at all."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError("%s: %s" % (path, error)) from error
        if str(error.filename).startswith(new):
            error.filename = path + str(error.filename)[len(new) :]
        raise


def check_target(path, *, overwrite=False, inputs=()):
    """Refuse a place where nothing may be made or replaced; for a check before the work begins.

    Args:
        path, overwrite, inputs: see `whole_folder`.

    Returns:
        str, the absolute path behind all links.

    Raises:
        WeightsError: an empty name, the current folder or one above it, one that holds an input, a file, a folder that
            is not empty (without `overwrite`), that was not made here, or that has files of somebody else's.
        OSError: no such name is possible.
    """
    path = os.fspath(path)
    if not path:
        raise WeightsError("the name of the folder is empty (a variable that is not set?); give a name")
    restore_interrupted(path)
    target = os.path.realpath(path)
    if _is_within(_current_folder(), target):
        raise WeightsError("%s is the current folder or one above it; give the name of a new folder" % path)
    for one in inputs:
        if _is_within(os.path.realpath(os.fspath(one)), target) and os.path.realpath(os.fspath(one)) != target:
            raise WeightsError("%s is in %s, which would be replaced; choose another folder" % (one, path))
    try:
        os.lstat(target)
    except FileNotFoundError:
        return target
    if not os.path.isdir(target):
        raise WeightsError("%s is a file; give the name of a new folder" % path)
    if not os.listdir(target):
        return target
    if not overwrite:
        raise WeightsError("%s is there already; give the name of a new folder, or overwrite=True" % path)
    known = _marked_files(target)
    if known is None:
        raise WeightsError(
            "%s carries no mark of kexue_keras' %s, so it is not replaced; give another name, or delete it yourself"
            % (path, CONTENTS)
        )
    strangers = sorted(set(_tree(target)) - known)
    if strangers:
        raise WeightsError(
            "%s also holds %s, which would be lost; move it away, or give another name" % (path, strangers[0])
        )
    return target


def restore_interrupted(path):
    """Put back what a process that was killed while replacing `path` had moved away, and delete what it left.

    Nothing happens if there is nothing of the kind, or if that process is alive.

    Args:
        path: str or path-like, the name of a folder; it need not be there.
    """
    path = os.fspath(path)
    if not path:
        return
    target = os.path.realpath(path)
    try:
        names = os.listdir(os.path.dirname(target))
    except OSError:
        return
    pattern = re.compile(re.escape(_prefix(target)) + "[0-9a-f]{8}\\Z")
    for name in filter(pattern.match, names):
        work = os.path.join(os.path.dirname(target), name)
        lock = FolderLock(work)
        try:
            lock.acquire()
        except (UserError, OSError):
            continue
        try:
            # Where there are no locks the folder may be that of a living process: nothing is deleted then.
            if lock.is_real or not os.path.lexists(target):
                _put_back(work, target)
            if lock.is_real:
                shutil.rmtree(work, ignore_errors=True)
        finally:
            lock.release()


def _put_back(work, target):
    old = os.path.join(work, "old")
    if os.path.isdir(old):
        if os.path.lexists(target):
            # Renamed first: nobody may mistake a half-deleted `old` for a complete one.
            os.rename(old, os.path.join(work, "trash"))
        else:
            os.rename(old, target)
            sync_folder(os.path.dirname(target))


def _swap(new, target, work):
    old = os.path.join(work, "old")
    try:
        if os.path.isdir(target) and os.listdir(target):
            os.rename(target, old)
        os.rename(new, target)
    finally:
        _put_back(work, target)
    sync_folder(os.path.dirname(target))


@contextlib.contextmanager
def _working_folder(target):
    while True:
        work = os.path.join(os.path.dirname(target), _prefix(target) + uuid.uuid4().hex[:8])
        os.mkdir(work)
        lock = FolderLock(work)
        try:
            lock.acquire()
            break
        except (FileNotFoundError, UserError):
            continue  # between the two calls another process took it for one that a killed process left
        except OSError:
            shutil.rmtree(work, ignore_errors=True)
            raise
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()


def _prefix(target):
    name = os.path.basename(target)
    if len(os.fsencode(name)) > 200:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
    return "." + name + MARK


def _make_parents(folder):
    """Make a folder and those above it; returns those that were not there."""
    made = []
    while not os.path.isdir(folder):
        made.append(folder)
        folder = os.path.dirname(folder)
    made.reverse()
    for folder in made:
        os.makedirs(folder, exist_ok=True)
    return made


def _tree(folder):
    """Paths of all files, links and empty folders below `folder`, relative to it."""
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        for name in files + links + ([""] if not (folders or files) else []):
            yield os.path.relpath(os.path.join(place, name), folder)


def _write_mark(folder):
    names = sorted(set(_tree(folder)) | {CONTENTS})
    with open(os.path.join(folder, CONTENTS), "w", encoding="utf-8") as handle:
        json.dump({"written_by": "kexue_keras", "files": names}, handle, indent=1)


def _marked_files(folder):
    """The files that the mark lists, or None without one."""
    try:
        with open(os.path.join(folder, CONTENTS), encoding="utf-8") as handle:
            found = json.load(handle)
        return set(found["files"]) if found["written_by"] == "kexue_keras" else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_within(path, folder):
    return path is not None and (path == folder or path.startswith(folder.rstrip(os.sep) + os.sep))


def _current_folder():
    try:
        return os.path.realpath(os.getcwd())
    except OSError:  # it has been deleted
        return None
