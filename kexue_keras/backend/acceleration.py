"""What decides how fast TensorFlow runs: sessions, environment, half precision."""

import ctypes
import os
import re
import tempfile

import tensorflow as tf

from kexue_keras import versions
from kexue_keras.backend.sessions import present_session
from kexue_keras.backend.stack import is_tf2, tf1


def sessions_created():
    """How many TensorFlow sessions this process has made so far; TensorFlow reads its XLA flags at the first one."""
    from tensorflow.python.client import session

    return session._python_session_create_counter.get_cell().value()


def keras_has_session():
    """Whether a session exists in which Keras would keep running; `K.clear_session()` takes Keras' own away."""
    return present_session() is not None


def has_gpu():
    """Whether the driver knows a GPU.

    On TensorFlow 2 CUDA is asked, since TensorFlow reads its XLA flags when it lists the devices.
    """
    if not is_tf2:
        return bool(tf.config.experimental.list_physical_devices("GPU"))
    try:
        cuda, count = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(0)
        return cuda.cuInit(0) == 0 and cuda.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0
    except OSError:
        return False


def prediction_batching():
    """Keyword arguments of `data.PredictionBatches` that fit the device: none on a processor.

    A GPU wants all rows at once. XLA compiles each length anew, so that lengths are to be few.

    >>> sorted(prediction_batching())
    []
    """
    compiled = any(flag.startswith("--tf_xla_auto_jit") for flag in environment_variable("TF_XLA_FLAGS").split())
    return {"rounding": 8, "most_tokens": None} if compiled or has_gpu() else {}


def erf_is_slow():
    """Whether the error function goes through the numbers one by one: on a processor, in a TensorFlow before erfinv.

    It takes a quarter of the time of a prediction there.
    """
    return not hasattr(tf.math, "erfinv") and not has_gpu()


def exchange_compilation(on):
    """Let sessions made from now on compile with XLA, on TensorFlow 2 also after it has listed the devices.

    On TensorFlow 1.15 the environment alone decides.

    Returns:
        how it was before, for putting it back.
    """
    if not is_tf2:
        return None
    before = tf.config.optimizer.get_jit()
    tf.config.optimizer.set_jit("autoclustering" if on else "")
    return before


def exchange_environment(values):
    """Set environment variables and return what they were before.

    Args:
        values: dict name -> str, or None to remove it.

    Returns:
        dict of the same form, for putting all back.
    """
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return before


def environment_variable(name):
    """Value of an environment variable, "" if it is not set."""
    return os.environ.get(name, "")


def nvidia_release():
    """NVIDIA's release of TensorFlow ("21.09-tf1", "1.15.5+nv21.09"), or None for one that is not theirs.

    Theirs has its own switches: `TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE`, `--tf_xla_auto_jit=fusible`.
    """
    name, version = versions.installed_tensorflow()
    named = version if name == "nvidia-tensorflow" or "+nv" in (version or "") else None
    return os.environ.get("NVIDIA_TENSORFLOW_VERSION") or named


def exchange_mixed_precision(on):
    """Turn TensorFlow's rewriting of float32 into float16 on or off for sessions made from now on.

    Args:
        on: True, False, or what an earlier call returned.

    Returns:
        how it was before, for putting it back.

    Raises:
        RuntimeError: a Keras `Policy` other than the default is set; TensorFlow refuses both at once.
    """
    from tensorflow.python.training.experimental import mixed_precision_global_state as state

    name = "mixed_precision_graph_rewrite_is_enabled"
    functions = not hasattr(state, name)  # TensorFlow 2.4 and later
    before = state.is_mixed_precision_graph_rewrite_enabled() if functions else getattr(state, name)
    policy = state.is_using_mixed_precision_policy() if functions else not state.using_default_mixed_precision_policy
    if on and policy:
        raise RuntimeError(
            "a Keras mixed precision policy is set, which bert4keras' models do not support and which cannot go "
            "together with the rewriting of the graph; set the policy 'float32' back first"
        )
    # The first is what sessions ask that have a configuration of their own, the second all others.
    if functions:
        state.set_mixed_precision_graph_rewrite_enabled(bool(on))
    else:
        setattr(state, name, bool(on))
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": True if on else None})
    return before


def is_mixed_precision_on():
    """Whether sessions made now rewrite float32 into float16, by TensorFlow's switch or NVIDIA's."""
    if os.environ.get("TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE", "0") not in ("", "0"):
        return True
    return bool(tf.config.optimizer.get_experimental_options().get("auto_mixed_precision"))


def rewritten_to_half(graph_def, fetches):
    """What TensorFlow's rewriting for mixed precision makes of a graph on a GPU with tensor cores; needs no GPU.

    All nodes are placed on a virtual GPU of compute capability 8.0, and only this one optimizer of grappler runs.
    The result is for looking at; it cannot be run.

    Args:
        graph_def: `GraphDef`.
        fetches: names of the nodes that are to be computed.

    Returns:
        `GraphDef` with half-precision nodes and `Cast` nodes.

    Raises:
        RuntimeError: this TensorFlow has no such optimizer.
    """
    from tensorflow.core.protobuf import device_properties_pb2
    from tensorflow.python.grappler import cluster, tf_optimizer

    gpu = "/job:localhost/replica:0/task:0/device:GPU:0"
    meta_graph = tf1.MetaGraphDef()
    meta_graph.graph_def.CopyFrom(graph_def)
    for node in meta_graph.graph_def.node:
        node.device = gpu
    meta_graph.collection_def["train_op"].node_list.value.extend(fetches)
    config = tf1.ConfigProto()
    options = config.graph_options.rewrite_options
    options.optimizers.append("auto_mixed_precision")
    options.auto_mixed_precision = options.ON
    options.meta_optimizer_iterations = options.ONE
    options.min_graph_nodes = -1
    card = device_properties_pb2.DeviceProperties(type="GPU", num_cores=80, frequency=1400, memory_size=16 << 30)
    card.environment["architecture"] = "8.0"
    card.environment["cuda"] = "11040"
    card.environment["cudnn"] = "8204"
    named = device_properties_pb2.NamedDevice(name=gpu, properties=card)
    rewritten = tf_optimizer.OptimizeGraph(config, meta_graph, verbose=False, cluster=cluster.Cluster(devices=[named]))
    if rewritten is None or not rewritten.node:
        raise RuntimeError("TensorFlow %s could not rewrite the graph for mixed precision" % tf.__version__)
    return rewritten


def half_precision_lists():
    """The operations in the lists by which this TensorFlow decides what is cast to float16.

    Returns:
        dict with the sets 'white' (always), 'black' (never), 'gray' and 'clear' (between others).
    """
    names = {"White": "white", "Black": "black", "Gray": "gray", "Clear": "clear"}
    names.update(Allow="white", Deny="black", Infer="gray")
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default() as graph:
        tf.identity(tf.matmul(tf1.placeholder("float32", (1, 1)), tf.ones((1, 1))), name="product")
        before = exchange_environment({"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_LOG_PATH": folder})
        try:
            rewritten_to_half(graph.as_graph_def(), ["product"])
        finally:
            exchange_environment(before)
        lists = {}
        for name in os.listdir(folder):
            if name.startswith("paintbuckets"):
                with open(os.path.join(folder, name)) as handle:
                    parts = re.split(r"(\w+)List:\n", handle.read())[1:]
                lists = {names[t]: set(ops.split()) for t, ops in zip(parts[::2], parts[1::2]) if t in names}
    if set(lists) != {"white", "black", "gray", "clear"}:
        raise RuntimeError("TensorFlow %s does not tell which operations it casts to float16" % tf.__version__)
    return lists
