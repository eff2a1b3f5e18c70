"""Running what may hang or take all memory: in a forked process that the kernel ends."""

import os
import resource
import signal

from forking import fork


def outcome(function, *args, seconds=10, megabytes=400):
    """What `function(*args)` ends with, in a fork of this process with limits of time and memory.

    The signal is not handled in Python: one call that hashes or prints a huge thing would never get there.
    For what uses no TensorFlow.

    Returns:
        'read', or 'WeightsError: ...' (the class and the text of what was raised), or 'killed by signal N'.
    """
    reading, writing = os.pipe()
    pid = fork()
    if not pid:
        os.close(reading)
        text = "the child failed"
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_REAL, seconds)
            with open("/proc/self/statm") as handle:
                now = int(handle.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + megabytes * 2**20,) * 2)
            try:
                function(*args)
                text = "read"
            except Exception as error:
                text = "%s: %s" % (type(error).__name__, error)
        finally:
            os.write(writing, text.encode("utf-8", "backslashreplace")[:4000])
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as handle:
        text = handle.read().decode("utf-8")
    status = os.waitpid(pid, 0)[1]
    return "killed by signal %d" % os.WTERMSIG(status) if os.WIFSIGNALED(status) else text
