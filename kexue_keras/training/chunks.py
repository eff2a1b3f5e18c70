"""A function of the rows of a batch, computed chunk by chunk, forward and backward, with the memory of one chunk.

Forward: a loop that keeps the results and nothing else. Backward: a second loop that computes each chunk once more,
with all that its gradient needs, pulls the gradient of the result through it, and adds up the gradients of the weights.
This is what gradient caching does between its two passes; the rest of the graph sees an ordinary differentiable op.

对比学习可以使用梯度累积吗？, kexue.fm/archives/8471. Paper: GradCache, arXiv 2101.06983.
"""

import tensorflow as tf

from kexue_keras.backend import tf1
from kexue_keras.optimizers.gradients import is_sparse


class Chunks(object):
    """The rows of some tensors, cut into chunks of about equal size.

    Args:
        tensors: list of tensors that have the same first axis, and None where there is none.
        size: int, most rows a chunk.

    Attributes:
        rows, count: int tensors, number of rows and of chunks.
    """

    def __init__(self, tensors, size):
        self.tensors = tensors
        self.rows = tf.shape(next(t for t in tensors if t is not None))[0]
        # An empty batch is one empty chunk, so that there is a result to join.
        self.count = tf.maximum(1, (self.rows + size - 1) // size)
        # As equal as possible: three rows left over would cost nearly as much as a whole chunk.
        self._size = (self.rows + self.count - 1) // self.count

    def take(self, tensor, number):
        """The rows of `tensor` that belong to a chunk; None gives None."""
        if tensor is None:
            return None
        part = tensor[number * self._size : tf.minimum(self.rows, (number + 1) * self._size)]
        part.set_shape([None] + tensor.shape.as_list()[1:])
        return part

    def __getitem__(self, number):
        return [self.take(t, number) for t in self.tensors]


def in_chunks(function, tensors, *, size, dtype, weights, trainable):
    """`function` of all rows, computed chunk by chunk; differentiable once.

    Args:
        function: function(list of tensors, number of the chunk as an int tensor) -> tensor [rows of the chunk, d].
            It is built twice, and must give the same both times: what is random has to come from the number.
        tensors: list of tensors [rows, ...], and of None.
        size: int, most rows a chunk.
        dtype: what `function` returns.
        weights: list of resource variables that `function` reads.
        trainable: function without arguments -> those of the weights for which gradients are wanted when they are.

    Returns:
        tensor [rows, d]. Gradients flow to the weights (as dense tensors) and to the floating point tensors.
    """
    chunks = Chunks(tensors, size)
    result = tf.stop_gradient(_forward(function, chunks, dtype))
    places = [i for i, t in enumerate(tensors) if t is not None and t.dtype.is_floating]
    reads = [tf.convert_to_tensor(w) for w in weights]

    @tf.custom_gradient
    def joined(value, *sources):
        def gradient(upstream):
            wanted = {id(w) for w in trainable()}
            used = [w for w in weights if id(w) in wanted]
            sums, inputs = _backward(function, chunks, tf.convert_to_tensor(upstream), used, places)
            found = _differentiable_once([g for g in inputs + sums if g is not None])
            inputs, sums = ([None if g is None else found.pop(0) for g in part] for part in (inputs, sums))
            of_weight = {id(w): g for w, g in zip(used, sums)}
            return [None] + inputs + [of_weight.get(id(w)) for w in weights]

        return tf.identity(value), gradient

    return joined(result, *([tensors[i] for i in places] + reads))


def _forward(function, chunks, dtype):
    def body(number, parts):
        part = function(chunks[number], number)
        shapes.append(part.shape.as_list()[1:])
        return number + 1, parts.write(number, part)

    shapes = []
    parts = tf.TensorArray(dtype, chunks.count, infer_shape=False)
    # One chunk at a time; parallel iterations would hold as many in memory.
    _, parts = tf1.while_loop(
        lambda number, _: number < chunks.count, body, (0, parts), parallel_iterations=1, back_prop=False
    )
    result = parts.concat()
    result.set_shape([None] + shapes[-1])
    return result


def _backward(function, chunks, upstream, weights, places):
    """Gradients of the weights, and of the tensors at `places`; None for what does not take part."""
    absent = {}

    def body(number, sums, inputs):
        tensors = chunks[number]
        sources = list(weights) + [tensors[i] for i in places]
        result = function(tensors, number)
        gradients = tf.gradients(result, sources, grad_ys=chunks.take(upstream, number))
        absent.update((i, g is None) for i, g in enumerate(gradients))
        of_weights, of_inputs = gradients[: len(weights)], gradients[len(weights) :]
        sums = [s if g is None else _add(s, g) for s, g in zip(sums, of_weights)]
        inputs = [a if g is None else a.write(number, g) for a, g in zip(inputs, of_inputs)]
        return number + 1, sums, inputs

    # In half precision a sum of many chunks would lose the small ones.
    sums = [tf.zeros(w.shape, tf.float32 if w.dtype.size < 4 else w.dtype.base_dtype) for w in weights]
    inputs = [tf.TensorArray(chunks.tensors[i].dtype, chunks.count, infer_shape=False) for i in places]
    _, sums, inputs = tf1.while_loop(
        lambda number, *_: number < chunks.count, body, (0, sums, inputs), parallel_iterations=1, back_prop=False
    )
    sums = [None if absent[i] else tf.cast(s, w.dtype.base_dtype) for i, (s, w) in enumerate(zip(sums, weights))]
    inputs = [None if absent[len(weights) + i] else a.concat() for i, a in enumerate(inputs)]
    return sums, inputs


def _add(total, gradient):
    if is_sparse(gradient):
        # In place: the dense gradient of an embedding would be one more matrix.
        values = tf.cast(gradient.values, total.dtype)
        return tf.tensor_scatter_nd_add(total, gradient.indices[:, None], values)
    return total + tf.cast(gradient, total.dtype)


def _differentiable_once(gradients):
    """The same gradients, which say so when a gradient of them is asked for: a loop without one would answer "none",
    and a penalty on gradients would silently be without effect."""

    @tf.custom_gradient
    def first(*values):
        def second(*_):
            raise LookupError(
                "GradientCache has no second derivatives, which a penalty on gradients needs (GradientPenalty); "
                "train the encoder itself, or leave the penalty out"
            )

        return [tf.identity(v) for v in values], second

    return list(first(*gradients)) if gradients else []
