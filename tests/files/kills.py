"""A child that is killed at its n-th call to the file system, for every n."""

import builtins
import os

from forking import fork

CHANGING = "rename replace remove unlink rmdir mkdir".split()


def count_and_kill(function, at, calls_too):
    """Call `function`; the process ends before the `at`-th changing call of the file system (from 1) is done."""
    calls = [0]

    def counted(real, counts=lambda *args, **kwargs: True):
        def call(*args, **kwargs):
            if counts(*args, **kwargs):
                calls[0] += 1
                if calls[0] == at:
                    os._exit(9)
            return real(*args, **kwargs)

        return call

    def writes(path, mode="r", *args, **kwargs):
        return mode != "r" and mode != "rb"

    for name in CHANGING + list(calls_too):
        setattr(os, name, counted(getattr(os, name)))
    os.open = counted(os.open, lambda path, flags, *args, **kwargs: flags & os.O_CREAT)
    builtins.open = counted(builtins.open, writes)
    function()


def killed_everywhere(prepare, function, check, *, calls_too=(), most=400):
    """Run `function` in children, each killed one call later, until one comes to its end; returns how many there were.

    Args:
        prepare: function without arguments, brings the folder to its first state.
        function: what is killed.
        check: function without arguments, called after each kill.
        calls_too: names of further functions of `os` before which it is killed.
    """
    for at in range(1, most):
        prepare()
        child = fork()
        if child == 0:
            code = 1
            try:
                count_and_kill(function, at, calls_too)
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        code = os.WEXITSTATUS(status)
        assert code in (0, 9), code
        if code == 0:
            return at - 1
        check()
    raise AssertionError("it does not come to its end")
