"""Attention of new tokens to remembered keys and values: those of the source, and those of the tokens generated so far.

The memory of generated tokens has a slot for each beam and time and is never moved. Each beam knows the slots of its
own past (its ancestors) and sees no others; so when beams change places, only this small table does.
"""

import tensorflow as tf
from bert4keras.backend import attention_normalize

from kexue_keras.decoding._evaluation import dense


def split_heads(x, batch, heads):
    """Rows `[batch * n, heads * d]` -> `[batch, heads, n, d]`."""
    return tf.transpose(tf.reshape(x, [batch, -1, heads, int(x.shape[-1]) // heads]), [0, 2, 1, 3])


def merge_heads(x, size):
    """`[batch, heads, n, d]` -> rows `[batch * n, size]`."""
    return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [-1, size])


def rotation(sinusoidal):
    """Cosines and sines `[N, 1, d]` from the rows of a SinusoidalPositionEmbedding (sine and cosine in turn)."""
    cosine, sine = sinusoidal[:, 1::2], sinusoidal[:, ::2]
    size = sinusoidal.shape[-1]

    def twice(x):
        return tf.reshape(tf.stack([x, x], axis=-1), [-1, 1, size])

    return twice(cosine), twice(sine)


def rotate(x, turn, heads):
    """Rotary position embedding of rows `[N, heads * d]`."""
    if turn is None:
        return x
    size = int(x.shape[-1])
    x = tf.reshape(x, [-1, heads, size // heads])
    turned = tf.reshape(tf.stack([-x[..., 1::2], x[..., ::2]], axis=-1), tf.shape(x))
    return tf.reshape(x * turn[0] + turned * turn[1], [-1, size])


def hidden(visible):
    """What is added to attention scores: 0 where `visible`, -inf elsewhere."""
    return tf.where(visible, tf.zeros_like(visible, "float32"), tf.fill(tf.shape(visible), float("-inf")))


def attend(layer, query, memories, penalty):
    """One attention over several memories.

    Args:
        layer: bert4keras MultiHeadAttention.
        query: `[batch, heads, m, d]`.
        memories: list of (keys `[batch, heads, n, d]`, values `[batch, heads, n, d]`, bias to the scores or None).
        penalty: `[batch, 1, m or 1, all n]`, from `hidden`.

    Returns:
        rows `[batch * m, out_dim]`.
    """
    scores = []
    for keys, _, bias in memories:
        score = tf.matmul(query, keys, transpose_b=True)
        scores.append(score if bias is None else score + bias)
    sizes = [tf.shape(keys)[2] for keys, _, _ in memories]
    scores = tf.concat(scores, axis=-1) if len(scores) > 1 else scores[0]
    if layer.attention_scale:
        scores = scores / layer.key_size**0.5
    if layer.normalization == "softmax":
        weights = tf.nn.softmax(scores + penalty)
    else:
        visible = tf.broadcast_to(tf.equal(penalty, 0.0), tf.shape(scores))
        weights = attention_normalize(scores, None, -1, layer.normalization, visible)
    parts = tf.split(weights, sizes, axis=-1) if len(memories) > 1 else [weights]
    mixed = [tf.matmul(part, values) for part, (_, values, _) in zip(parts, memories)]
    mixed = mixed[0] if len(mixed) == 1 else tf.add_n(mixed)
    return dense(layer.o_dense, merge_heads(mixed, layer.heads * layer.head_size))


class SelfMemory(object):
    """Keys and values of one attention for generated tokens: `[batch, heads, time * beams, d]`.

    Args:
        layer: bert4keras MultiHeadAttention.
        keys, values: tensors `[batch * heads * time * beams, d]`.
        shape: (batch, time, beams), scalar tensors.
    """

    def __init__(self, layer, keys, values, shape):
        self.layer, self.keys, self.values = layer, keys, values
        self.batch, self.time, self.beams = shape

    @classmethod
    def empty(cls, layer, shape, dtype):
        """A memory without anything in it."""
        rows = shape[0] * shape[1] * shape[2] * layer.heads
        sizes = (layer.key_size, layer.head_size)
        return cls(layer, *[tf.zeros(tf.stack([rows, size]), dtype) for size in sizes], shape=shape)

    def write(self, t, keys, values):
        """The memory with the rows `[batch * beams, heads * d]` of time `t`, in the slots of the beams.

        The scatter writes in place, since nothing else holds the old memory inside the loop.
        """
        heads = self.layer.heads
        first = tf.range(self.batch * heads) * (self.time * self.beams) + t * self.beams
        slots = tf.reshape(first[:, None] + tf.range(self.beams)[None], [-1, 1])

        def written(memory, rows):
            rows = tf.reshape(split_heads(rows, self.batch, heads), [-1, memory.shape[-1]])
            return tf.tensor_scatter_nd_update(memory, slots, rows)

        both = written(self.keys, keys), written(self.values, values)
        return SelfMemory(self.layer, *both, shape=(self.batch, self.time, self.beams))

    def memory(self, bias):
        """What `attend` takes."""
        shape = [self.batch, self.layer.heads, self.time * self.beams]
        both = [tf.reshape(x, tf.stack(shape + [int(x.shape[-1])])) for x in (self.keys, self.values)]
        return both[0], both[1], bias
