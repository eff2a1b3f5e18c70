"""What the operating system says when it refuses, as one line that names the file and the way out."""

import errno
import os

HINTS = {
    errno.ENOSPC: "make room on that disk",
    errno.EDQUOT: "make room within your quota",
    errno.EFBIG: "the limit for files is too low (ulimit -f)",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "choose a place that you may write",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.ELOOP: "its links lead round in a circle",
    errno.EBUSY: "it is in use, perhaps as a mount point; choose a folder below it",
    errno.EXDEV: "it cannot be moved from one file system to another; choose another folder",
}


def describe(error):
    """One line for an `OSError`: where, what, and what to do about it.

    >>> describe(OSError(28, 'No space left on device', 'runs/1'))
    'runs/1: No space left on device; make room on that disk'
    """
    # h5py and others give their own text and no number.
    reason = (error.strerror if error.errno is not None else None) or str(error) or type(error).__name__
    parts = [str(name) for name in (error.filename,) if name is not None] + [" ".join(reason.split())]
    for number, hint in HINTS.items():
        if error.errno == number or (error.errno is None and os.strerror(number) in reason):
            return ": ".join(parts) + "; " + hint
    return ": ".join(parts)
