"""bert4keras layers that compute the same with gradients in closed form and few, large ops: less memory, less time.

节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367. `extend_with_recompute` uses it; nothing is changed globally.
"""

import functools

import tensorflow as tf
from bert4keras.backend import apply_rotary_position_embeddings, gelu_erf
from bert4keras.layers import FeedForward, LayerNormalization, MultiHeadAttention, ScaleOffset

from kexue_keras.backend import K, keras, spare_autograph
from kexue_keras.training._randomness import dropout_mask
from kexue_keras.training.closed_forms import attend, gelu, multiply, normalize, scale_and_shift


def use_closed_forms(layer):
    """Let one layer, not yet called, use gradients in closed form; other layers are left alone.

    Known are `MultiHeadAttention` with softmax and without additive bias, `FeedForward`, `LayerNormalization` without
    conditions, Keras' `Dropout`, and the masks of `Add`. Subclasses are left alone, since they may compute something
    else.

    Args:
        layer: Keras layer.

    Returns:
        the same layer.
    """
    if type(layer) is FeedForward:
        layer.activation = [_gelu if f is gelu_erf else f for f in layer.activation]
        _replace(layer, "call", _feed_forward)
    elif type(layer) is LayerNormalization and layer.unit_variance and not layer.conditional:
        _replace(layer, "call", _normalize_and_scale)
    elif type(layer) is MultiHeadAttention and layer.normalization == "softmax" and not layer.return_attention_scores:
        _replace(layer, "call", _attention)
    elif type(layer) is keras.layers.Dropout:
        _replace(layer, "call", _dropout)
    elif type(layer) is keras.layers.Add:
        _replace(layer, "compute_mask", _mask_of_sum)
    return layer


def _replace(layer, method, function):
    bound = functools.partial(function, layer)
    spare_autograph(bound)
    setattr(layer, method, bound)


# bert4keras finds it under this name when a configuration is read back.
@functools.wraps(gelu_erf)
def _gelu(x):
    return gelu(x)


def _normalize_and_scale(layer, inputs):
    y = normalize(inputs, layer.epsilon, layer.zero_mean)
    if any(given not in (True, False, None) for given in (layer.scale, layer.offset)):
        return ScaleOffset.call(layer, y)
    return scale_and_shift(y, layer.gamma if layer.scale else None, layer.beta if layer.offset else None)


def _dropout(layer, inputs, training=None):
    if not 0.0 < layer.rate < 1.0:
        return inputs
    if layer.noise_shape is not None:
        return type(layer).call(layer, inputs, training=training)
    return _dropped(inputs, layer.rate, training)


def _dropped(x, rate, training=None):
    mask = dropout_mask(x, rate, training)
    y = multiply(x, mask)
    y._uses_learning_phase = getattr(mask, "_uses_learning_phase", False)
    return y


def _mask_of_sum(layer, inputs, mask=None):
    """The mask of all parts where it is one tensor; Keras writes the conjunction of each with all others."""
    masks = mask if isinstance(mask, (list, tuple)) else [mask]
    if masks[0] is not None and all(m is masks[0] for m in masks):
        return masks[0]
    return type(layer).compute_mask(layer, inputs, mask)


def _plain(*layers):
    """Whether these are Dense layers and not something that has been put in their place."""
    return all(type(layer) is keras.layers.Dense for layer in layers)


def _weights(dense, x):
    """Kernel and bias (or None), made if this is the first call."""
    if not dense.built:
        with K.name_scope(dense.name):
            dense.build(K.int_shape(x))
        dense.built = True
    return dense.kernel, dense.bias if dense.use_bias else None


def _affine(rows, kernel, bias):
    product = tf.matmul(rows, kernel)
    return product if bias is None else tf.nn.bias_add(product, bias)


def _is_sequence(x):
    return K.ndim(x) == 3 and K.int_shape(x)[-1] is not None


def _rows(x):
    return tf.reshape(x, [-1, K.int_shape(x)[-1]])


