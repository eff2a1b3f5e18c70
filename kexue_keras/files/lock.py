"""One process at a time in a folder."""

import os

import filelock

from kexue_keras.errors import UserError
from kexue_keras.files.atomic_files import MARK

NAME = MARK + "lock"


class FolderLock(object):
    """A lock on a folder, held by one process (and one object in it) at a time; the system lets go of it at a kill.

    The lock is on a file in the folder, which stays there: taking it away would let two processes hold two files of
    the same name.

    Args:
        folder: an existing folder.

    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> with FolderLock(folder):
    ...     FolderLock(folder).acquire()
    Traceback (most recent call last):
    ...
    kexue_keras.errors.UserError: ...: another process is at work in this folder; wait for its end or choose another one
    """

    def __init__(self, folder):
        self.folder = folder
        self._lock = filelock.FileLock(os.path.join(folder, NAME), thread_local=False)
        self._without = False

    def acquire(self):
        """Take the lock.

        Raises:
            UserError: another process has it.
            OSError: the folder cannot be written.
        """
        try:
            self._lock.acquire(timeout=0)
        except filelock.Timeout:
            raise UserError(
                "another process is at work in this folder; wait for its end or choose another one", path=self.folder
            )
        except NotImplementedError:
            self._without = True  # a file system without locks: as it was before there were any

    def release(self):
        """Let go of the lock; nothing happens if it is not held."""
        self._lock.release(force=True)
        self._without = False

    @property
    def is_held(self):
        """Whether this object holds the lock."""
        return self._lock.is_locked or self._without

    @property
    def is_real(self):
        """Whether holding it says anything of other processes."""
        return self._lock.is_locked

    def __enter__(self):
        self.acquire()
        return self

    def __exit__(self, *_):
        self.release()
