"""Forks of the tests' own process, which are safe only while nothing in it has threads.

A thread of TensorFlow may hold a lock at the moment of the fork, for which the child then waits for ever. Tests that
fork take the fixture `fork`: they run before all others (tests/conftest.py), when there has been no session yet.
"""

import os
import signal
import time

# Seconds after which a thread that has ended is gone from the list, on a busy machine too.
PATIENCE = 10
# Seconds after which a child is ended.
LONGEST = 120
allowed = None


def threads():
    """Number of threads of this process."""
    return len(os.listdir("/proc/self/task"))


def fork():
    """`os.fork`, refused where threads have begun since the tests were collected."""
    waited_until = time.time() + PATIENCE
    while allowed is not None and threads() > allowed and time.time() < waited_until:
        time.sleep(0.05)
    now = threads()
    assert allowed is None or now <= allowed, (
        "%d threads, %d when the tests were collected: a fork might hang; let the test take the fixture `fork`, "
        "and make no session before" % (now, allowed)
    )
    child = os.fork()
    if child == 0:
        # Should it hang all the same, the test fails and the suite goes on.
        signal.alarm(LONGEST)
    return child
