"""Paths that come from outside: any path type as str, folders listed by pattern, and nothing read but regular files."""

import fnmatch
import os
import stat

from kexue_keras.errors import WeightsError


def path_text(path):
    """A path as str, from str, bytes or anything with `__fspath__` (`pathlib.Path`).

    Args:
        path: the path; a name such as 'me5-zh-char' comes back as it is.

    Returns:
        str.

    Raises:
        TypeError: it is no path.

    >>> import pathlib
    >>> path_text(pathlib.Path('a') / 'b'), path_text(b'c'), path_text('me5-zh-char')
    ('a/b', 'c', 'me5-zh-char')
    """
    return os.fsdecode(path)


def is_path(thing):
    """Whether an argument that may also be a model or a dict is a path.

    >>> import pathlib
    >>> is_path('a'), is_path(pathlib.Path('a')), is_path({})
    (True, True, False)
    """
    return isinstance(thing, (str, bytes, os.PathLike))


def as_text(thing):
    """A path type (`pathlib.Path`) as str; anything else, such as a model, a list or None, as it is.

    >>> import pathlib
    >>> as_text(pathlib.Path('a')), as_text(None)
    ('a', None)
    """
    return path_text(thing) if isinstance(thing, os.PathLike) else thing


def matching(folder, *patterns):
    """Paths of what a folder contains under names like these, in the order of the patterns, then of the names.

    Unlike `glob.glob(os.path.join(folder, pattern))` it takes the name of the folder as it is, so that a folder may be
    called `bert[base]`. Hidden files are left out, as there.

    Args:
        folder: str; one that does not exist has nothing in it.
        *patterns: of names in it, with `*`, `?` and `[...]`; `glob.escape` for what is none.

    Returns:
        list of str, each once.

    >>> import tempfile
    >>> folder = os.path.join(tempfile.mkdtemp(), 'bert[base]')
    >>> os.makedirs(os.path.join(folder, 'x.index'))
    >>> [os.path.basename(path) for path in matching(folder, '*.txt', '*.index')]
    ['x.index']
    """
    try:
        names = sorted(name for name in os.listdir(folder) if not name.startswith("."))
    except (OSError, ValueError):  # ValueError: a NUL in the name
        return []
    found = [name for pattern in patterns for name in names if fnmatch.fnmatchcase(name, pattern)]
    return [os.path.join(folder, name) for name in dict.fromkeys(found)]


def check_regular(path):
    """Refuse everything but a regular file (or a link to one) before a byte is read.

    A folder, a device such as /dev/zero or a FIFO would be an odd error, memory without end, or no answer at all.

    Raises:
        WeightsError: it is not there, or is something else.
    """
    try:
        mode = os.stat(path).st_mode
    except ValueError:
        raise WeightsError("%r is no name of a file: it has a NUL character in it" % (path,))
    except OSError as error:
        raise WeightsError("%s cannot be read: %s" % (path, error.strerror))
    if not stat.S_ISREG(mode):
        raise WeightsError("%s is %s; expected a regular file. Nothing was read" % (path, _what(mode)))


def _what(mode):
    types = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a FIFO"), (stat.S_ISSOCK, "a socket"))
    return next((word for is_type, word in types if is_type(mode)), "a device")
