"""Certain files of a folder, replaced all together, while other files in it stay where they are (a run's folder).

The new ones are made in `NEXT`, a folder within the folder (so it may be a mount point), in whatever time they take.
Then, each by renaming:

1. `NEXT` becomes `COMPLETE`: from here on there is only forward;
2. the old files go to `PREVIOUS`; `COMPLETE` becomes `ARRIVING`;
3. the new files take their place; `ARRIVING`, empty, is removed; 4. `PREVIOUS` is deleted.

The names alone tell how far it came, and `settle` continues from there after a kill.
"""

import contextlib
import errno
import os
import shutil

from kexue_keras.files.atomic_files import MARK, is_temporary, remove_leftovers, sync_folder, sync_tree
from kexue_keras.files.lock import NAME as LOCK

NEXT, COMPLETE, ARRIVING, PREVIOUS = (MARK + step for step in ("next", "complete", "arriving", "previous"))


class StagedContents(object):
    """Files of a folder that are replaced together; all methods that change something need the folder's lock.

    Args:
        folder: str, it need not exist.
        names: the files and folders that are replaced; the first one, without which the others are nothing, goes
            first and comes last.

    Attributes:
        next: where the new ones are made.
    """

    def __init__(self, folder, names):
        self.folder, self.names = folder, tuple(names)
        self.next = os.path.join(folder, NEXT)

    @property
    def is_unsettled(self):
        """Whether a kill came into the exchange."""
        return any(os.path.isdir(os.path.join(self.folder, name)) for name in (COMPLETE, ARRIVING, PREVIOUS))

    def begin(self):
        """Make `next`, empty."""
        self.discard()
        os.mkdir(self.next)

    def discard(self):
        """Delete `next`; the old files have not been touched."""
        self.settle()
        if os.path.isdir(self.next):
            os.rename(self.next, os.path.join(self.folder, PREVIOUS))
            self.settle()

    def finish(self):
        """Put the contents of `next` into the place of the old files."""
        self.settle()
        remove_leftovers(self.next)
        sync_tree(self.next)
        os.rename(self.next, os.path.join(self.folder, COMPLETE))
        self.settle()

    def settle(self):
        """Bring an exchange to its end that a kill has interrupted."""
        complete, arriving, previous = (os.path.join(self.folder, name) for name in (COMPLETE, ARRIVING, PREVIOUS))
        if os.path.isdir(complete):
            os.makedirs(previous, exist_ok=True)
            for name in self.names:
                self._move(name, self.folder, previous)
            sync_folder(self.folder)
            os.rename(complete, arriving)
        if os.path.isdir(arriving):
            for name in tuple(set(os.listdir(arriving)) - set(self.names)) + self.names[::-1]:
                # Names that nobody foresaw do not push a user's file out of the way.
                if name in self.names or not os.path.lexists(os.path.join(self.folder, name)):
                    self._move(name, arriving, self.folder)
            sync_folder(self.folder)
            shutil.rmtree(arriving)
        if os.path.isdir(previous):
            shutil.rmtree(previous)

    @staticmethod
    def _move(name, source, target):
        source, target = os.path.join(source, name), os.path.join(target, name)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.rename(source, target)
        except OSError as error:
            # A folder in a lower layer of a container's file system.
            if error.errno != errno.EXDEV or not os.path.isdir(source):
                raise
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(source, target)
            shutil.rmtree(source)

    def remove_if_bare(self):
        """Delete the lock file from a folder that was made for nothing; whoever waits for it finds no folder then."""
        if not (self.others() or os.path.isdir(self.next)):
            remove_leftovers(self.folder)
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(self.folder, LOCK))

    def others(self):
        """Names of what is in the folder and neither of these files nor of our making."""
        ours = set(self.names) | {NEXT, COMPLETE, ARRIVING, PREVIOUS, LOCK}
        return sorted(name for name in os.listdir(self.folder) if name not in ours and not is_temporary(name))
