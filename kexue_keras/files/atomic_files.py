"""Files that are either whole or not there.

Everything is written to a temporary file in the same folder, forced to disk and then renamed; a kill at any moment
leaves the old file or the new one. The temporary names carry a mark that no file of a user's has, and are removed by
that mark alone.
"""

import contextlib
import errno
import json
import os
import re
import stat
import uuid

MARK = ".kexue_keras-"
_TEMPORARY = re.compile(re.escape(MARK) + r"[0-9a-f]{12}\.tmp(\.\w{1,12})?\Z")


@contextlib.contextmanager
def atomic(path, mode="wb"):
    """Open a file for writing that takes its name only when it is complete.

    A link stays a link, the file that it leads to is replaced. What is there and is no ordinary file (/dev/stdout, a
    pipe) is written to directly, since there is nothing to keep.

    Args:
        path: name in the end.
        mode: 'wb' or 'w' (UTF-8).

    Yields:
        file handle.

    Raises:
        OSError: it cannot be written; it names `path`, and there is no temporary file then.
    """
    # A path in an option may hold bytes that are no UTF-8; JSON with them so escaped reads as it was.
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n", "errors": "backslashreplace"}
    with atomic_path(path) as temporary:
        with open(temporary, mode, **text) as handle:
            yield handle


@contextlib.contextmanager
def atomic_path(path):
    """Like `atomic`, for writers that want a file name; the suffix is kept."""
    target = _checked(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with _named(path, path):
            yield os.fspath(path)
        return
    suffix = os.path.splitext(target)[1]
    suffix = suffix if re.match(r"\.\w{1,12}\Z", suffix) else ""
    # Nothing of the name itself: with it the temporary name could be too long where the final one is not.
    temporary = os.path.join(os.path.dirname(target), "%s%s.tmp%s" % (MARK, uuid.uuid4().hex[:12], suffix))
    try:
        with _named(path, temporary):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
            yield temporary
            with open(temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(temporary)
        raise
    sync_folder(os.path.dirname(target))


def write_json(path, value):
    """Write JSON with its keys in order, atomically."""
    with atomic(path, "w") as handle:
        json.dump(value, handle, ensure_ascii=False, indent=1, sort_keys=True)
        handle.write("\n")


def _checked(path):
    path = os.fspath(path)
    if not path:
        raise FileNotFoundError(errno.ENOENT, "the name of the file is empty", path)
    target = os.path.realpath(path)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    with _named(path, target), contextlib.suppress(FileNotFoundError):
        os.lstat(target)  # a name that is too long shows before anything is written
    return target


@contextlib.contextmanager
def _named(path, temporary):
    """Errors name the file that was asked for, not the temporary one, and not none at all (a full disk)."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, temporary):
            error.filename, error.filename2 = os.fspath(path), None
        raise


def sync_folder(folder):
    """Without it a crash of the machine may forget a renaming."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_tree(folder):
    """Force all files below `folder` to disk, before a renaming says that they are there."""
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, "rb") as handle:
                    os.fsync(handle.fileno())
        sync_folder(place)


def is_temporary(name):
    """Whether a file name is one that `atomic` or `atomic_path` gives.

    >>> is_temporary('.kexue_keras-0123456789ab.tmp.h5'), is_temporary('notes.2021.tmp')
    (True, False)
    """
    return bool(_TEMPORARY.match(name))


def remove_leftovers(folder):
    """Delete temporary files that a killed process left in `folder`; only under its lock, a live one has them too."""
    for name in os.listdir(folder):
        if is_temporary(name):
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, name))
