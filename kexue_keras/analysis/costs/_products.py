"""Floating point operations of matrix products and convolutions, counted in the graph with the shapes of a run."""

import re

import numpy as np
import tensorflow as tf

_MATRIX = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3")
_CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")
PRODUCTS = _MATRIX + _CONVOLUTIONS + ("Einsum",)


def operations(op, inputs, output):
    """Operations of one product; a multiplication and an addition are two.

    Args:
        op: operation of one of the types `PRODUCTS`.
        inputs: list of the shapes of its inputs.
        output: shape of its output.

    Returns:
        int.

    >>> a, b = (tf.compat.v1.placeholder('float32', shape) for shape in ([2, 3], [3, 5]))
    >>> operations(tf.matmul(a, b).op, [(2, 3), (3, 5)], (2, 5))
    60
    """
    size = int(np.prod(output, dtype="int64"))
    if op.type in _MATRIX:
        name = "transpose_a" if op.type == "MatMul" else "adj_x"
        return 2 * size * int(inputs[0][-2 if op.get_attr(name) else -1])
    if op.type == "Einsum":
        return 2 * int(np.prod(list(_sizes(op.get_attr("equation").decode(), inputs).values()), dtype="int64"))
    height, width, channels = inputs[1][:3]
    return 2 * size * int(height) * int(width) * (int(channels) if op.type == "Conv2D" else 1)


def _sizes(equation, shapes):
    """Size of each letter, and of each dimension that three dots stand for."""
    sizes = {}
    for term, shape in zip(equation.split("->")[0].split(","), shapes):
        named = len(re.sub(r"\.", "", term))
        letters = list(term.replace("...", "".join(chr(0x100 + i) for i in range(len(shape) - named))))
        for letter, size in zip(letters, shape):
            sizes[letter] = max(sizes.get(letter, 1), int(size))
    return sizes


def shapes_of(ops):
    """Tensors with the shapes of the inputs and outputs of ops: a list of (inputs, output) for `session.run`."""
    return [([tf.shape(tensor) for tensor in op.inputs], tf.shape(op.outputs[0])) for op in ops]
