"""Ends a process that waits too long for another one: Horovod waits for ever where a rank lives and does not come."""

import os
import sys
import threading
import time


class Watchdog(object):
    """Ends the process if nobody calls `alive` for a while between `begin` and `end`.

    Nothing else gets out of an op that waits within a session, and nothing is lost: a point is whole or not there.

    Args:
        timeout: seconds.
        text: what to say then.
        leave: function of an exit code that ends the process.
    """

    def __init__(self, timeout, text, leave=os._exit):
        self.timeout, self.text, self._leave = timeout, text, leave
        self._last, self._watching = None, None

    def begin(self):
        """Watch, from now on."""
        self.alive()
        if self._watching is None:
            self._watching = threading.Event()
            threading.Thread(target=self._watch, args=(self._watching,), daemon=True).start()

    def alive(self):
        """Something was done."""
        self._last = time.monotonic()

    def end(self):
        """Watch no longer."""
        if self._watching is not None:
            self._watching.set()
            self._watching = None

    def _watch(self, over):
        while not over.wait(min(self.timeout / 4.0, 5.0)):
            if time.monotonic() - self._last > self.timeout:
                sys.stderr.write(self.text + "\n")
                sys.stderr.flush()
                self._leave(1)
                return