def _feed_forward(layer, inputs):
    """`FeedForward.call` on the rows of the batch as one matrix."""
    parts = [getattr(layer, "i%d_dense" % i) for i in range(len(layer.activation))]
    if not (_is_sequence(inputs) and _plain(layer.o_dense, *parts)):
        return FeedForward.call(layer, inputs)
    rows = _rows(inputs)
    factors = [part.activation(_affine(rows, *_weights(part, inputs))) for part in parts]
    hidden = functools.reduce(tf.multiply, factors)
    result = layer.o_dense.activation(_affine(hidden, *_weights(layer.o_dense, hidden)))
    return tf.reshape(result, tf.shape(inputs))


def _attention(layer, inputs, mask=None, **kwargs):
    """`MultiHeadAttention.call` with one product for all projections of the same tensor."""
    (query, key, value), rest = inputs[:3], list(inputs[3:])
    restriction = rest.pop(0) if kwargs.get("a_bias") else None
    position = kwargs.get("p_bias")
    own = (
        "pay_attention_to" not in vars(layer)  # somebody watches
        and (restriction is None or K.dtype(restriction) == "bool")
        and position in (None, "rotary")
        and all(_is_sequence(x) for x in (query, key, value))
        and _plain(layer.q_dense, layer.k_dense, layer.v_dense, layer.o_dense)
    )
    if not own:
        return MultiHeadAttention.call(layer, inputs, mask=mask, **kwargs)
    heads = _in_heads(layer, query, key, value, rest[0] if position == "rotary" else None)
    bias = _bias(None if mask is None else mask[2], restriction, query.dtype)
    rate = layer.attention_dropout
    result = attend(*heads, bias, lambda weights: _dropped(weights, rate) if rate else weights)
    result = tf.reshape(tf.transpose(result, [0, 2, 1, 3]), [-1, layer.heads * layer.head_size])
    result = layer.o_dense.activation(_affine(result, *_weights(layer.o_dense, result)))
    return tf.reshape(result, tf.concat([tf.shape(query)[:2], [layer.out_dim]], 0))


def _bias(mask, restriction, dtype):
    """0 where a query may look and -inf elsewhere, `[B, 1, 1 or n, m]`; None without masks."""
    allowed = None if mask is None else K.cast(mask, "bool")[:, None, None]
    if restriction is not None:
        restriction = restriction[:, None] if K.ndim(restriction) == 3 else restriction
        allowed = restriction if allowed is None else allowed & restriction
    return None if allowed is None else tf.math.log(tf.cast(allowed, dtype))


def _in_heads(layer, query, key, value, angles):
    """Queries (divided by the root of their size), keys and values, `[B, heads, n, size]` each."""
    sources = (query, key, value)
    parts = [layer.q_dense, layer.k_dense, layer.v_dense]
    weights = [_weights(part, x) for part, x in zip(parts, sources)]
    if layer.attention_scale:
        # The weights are fewer than the numbers that are made with them.
        weights[0] = [w if w is None else multiply(tf.convert_to_tensor(w), _root(layer, w)) for w in weights[0]]
    found, first = [], 0
    while first < len(parts):
        last = first + 1
        while last < len(parts) and sources[last] is sources[first] and parts[last].units == parts[first].units:
            last += 1
        found += _projected(layer, sources[first], weights[first:last], angles is None)
        first = last
    if angles is None:
        return found
    query, key = apply_rotary_position_embeddings(angles, found[0], found[1])
    return [tf.transpose(x, [0, 2, 1, 3]) for x in (query, key, found[2])]


def _root(layer, like):
    return tf.constant(layer.key_size**-0.5, like.dtype.base_dtype)


def _projected(layer, x, weights, heads_first):
    """One tensor for each pair of kernel and bias, `[B, heads, n, size]` or `[B, n, heads, size]`."""
    kernels, biases = zip(*weights)
    joined = [kernels[0], biases[0]]
    if len(weights) > 1:
        joined = [tf.concat(kernels, 1), None if biases[0] is None else tf.concat(biases, 0)]
    sizes = [len(weights), layer.heads, int(kernels[0].shape[1]) // layer.heads]
    product = tf.reshape(_affine(_rows(x), *joined), tf.concat([tf.shape(x)[:2], sizes], 0))
    if heads_first:
        return tf.unstack(tf.transpose(product, [2, 0, 3, 1, 4]))
    return tf.unstack(product, axis=2)
