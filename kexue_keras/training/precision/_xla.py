"""XLA: TensorFlow compiles what it can of the graph, in the modes that the article tries.

Article: 在bert4keras中使用混合精度和XLA加速训练 (kexue.fm/archives/9059). The switches are environment variables that
TensorFlow reads once in a process, when its first session is made.
"""

import subprocess
import sys

import tensorflow as tf

from kexue_keras import backend, checks
from kexue_keras.options.choices import XLA_FLAGS
from kexue_keras.training.precision._mixed_precision import Acceleration

VARIABLE = "TF_XLA_FLAGS"
ON_CPU = "--tf_xla_cpu_global_jit"
# Counts what of a small graph is compiled. A separate process, since the flags are read once per process.
PROBE = """
import tensorflow as tf
tf1 = tf.compat.v1
with tf.Graph().as_default():
    x = tf1.placeholder("float32", [None, 4])
    y = x
    for _ in range(6):
        y = tf.tanh(y) * 2.0 + tf.exp(y * 0.1)
    ran = tf1.RunMetadata()
    with tf1.Session(config=tf1.ConfigProto(device_count={"GPU": 0})) as session:
        session.run(y, {x: [[1.0] * 4]}, tf1.RunOptions(output_partition_graphs=True), ran)
print("clusters", sum(node.op == "_XlaRun" for graph in ran.partition_graphs for node in graph.node))
"""


def xla_flags(mode="auto", *, on_cpu=None):
    """What `TF_XLA_FLAGS` has to be for a mode, added to what it is.

    Args:
        mode: 'auto', 'full' or 'lite', see `enable_xla`.
        on_cpu: bool, whether nodes on the CPU are compiled too; None for where there is no GPU.

    Raises:
        ValueError: unknown mode.

    >>> from kexue_keras.training.precision._xla import xla_flags
    >>> xla_flags('lite', on_cpu=False)
    '--tf_xla_auto_jit=fusible'
    """
    checks.choice(mode, XLA_FLAGS, "mode", "enable_xla")
    if on_cpu is None:
        on_cpu = not backend.has_gpu()
    # If a flag is given twice, the last one counts.
    given = backend.environment_variable(VARIABLE).split()
    wanted = XLA_FLAGS[mode].split() + [ON_CPU] * bool(on_cpu)
    return " ".join([flag for flag in given if flag not in wanted] + wanted)


def xla_compiles(mode="auto"):
    """Whether this TensorFlow compiles anything with a mode; takes a few seconds, in a separate process.

    'lite' is NVIDIA's and TensorFlow 2's: stock TensorFlow 1.15 silently ignores the flag.

    Args:
        mode: as for `enable_xla`.

    Raises:
        ValueError: unknown mode.
    """
    before = backend.exchange_environment({VARIABLE: xla_flags(mode, on_cpu=True)})
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            universal_newlines=True,
            timeout=300,
        )
    finally:
        backend.exchange_environment(before)
    return done.returncode == 0 and "clusters" in done.stdout and int(done.stdout.split()[-1]) > 0


def enable_xla(mode: str = "auto") -> Acceleration:
    """Let XLA compile parts of the graph; on the GPU, or on the CPU where there is no GPU. Works on both Kerases.

    | mode | flags | |
    |---|---|---|
    | 'auto' | `--tf_xla_auto_jit=1` | compiles what is likely to gain, and a new shape when it has come twice |
    | 'full' | + `--tf_xla_enable_lazy_compilation=false` | compiles each new shape at once; more memory |
    | 'lite' | `--tf_xla_auto_jit=fusible` | fuses only; least memory and compile time; NVIDIA's images, TF 2 |

    Each new shape of a batch is compiled again, for seconds up to minutes: use few lengths and a fixed batch size.
    `find_fastest` measures whether it pays off at all.

    Args:
        mode: see above.

    Returns:
        `Acceleration`. `.disable()` restores the variable, for processes started from now on; in this
        one TensorFlow has read it for good once a session exists.

    Raises:
        RuntimeError: a session was made in this process already; 'lite' in a TensorFlow that does not have it.
        ValueError: unknown mode.

    Reference:
        在bert4keras中使用混合精度和XLA加速训练, kexue.fm/archives/9059
    """
    flags = xla_flags(mode)
    if backend.sessions_created():
        raise RuntimeError(
            "too late for XLA: a TensorFlow session was made in this process already (%d so far), and TensorFlow read "
            "its flags then. Call enable_xla right after the imports, in a fresh process" % backend.sessions_created()
        )
    if mode == "lite" and not xla_compiles(mode):
        raise RuntimeError(
            "mode 'lite' does nothing in TensorFlow %s (with %s no part of a graph is compiled); use mode='auto', or "
            "NVIDIA's image nvcr.io/nvidia/tensorflow:21.09-tf1-py3" % (tf.__version__, XLA_FLAGS[mode])
        )
    environment = backend.exchange_environment({VARIABLE: flags})
    compilation = backend.exchange_compilation(True)

    def put_back():
        backend.exchange_environment(environment)
        backend.exchange_compilation(compilation)

    return Acceleration(put_back, "XLA (%s)" % flags)
