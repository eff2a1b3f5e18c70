"""Entry point of the command `kexue-keras`, and the package without its `__init__.py`.

It stands outside the package because `import kexue_keras` takes seconds, and refuses a broken environment: `--help` has
to answer at once, and `kexue-keras doctor` has to say what is broken.
"""

import contextlib
import importlib.util
import os
import sys


def main(argv=None):
    """Run the command line of kexue_keras/cli/main.py, loaded without importing the package."""
    package = importlib.util.find_spec("kexue_keras")
    path = os.path.join(package.submodule_search_locations[0], "cli", "main.py")
    spec = importlib.util.spec_from_file_location("kexue_keras_cli", path)
    cli = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(cli)
    asked = os.environ.get("TF_KERAS")
    tf_keras = None if asked is None else asked.lower() in ("1", "true", "t", "yes", "y", "on")
    return cli.main(argv, tf_keras=tf_keras)


@contextlib.contextmanager
def light_package():
    """Make modules of the package importable without its `__init__.py`, which imports TensorFlow.

    Yields:
        function that runs the `__init__.py`. Where it was not called, the package is in the end as if never imported.
    """
    if "kexue_keras" in sys.modules:
        yield lambda: None
        return
    spec = importlib.util.find_spec("kexue_keras")
    package, loaded = importlib.util.module_from_spec(spec), []
    sys.modules["kexue_keras"] = package

    def load():
        loaded.append(True)
        spec.loader.exec_module(package)

    try:
        yield load
    finally:
        if not loaded:
            for name in [name for name in sys.modules if name.split(".")[0] == "kexue_keras"]:
                del sys.modules[name]


if __name__ == "__main__":
    sys.exit(main())
