"""A model's layers on other tensors than its own, every position a row `[N, d]`, without a trace in the model.

Keras calls a layer with `[batch, length, d]`. Here batch and length are one axis, for a whole source as for the one new
token of each beam; so a matrix product is one operation, and the same code serves for both.
"""

import contextlib

import tensorflow as tf
from bert4keras import layers as parts

from kexue_keras.backend import keras
from kexue_keras.decoding._structure import IDENTITIES
from kexue_keras.models.univae._layers import ReplaceFirst


class Evaluation(object):
    """Computes tensors of a model.

    Args:
        structure: `Structure`.
        given: dict id of a model's tensor -> its value `[N, ...]`.
        positions: int32 `[N]`, the position of each row.
        attend: function(call, [q, k, v] rows `[N, d]`, rotary `[N, d]` or None) -> rows.
        prepared: dict id of a layer -> what was made of its weights once for many steps: the table of an embedding
            transposed, the kernels of a gated FeedForward as one.
    """

    def __init__(self, structure, given, *, positions, attend, prepared=None):
        self.structure = structure
        self.prepared = prepared or {}
        self.values = dict(given)
        self.positions = positions
        self.attend = attend

    def compute(self, tensors):
        """The values of the model's `tensors`, in a list."""
        known = [t for call in self.structure.calls for t in call.outputs if id(t) in self.values]
        for call in self.structure.ancestors(tensors, stop=known):
            inputs = [self.values[id(tensor)] for tensor in self.structure.needs(call)]
            self.values[id(call.outputs[0])] = self._value(call, inputs)
        return [self.values[id(tensor)] for tensor in tensors]

    def _value(self, call, inputs):
        layer = call.layer
        if self.structure.is_attention(call):
            return self.attend(call, inputs[:3], inputs[3] if len(inputs) > 3 else None)
        if isinstance(layer, keras.layers.InputLayer):
            raise KeyError("the value of the input %s is missing" % layer.name)
        if isinstance(layer, IDENTITIES):
            return inputs[0]
        if isinstance(layer, (parts.PositionEmbedding, parts.SinusoidalPositionEmbedding)):
            with own_positions(layer):
                return layer.call([inputs[0] if inputs else None, self.positions])
        if isinstance(layer, ReplaceFirst):
            return tf.where(tf.broadcast_to(self.positions[:, None] < 1, tf.shape(inputs[0])), inputs[1], inputs[0])
        if call.arguments.get("mode") == "dense":
            return tf.matmul(inputs[0], self.prepared[id(layer)])
        if isinstance(layer, parts.FeedForward) and type(layer).call is parts.FeedForward.call:
            return feed_forward(layer, inputs[0], self.prepared.get(id(layer)))
        if isinstance(layer, keras.layers.Dense) and type(layer).call is keras.layers.Dense.call:
            return dense(layer, inputs[0], activation=call.outputs[0] is not self.structure.without_softmax)
        return layer.call(inputs if len(inputs) > 1 else inputs[0], **call.arguments)


def dense(layer, x, activation=True):
    """A Dense layer on rows `[N, d]`, without its activation if that is not wanted."""
    x = tf.matmul(x, layer.kernel)
    if layer.use_bias:
        x = tf.nn.bias_add(x, layer.bias)
    return layer.activation(x) if activation and layer.activation is not None else x


def fused(layers):
    """(kernel `[d, sum of units]`, bias or None) of several Dense layers on the same rows, to be computed as one."""
    kernel = tf.concat([layer.kernel for layer in layers], axis=1)
    return kernel, tf.concat([layer.bias for layer in layers], axis=0) if layers[0].use_bias else None


def together(weights, x):
    """Rows `[N, sum of units]` of what `fused` returned."""
    x = tf.matmul(x, weights[0])
    return x if weights[1] is None else tf.nn.bias_add(x, weights[1])


def is_gated(layer):
    """Whether a layer is bert4keras' FeedForward with several gates on the same input."""
    return type(layer).call is parts.FeedForward.call and len(layer.activation) > 1


def gates(layer):
    """The Dense layers of a bert4keras FeedForward that are multiplied with each other."""
    return [getattr(layer, "i%d_dense" % i) for i in range(len(layer.activation))]


def feed_forward(layer, x, weights=None):
    """A bert4keras FeedForward layer on rows `[N, d]`; `weights` are its gates `fused`, or None."""
    if weights is None:
        values = [dense(gate, x) for gate in gates(layer)]
    else:
        values = tf.split(together(weights, x), len(layer.activation), axis=1)
        values = [gate.activation(value) for gate, value in zip(gates(layer), values)]
    y = values[0]
    for value in values[1:]:
        y = y * value
    return dense(layer.o_dense, y)


@contextlib.contextmanager
def own_positions(layer):
    """While this context is open, a position layer takes the position ids beside its input."""
    before, layer.custom_position_ids = layer.custom_position_ids, True
    try:
        yield
    finally:
        layer.custom_position_ids = before
