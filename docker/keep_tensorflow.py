"""Keeps pip from replacing the TensorFlow that a base image brings.

    keep_tensorflow.py write FILE    before installing: constraints with the versions that are there now
    keep_tensorflow.py check FILE    after installing: fails if one of them changed, or if pip would take another build
"""

import subprocess
import sys

BUILDS = ("tensorflow", "tensorflow-gpu", "tensorflow-cpu", "nvidia-tensorflow")
# What the image's TensorFlow was compiled or tested against.
WITH_IT = (
    "numpy",
    "protobuf",
    "tensorboard",
    "nvidia-tensorboard",
    "tensorflow-estimator",
    "horovod",
    "nvidia-horovod",
)


def installed():
    """dict distribution name -> version of all that pip sees."""
    listing = subprocess.check_output([sys.executable, "-m", "pip", "list", "--format=freeze"], universal_newlines=True)
    return dict(line.strip().split("==", 1) for line in listing.splitlines() if "==" in line)


def constraints(versions):
    """Constraint lines: what is there stays, other builds of TensorFlow cannot come."""
    names = {name.lower().replace("_", "-"): name for name in versions}
    lines = []
    for name in BUILDS + WITH_IT:
        if name in names:
            lines.append("%s==%s" % (name, versions[names[name]]))
        elif name in BUILDS:
            lines.append("%s<0" % name)
    return lines


def main(task, path):
    """Command line."""
    lines = constraints(installed())
    if not any("==" in line for line in lines if line.split("==")[0] in BUILDS):
        sys.exit("keep_tensorflow: this base image has no TensorFlow that pip knows of")
    if task == "write":
        with open(path, "w") as handle:
            handle.write("\n".join(lines) + "\n")
        print("\n".join(lines))
        return
    with open(path) as handle:
        before = handle.read().split()
    changed = sorted(set(before) - set(lines))
    if changed:
        sys.exit("keep_tensorflow: pip changed %s; now %s" % (", ".join(changed), ", ".join(lines)))
    here = next(line.split("==")[1] for line in lines if line.split("==")[0] in BUILDS and "==" in line)
    another = "1.15.4" if here.startswith("1.") else "2.19.0"
    other = [sys.executable, "-m", "pip", "install", "--no-deps", "-c", path, "tensorflow==" + another]
    tried = subprocess.run(other, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    if tried.returncode == 0:
        sys.exit("keep_tensorflow: pip could install another TensorFlow in spite of the constraints")
    refusal = [line for line in tried.stdout.splitlines() if line.startswith("ERROR")]
    print("pip refuses another TensorFlow: %s" % (refusal or [tried.stdout])[0])


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in ("write", "check"):
        sys.exit(__doc__)
    main(*sys.argv[1:])
