"""Entry point of the command `kexue-keras`.

It stands outside the package because `import kexue_keras` takes seconds, and refuses a broken environment: `--help` has
to answer at once, and `kexue-keras doctor` has to say what is broken.
"""

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


if __name__ == "__main__":
    sys.exit(main())
