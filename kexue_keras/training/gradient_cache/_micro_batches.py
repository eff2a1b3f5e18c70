"""A function of the rows of a batch, computed in micro batches, forward and backward, with the memory of one.

Forward: a loop that keeps the results and nothing else, and the last micro batch, which keeps all. Backward: the last
micro batch, then a second loop that computes each other one once more, with all that its gradient needs, sends the
gradient of the result back through it, and adds up the gradients of the weights. This is what gradient caching does
between its two passes; the rest of the graph sees an ordinary differentiable op.

对比学习可以使用梯度累积吗？, kexue.fm/archives/8471. Paper: GradCache, arXiv 2101.06983.
"""

import tensorflow as tf

from kexue_keras.backend import tf1
from kexue_keras.optimizers._gradients import is_sparse


class MicroBatches(object):
    """The rows of some tensors, cut into micro batches of about equal size.

    Args:
        tensors: list of tensors that have the same first axis, and None where there is none.
        size: int, most rows per micro batch.

    Attributes:
        rows, count: int tensors, number of rows and of micro batches.
    """

    def __init__(self, tensors, size):
        self.tensors = tensors
        self.rows = tf.shape(next(t for t in tensors if t is not None))[0]
        # An empty batch is one empty micro batch, so that there is a result to join.
        self.count = tf.maximum(1, (self.rows + size - 1) // size)
        # As equal as possible: three rows left over would cost nearly as much as a whole micro batch.
        self._size = (self.rows + self.count - 1) // self.count

    def take(self, tensor, number):
        """The rows of `tensor` that belong to a micro batch; None gives None."""
        if tensor is None:
            return None
        part = tensor[number * self._size : tf.minimum(self.rows, (number + 1) * self._size)]
        part.set_shape([None] + tensor.shape.as_list()[1:])
        return part

    def __getitem__(self, number):
        return [self.take(t, number) for t in self.tensors]


def in_micro_batches(function, tensors, *, size, dtype, weights, trainable):
    """`function` of all rows, computed in micro batches; differentiable once.

    Args:
        function: function(list of tensors, number of the micro batch as an int tensor) -> tensor [its rows, d].
            It is built three times, and must give the same each time: what is random has to come from the number.
        tensors: list of tensors [rows, ...], and of None.
        size: int, most rows per micro batch.
        dtype: what `function` returns.
        weights: list of resource variables that `function` reads.
        trainable: function without arguments -> those of the weights for which gradients are wanted when they are.

    Returns:
        tensor [rows, d]. Gradients flow to the weights (as dense tensors) and to the floating point tensors.
    """
    batches = MicroBatches(tensors, size)
    result, last = _forward(function, batches, dtype)
    places = [i for i, t in enumerate(tensors) if t is not None and t.dtype.is_floating]
    reads = [tf.convert_to_tensor(w) for w in weights]

    @tf.custom_gradient
    def joined(value, *sources):
        def gradient(upstream):
            wanted = {id(w) for w in trainable()}
            used = [w for w in weights if id(w) in wanted]
            sums, inputs = _backward(function, batches, last, tf.convert_to_tensor(upstream), used, places)
            found = _differentiable_once([g for g in inputs + sums if g is not None])
            inputs, sums = ([None if g is None else found.pop(0) for g in part] for part in (inputs, sums))
            of_weight = {id(w): g for w, g in zip(used, sums)}
            return [None] + inputs + [of_weight.get(id(w)) for w in weights]

        return tf.identity(value), gradient

    return joined(tf.stop_gradient(result), *([tensors[i] for i in places] + reads))


class _MicroBatch(object):
    """One micro batch as it is in the graph: its number, its rows of all tensors, and what became of them."""

    def __init__(self, function, batches, number):
        self.number, self.tensors = number, batches[number]
        self.result = function(self.tensors, number)

    def gradients(self, batches, upstream, weights, places):
        """Gradients of the weights and of the tensors at `places`, None where there is none."""
        sources = list(weights) + [self.tensors[i] for i in places]
        found = tf.gradients(self.result, sources, grad_ys=batches.take(upstream, self.number))
        return found[: len(weights)], found[len(weights) :]


def _forward(function, batches, dtype):
    """The result of all micro batches, and the last of them, of which all is kept: nothing comes between it and its
    backward pass but the loss, so that it need not be computed again."""

    def body(number, parts):
        return number + 1, parts.write(number, function(batches[number], number))

    parts = _array(dtype, batches)
    # One at a time; parallel iterations would hold as many in memory.
    number, parts = tf1.while_loop(
        lambda number, _: number < batches.count - 1, body, (0, parts), parallel_iterations=1, back_prop=False
    )
    # The rows of a micro batch are cut out by its number, so the last micro batch waits for the others.
    with tf.control_dependencies([parts.flow]):
        number = tf.identity(number)
    last = _MicroBatch(function, batches, number)
    result = parts.write(last.number, last.result).concat()
    result.set_shape([None] + last.result.shape.as_list()[1:])
    return result, last


def _backward(function, batches, last, upstream, weights, places):
    """Gradients of the weights, and of the tensors at `places`; None for what does not take part."""
    of_weights, of_inputs = last.gradients(batches, upstream, weights, places)
    # In half precision a sum of many micro batches would lose the small ones.
    sums = [
        None if g is None else _add(tf.zeros(w.shape, tf.float32 if w.dtype.size < 4 else w.dtype.base_dtype), g)
        for g, w in zip(of_weights, weights)
    ]
    inputs = [
        None if g is None else _array(batches.tensors[i].dtype, batches).write(last.number, g)
        for g, i in zip(of_inputs, places)
    ]

    def body(number, sums, inputs):
        of_weights, of_inputs = _MicroBatch(function, batches, number).gradients(batches, upstream, weights, places)
        sums = [_add(s, g) for s, g in zip(sums, _present(of_weights))]
        inputs = [a.write(number, g) for a, g in zip(inputs, _present(of_inputs))]
        return number + 1, sums, inputs

    # What is kept of the last micro batch has to be gone before the first one is computed.
    with tf.control_dependencies(_present(sums) + [a.flow for a in _present(inputs)]):
        first = tf.constant(0)
    _, totals, arrays = tf1.while_loop(
        lambda number, *_: number < last.number,
        body,
        (first, _present(sums), _present(inputs)),
        parallel_iterations=1,
        back_prop=False,
    )
    sums = [None if s is None else tf.cast(totals.pop(0), w.dtype.base_dtype) for s, w in zip(sums, weights)]
    return sums, [None if a is None else arrays.pop(0).concat() for a in inputs]


def _array(dtype, batches):
    return tf.TensorArray(dtype, batches.count, infer_shape=False)


def _present(values):
    return [v for v in values if v is not None]


def _add(total, gradient):
    if is_sparse(gradient):
        # In place: the dense gradient of an embedding would be one more matrix.
        values = tf.cast(gradient.values, total.dtype)
        return tf.tensor_scatter_nd_add(total, gradient.indices[:, None], values)
    return total + tf.cast(gradient, total.dtype)


def _differentiable_once(gradients):
    """The same gradients, which raise an error when differentiated again: a loop without second derivatives would
    answer "none", and a penalty on gradients would silently have no effect."""

    @tf.custom_gradient
    def first(*values):
        def second(*_):
            raise LookupError(
                "GradientCache has no second derivatives, which a penalty on gradients needs (GradientPenalty); "
                "train the encoder itself, or leave the penalty out"
            )

        return [tf.identity(v) for v in values], second

    return list(first(*gradients)) if gradients else []
