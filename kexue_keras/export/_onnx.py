"""A TensorFlow graph of constants as ONNX, with float32 matrices or with matrices of whole numbers.

tf2onnx 1.16.1 turns `where` into a sum of products, where a masked -inf times 0 is NaN, and a square into a product, in
which onnxruntime does not see a layer normalisation; both have a handler here. What of bert4keras it does not know at
all (`BroadcastArgs`), `backend.inference_graph` leaves out.
"""

import logging
import os
import tempfile

import numpy as np
import tensorflow as tf

from kexue_keras.backend import tf1
from kexue_keras.errors import UserError
from kexue_keras.exported.graphs import INPUTS, OUTPUT

# The newest that onnxruntime 1.10 knows in full, the last one for the numpy of TensorFlow 1.15.
OPSET = 13
# The others (average pooling for means, ...) hide patterns that onnxruntime fuses, or find nothing in such a graph.
SIMPLIFICATIONS = ("optimize_transpose", "fold_constants", "merge_duplication", "remove_identity")


def to_onnx(graph_def):
    """ONNX model (protobuf) of a GraphDef with the inputs and the output of `exported.graphs`.

    Raises:
        UserError: tf2onnx is not installed, or does not know an op.
    """
    tfonnx, optimizer = _tf2onnx()
    names = {name + ":0": name for name in INPUTS + (OUTPUT,)}
    with _quiet(), tf.Graph().as_default() as graph:
        tf1.import_graph_def(graph_def, name="")
        try:
            made = tfonnx.process_tf_graph(
                graph,
                opset=OPSET,
                input_names=[name + ":0" for name in INPUTS],
                output_names=[OUTPUT + ":0"],
                custom_op_handlers={"Select": (_where, []), "SelectV2": (_where, []), "Square": (_power, [])},
                tensors_to_rename=names,
            )
        except Exception as error:  # of many classes, with what it does not know
            raise UserError("tf2onnx cannot convert it: %s" % " ".join(str(error).split()))
        every = optimizer._get_optimizers()
        made = optimizer.optimize_graph(made, optimizers={name: every[name] for name in SIMPLIFICATIONS})
        return made.make_model("kexue_keras")


def to_int8(source, target):
    """Write the file `source` with int8 matrices, a scale for each column; activations are rounded as they come.

    Matrices get 7 of the 8 bits: on processors without VNNI sums of two products of 8 bits overflow.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


def write_onnx(graph_def, path, *, int8=False):
    """Write a GraphDef as ONNX.

    Raises:
        UserError: as `to_onnx`.
    """
    data = to_onnx(graph_def).SerializeToString()
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as folder:
        float_path = os.path.join(folder, "float.onnx") if int8 else path
        with open(float_path, "wb") as handle:
            handle.write(data)
        if int8:
            to_int8(float_path, path)


def _where(ctx, node, name, args):
    node.type = "Where"


def _power(ctx, node, name, args):
    two = ctx.make_const(name + "/two", np.array(2, "float32"))
    node.type = "Pow"
    node.input.append(two.output[0])


def _tf2onnx():
    try:
        import onnxruntime  # noqa: F401
        from tf2onnx import optimizer, tfonnx
    except ImportError as error:
        raise UserError('to export ONNX takes tf2onnx and onnxruntime: pip install "kexue-keras[export]" (%s)' % error)
    return tfonnx, optimizer


class _quiet(object):
    """Context in which tf2onnx and onnxruntime report nothing below an error."""

    def __enter__(self):
        logging.disable(logging.WARNING)

    def __exit__(self, *error):
        logging.disable(logging.NOTSET)
