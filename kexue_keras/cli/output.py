"""Standard output and error of the command: closed, full, or with nobody at the other end.

At the top only the standard library is imported, as in main.py, which loads this file where the package may not start.
"""

import contextlib
import errno
import io
import os
import sys


class _Closed(io.TextIOBase):
    """Stands for a standard output that was closed before the process began (`>&-`)."""

    encoding = "utf-8"

    def write(self, text):
        raise OSError(errno.EBADF, "it is closed")


class _Guarded(object):
    """A stream whose errors have a name, or, if it `survives`, are reported once and never again.

    Args:
        stream: the stream.
        place: what it is called.
        survives: bool, whether work continues without it.
        tell: function of a line.
    """

    def __init__(self, stream, place, survives, tell):
        self._stream, self._place, self._survives, self._tell = stream, place, survives, tell
        self._lost = False

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        self._try("write", text)
        return len(text)

    def flush(self):
        self._try("flush")

    def _try(self, name, *args):
        if self._lost:
            return
        try:
            getattr(self._stream, name)(*args)
        except OSError as error:
            _let_go(self._stream)
            self._lost = True
            if not self._survives:
                error.filename = error.filename or self._place
                raise
            self._tell("%s: %s; continuing without it" % (self._place, error.strerror or error))


def _let_go(stream):
    """What is still in its buffer goes nowhere; Python would complain of it again at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()


def say(line):
    """Print a line on standard output, at once and safe for a terminal."""
    from kexue_keras.errors import printable

    print(printable(line), flush=True)


def complain(line):
    """Print a line on standard error, if there is anybody to read it."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def guarded(*, survives, name):
    """Put guards before standard output and error.

    Args:
        survives: bool, whether the work continues when standard output cannot be written.
        name: of the command, for the note about that.
    """
    # The first file that is opened would get the number of a closed stream, and what a library prints.
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdin, sys.stdout, sys.stderr
    with contextlib.ExitStack() as opened:
        stdin = sys.stdin or opened.enter_context(open(os.devnull))
        stderr = sys.stderr or opened.enter_context(open(os.devnull, "w"))
        stdout = _Closed() if sys.stdout is None else sys.stdout
        sys.stdin, sys.stderr = stdin, _Guarded(stderr, "standard error", True, lambda line: None)
        sys.stdout = _Guarded(stdout, "standard output", survives, lambda line: complain("%s: note: %s" % (name, line)))
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before
