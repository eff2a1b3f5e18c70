"""bert4keras layers that compute the same with gradients in closed form: less memory, and less time.

节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367. `extend_with_recompute` uses it; nothing is changed globally.
"""

import functools

import numpy as np
import tensorflow as tf
from bert4keras.backend import apply_rotary_position_embeddings, gelu_erf
from bert4keras.layers import FeedForward, LayerNormalization, MultiHeadAttention, ScaleOffset

from kexue_keras.backend import K, keras
from kexue_keras.training.closed_forms import attend, gelu, normalize


def use_closed_forms(layer):
    """Let one layer of bert4keras, not yet called, use gradients in closed form; other layers are left alone.

    Known are `MultiHeadAttention` with softmax and without additive bias, GELU in a `FeedForward`, and
    `LayerNormalization` without conditions. Subclasses are left alone, since they may compute something else.

    Args:
        layer: Keras layer.

    Returns:
        the same layer.
    """
    if type(layer) is FeedForward:
        layer.activation = [_gelu if f is gelu_erf else f for f in layer.activation]
    elif type(layer) is LayerNormalization and layer.unit_variance and not layer.conditional:
        layer.call = functools.partial(_normalize_and_scale, layer)
    elif type(layer) is MultiHeadAttention and layer.normalization == "softmax" and not layer.return_attention_scores:
        layer.pay_attention_to = functools.partial(_pay_attention, layer)
    return layer


# bert4keras finds it under this name when a configuration is read back.
@functools.wraps(gelu_erf)
def _gelu(x):
    return gelu(x)


def _normalize_and_scale(layer, inputs):
    return ScaleOffset.call(layer, normalize(inputs, layer.epsilon, layer.zero_mean))


def _pay_attention(layer, inputs, mask=None, **kwargs):
    """`MultiHeadAttention.pay_attention_to`: the same inputs, masks and result (without scores)."""
    (query, key, value), rest = inputs[:3], list(inputs[3:])
    restriction = rest.pop(0) if kwargs.get("a_bias") else None
    position = kwargs.get("p_bias")
    additive = restriction is not None and K.dtype(restriction) != "bool"
    if additive or position not in (None, "rotary"):
        return MultiHeadAttention.pay_attention_to(layer, inputs, mask, **kwargs)
    if position == "rotary":
        query, key = apply_rotary_position_embeddings(rest[0], query, key)
    allowed = None if mask[1] is None else K.cast(mask[1], "bool")[:, None, None]
    if restriction is not None:
        restriction = restriction[:, None] if K.ndim(restriction) == 3 else restriction
        allowed = restriction if allowed is None else allowed & restriction
    bias = None
    if allowed is not None:
        shape = tf.shape(allowed)
        bias = tf.where(allowed, *(tf.fill(shape, tf.constant(x, query.dtype)) for x in (0.0, -np.inf)))
    if layer.attention_scale:
        query = query / layer.key_size**0.5
    heads = [tf.transpose(x, [0, 2, 1, 3]) for x in (query, key, value)]
    result = attend(*heads, bias, lambda p: _drop(layer, p))
    return tf.transpose(result, [0, 2, 1, 3]), None


def _drop(layer, weights):
    if not layer.attention_dropout:
        return weights
    return keras.layers.Dropout(layer.attention_dropout)(weights)
