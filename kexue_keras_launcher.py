"""Entry point of the command `kexue-keras`.

It stands outside the package because `import kexue_keras` refuses a broken environment, and exactly then
`kexue-keras doctor` has to say what is broken.
"""

import importlib.util
import os
import sys


def _versions_module():
    """kexue_keras/versions.py, loaded without importing the package."""
    package = importlib.util.find_spec("kexue_keras")
    path = os.path.join(package.submodule_search_locations[0], "versions.py")
    spec = importlib.util.spec_from_file_location("kexue_keras_versions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(argv=None):
    """Run the command; an environment that cannot work gives its explanation and exit code 2."""
    versions = _versions_module()
    problems = versions.find_problems(os.environ.get("TF_KERAS", "0").lower() in ("1", "true", "yes", "on"))
    if problems:
        print(versions.explain(problems), file=sys.stderr)
        return 2
    from kexue_keras.cli import main as run

    return run(argv)


if __name__ == "__main__":
    sys.exit(main())
