"""Source that runs as a script: examples, and what pages show."""

import contextlib


@contextlib.contextmanager
def script_names(**names):
    """The global names of a script, gone afterwards.

    Every operation remembers the global names of the code that made it where Python does not look for garbage, so that
    a model among them would stay in memory until the process ends.
    """
    names = dict({"__name__": "__main__"}, **names)
    try:
        yield names
    finally:
        names.clear()
