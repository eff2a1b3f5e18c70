"""Which versions are installed, which are needed, and the pip line that mends a mismatch.

Plain Python without TensorFlow or Keras, so that `kexue-keras doctor` can still explain an environment in
which `import kexue_keras` fails.
"""

import sys
from collections import namedtuple

try:
    from importlib import metadata
except ImportError:  # Python 3.7
    import importlib_metadata as metadata

from packaging.version import Version

Problem = namedtuple("Problem", "package found needed mend why")

# NVIDIA's images name their build nvidia-tensorflow; the others are PyPI's names of the same thing.
TENSORFLOW_NAMES = ("tensorflow", "nvidia-tensorflow", "tensorflow-gpu", "tensorflow-cpu", "intel-tensorflow")


class UnusableEnvironment(ImportError):
    """Raised by `import kexue_keras` when the installed versions are known not to work together."""


def installed(name):
    """Version string of the distribution `name`, or None.

    >>> installed('surely-not-installed') is None
    True
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def installed_tensorflow():
    """(distribution name, version string) of TensorFlow, or (None, None)."""
    for name in TENSORFLOW_NAMES:
        version = installed(name)
        if version is not None:
            return name, version
    return None, None


def is_tensorflow_2():
    """Whether the TensorFlow of this Python is version 2 or later."""
    version = installed_tensorflow()[1]
    return version is not None and not older(version, "2")


def older(version, bound):
    """Whether one version comes before another."""
    return Version(version) < Version(bound)


def find_problems(tf_keras, versions=None):
    """List what is known not to work among the installed versions.

    Args:
        tf_keras: bool, whether tf.keras is asked for (`TF_KERAS=1`).
        versions: dict distribution name -> version string; the installed ones if None. The key `tensorflow`
            stands for any build of TensorFlow.

    Returns:
        list of `Problem(package, found, needed, mend, why)`, empty if nothing is wrong.

    >>> broken = dict(tensorflow='1.15.5', keras='2.3.1', h5py='3.1.0', bert4keras='0.11.5')
    >>> [problem.package for problem in find_problems(False, broken)]
    ['h5py']
    """
    if versions is None:
        versions = {name: installed(name) for name in ("keras", "tf-keras", "h5py", "protobuf", "bert4keras", "numpy")}
        versions["tensorflow"] = installed_tensorflow()[1]
    tensorflow = versions.get("tensorflow")
    keras = versions.get("keras")
    h5py = versions.get("h5py")
    protobuf = versions.get("protobuf")
    bert4keras = versions.get("bert4keras")
    numpy = versions.get("numpy")
    problems = []

    def add(*row):
        problems.append(Problem(*row))

    if tensorflow is None:
        if sys.version_info[:2] == (3, 7):
            mend = "pip install tensorflow==1.15.5 'protobuf<3.21' 'h5py<3'"
        else:
            mend = (
                "use CPython 3.7 (PyPI has TensorFlow 1.15 wheels for it), the image "
                "nvcr.io/nvidia/tensorflow:21.09-tf1-py3, or TensorFlow 2.16+: "
                "pip install 'tensorflow>=2.16' tf-keras"
            )
        add("tensorflow", "none", "1.15.x", mend, "no TensorFlow was found in this Python")
        return problems
    is_tf1 = older(tensorflow, "2")
    if is_tf1 and older(tensorflow, "1.15"):
        add("tensorflow", tensorflow, "1.15.x", "pip install tensorflow==1.15.5", "parts we call are missing")
    if not is_tf1 and not tf_keras:
        add(
            "tensorflow",
            tensorflow,
            "1.15.x, or TF_KERAS=1",
            "pip install tensorflow==1.15.5, or leave TF_KERAS alone, or set TF_KERAS=1",
            "Keras 2.3.1 does not run on TensorFlow 2",
        )
    if not is_tf1 and older(tensorflow, "2.16"):
        add(
            "tensorflow",
            tensorflow,
            "1.15.x, or 2.16 and later",
            "pip install 'tensorflow>=2.16' tf-keras",
            "what lies between was never tried",
        )
    elif not is_tf1 and versions.get("tf-keras") is None:
        mend = "pip install 'tf-keras~=%s.0'" % ".".join(tensorflow.split(".")[:2])
        add("tf-keras", "none", "that of TensorFlow %s" % tensorflow, mend, "bert4keras is written for Keras 2")
    if bert4keras is None or older(bert4keras, "0.11.3"):
        add(
            "bert4keras",
            bert4keras or "none",
            ">=0.11.3",
            # It asks pip for Keras 2.3.1, which does not go with TensorFlow 2 and is not used there.
            "pip install %sbert4keras==0.11.5" % ("" if is_tf1 else "--no-deps "),
            "the model classes we extend look different in older releases",
        )
    if not tf_keras and keras is None:
        add(
            "keras",
            "none",
            "2.3.1",
            "pip install keras==2.3.1, or set TF_KERAS=1",
            "without TF_KERAS=1 bert4keras imports the package keras",
        )
    elif not tf_keras and Version(keras) != Version("2.3.1"):
        add(
            "keras",
            keras,
            "2.3.1",
            "pip install keras==2.3.1, or set TF_KERAS=1",
            "multi-backend Keras other than 2.3.1 does not work with bert4keras on TensorFlow 1.15",
        )
    if is_tf1 and h5py is not None and not older(h5py, "3"):
        add(
            "h5py",
            h5py,
            "<3",
            "pip install 'h5py<3'",
            "Keras of that time calls .decode() on what h5py 3 returns as str, so loading weights fails",
        )
    if is_tf1 and protobuf is not None and not older(protobuf, "3.21"):
        add(
            "protobuf",
            protobuf,
            "<3.21",
            "pip install 'protobuf<3.21'",
            "the generated code inside TensorFlow 1.15 cannot be created by protobuf 4",
        )
    if is_tf1 and numpy is not None and not older(numpy, "1.24"):
        add(
            "numpy",
            numpy,
            "<1.24",
            "pip install 'numpy<1.24'",
            "TensorFlow 1.15 uses np.bool and np.object, which numpy 1.24 removed",
        )
    return problems


def explain(problems):
    """The problems as text: one line each with what was found, what is needed and the mend."""
    lines = ["kexue_keras cannot be used with the installed versions:"]
    for p in problems:
        lines.append("  %s: found %s, needs %s (%s). Mend: %s" % (p.package, p.found, p.needed, p.why, p.mend))
    lines.append("`kexue-keras doctor` prints the whole picture.")
    return "\n".join(lines)


def check(tf_keras):
    """Raise `UnusableEnvironment` with the mend if the installed versions are known not to work."""
    problems = find_problems(tf_keras)
    if problems:
        raise UnusableEnvironment(explain(problems))
