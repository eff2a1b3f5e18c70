"""The graph of an exported folder as a function of arrays: with onnxruntime, or with TensorFlow for a SavedModel."""

import os

from kexue_keras.errors import UserError

INPUTS, OUTPUT = ("token_ids", "segment_ids"), "output"
# Name of the file or folder by format.
PLACES = {"savedmodel": "saved_model", "onnx": "model.onnx", "onnx-int8": "model.onnx"}


def open_graph(folder, format, *, threads=None):
    """Function of [token ids, segment ids], int32 `[B, n]`, that any thread may call.

    Raises:
        UserError: a file is missing or damaged, or the package that runs it is not installed.
    """
    path = os.path.join(folder, PLACES[format])
    if not os.path.exists(path):
        raise UserError("no such file; export the model again", path=path)
    return (_saved_model if format == "savedmodel" else _onnx)(path, threads)


def usable_cores():
    """How many cores this process may use; hardware threads of the same core count once."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # no Linux
        return os.cpu_count() or 1
    cores = set()
    for number in allowed:
        try:
            with open("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list" % number) as handle:
                cores.add(handle.read().strip())
        except OSError:
            cores.add(str(number))
    return len(cores)


def _onnx(path, threads):
    try:
        import onnxruntime
    except ImportError:
        raise UserError('an ONNX model takes onnxruntime: pip install "kexue-keras[export]"', path=path)
    options = onnxruntime.SessionOptions()
    # onnxruntime 1.10 takes half the logical processors by itself, a single one of two.
    options.intra_op_num_threads = threads or usable_cores()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class of their own in all versions
        raise UserError("onnxruntime cannot read it: %s" % " ".join(str(error).split()), path=path)
    return lambda arrays: session.run([OUTPUT], dict(zip(INPUTS, arrays)))[0]


def _saved_model(path, threads):
    try:
        import tensorflow as tf
    except ImportError:
        raise UserError("a SavedModel takes TensorFlow, or TensorFlow Serving; export it as onnx to do without")
    tf1 = tf.compat.v1
    graph = tf.Graph()
    config = tf1.ConfigProto(intra_op_parallelism_threads=threads or 0)
    session = tf1.Session(graph=graph, config=config)
    try:
        with graph.as_default():
            found = tf1.saved_model.load(session, ["serve"], path).signature_def["serving_default"]
    except Exception as error:  # of many classes: DecodeError, OSError, KeyError, ...
        raise UserError("TensorFlow cannot read it: %s" % " ".join(str(error).split()), path=path)
    run = session.make_callable(found.outputs[OUTPUT].name, [found.inputs[name].name for name in INPUTS])
    return lambda arrays: run(*arrays)
