"""What attention and token mixers share: who sees whom, softmax over it, checks of lengths and ranks. Not public.

Masks follow bert4keras: `[b, n]` says which tokens are no padding; a bias is `[q, k]`, `[b, q, k]` or `[b, h, q, k]`,
boolean (True is visible) or a float that is added to the logits (-1e12 and its like hide).
"""

import tensorflow as tf

from kexue_keras.backend import K

# Added to a float32 logit it wipes it out, and a row in which all are hidden stays finite, which -inf would not.
HIDDEN = -1e30
# Additive masks are -1e4 (Google's BERT), -1e9 or -1e12; no logit of use is as low.
HIDES = -1e4


def first_shape(input_shape):
    """Shape of the first input, of one or of several."""
    return input_shape[0] if isinstance(input_shape, list) else input_shape


def last_dimension(input_shape, layer):
    """Size of the last axis as an int.

    Raises:
        ValueError: it is not known.
    """
    size = first_shape(input_shape)[-1]
    size = getattr(size, "value", size)
    if size is None:
        raise ValueError(
            "%s: the last axis of its input must have a known size, but the shape is %s" % (layer, input_shape)
        )
    return int(size)


def padding_mask(mask, layer):
    """The mask `[b, n]` as booleans; None stays None.

    Raises:
        ValueError: the mask has not two axes.
    """
    if mask is None:
        return None
    if K.ndim(mask) != 2:
        raise ValueError(
            "%s: the mask must be [batch, tokens], but it has %s axes; a mask of token pairs goes in as a further input"
            % (layer, K.ndim(mask))
        )
    return mask if mask.dtype == tf.bool else tf.not_equal(mask, 0)


def joined_mask(mask):
    """One mask for what is made of several inputs element by element: a token has to be there in all of them."""
    known = [m for m in mask or [] if m is not None]
    joined = known[0] if known else None
    for other in known[1:]:
        joined = tf.logical_and(joined, other)
    return joined


def bias_visibility(bias, layer):
    """Booleans: where a bias, boolean or additive, lets through."""
    if bias.dtype == tf.bool:
        return bias
    if not bias.dtype.is_floating:
        raise ValueError(
            "%s: a bias is boolean (True is visible) or a float that is added to the logits, but this one is %s; "
            "cast a 0/1 mask to bool" % (layer, bias.dtype.name)
        )
    return bias > HIDES


def visible_keys(key_mask, bias, layer):
    """Which keys each query sees.

    Args:
        key_mask: `[b, k]` or None.
        bias: `[q, k]`, `[b, q, k]`, `[b, h, q, k]` or None.
        layer: str, for messages.

    Returns:
        bool tensor with four axes that broadcasts to `[b, h, q, k]`, or None if all are visible.

    Raises:
        ValueError: wrong number of axes, an integer bias.
    """
    key_mask = padding_mask(key_mask, layer)
    visible = None if key_mask is None else key_mask[:, None, None]
    if bias is not None:
        allowed = four_axes(bias_visibility(bias, layer), layer)
        visible = allowed if visible is None else tf.logical_and(visible, allowed)
    return visible


def four_axes(bias, layer):
    """A bias as `[b, h, q, k]`, with ones where it has no such axis."""
    axes = K.ndim(bias)
    if axes == 4:
        return bias
    if axes == 3:
        return bias[:, None]
    if axes == 2:
        return bias[None, None]
    raise ValueError(
        "%s: an attention bias must be [queries, keys], [batch, queries, keys] or [batch, heads, queries, keys], "
        "but it has %s axes" % (layer, axes)
    )


def attend(logits, visible, values, dropout=None):
    """Softmax over the visible keys, then the mean of their values.

    Args:
        logits: `[b, h, q, k]`, float32 or wider.
        visible: bool, broadcasts to the logits, or None.
        values: `[b, k, h, d]`.
        dropout: None, or a function for the attention matrix.

    Returns:
        `(output [b, q, h, d], attention [b, h, q, k], kept)`. A query that sees nothing gets zeros in `output`; its
        row of `attention` means nothing, and `kept` (None or `[b, q, 1, 1]`, 0 and 1) says which rows these are.
    """
    kept = None
    if visible is not None:
        logits += HIDDEN * tf.cast(tf.logical_not(visible), logits.dtype)
        # Zeroing the small output rather than the attention matrix saves a pass over the largest tensor.
        seen = tf.cast(tf.reduce_any(visible, axis=-1, keepdims=True), values.dtype)
        kept = tf.transpose(seen, [0, 2, 1, 3])
    attention = tf.cast(tf.nn.softmax(logits), values.dtype)
    if dropout is not None:
        attention = dropout(attention)
    output = tf.einsum("bhjk,bkhd->bjhd", attention, values)
    return (output if kept is None else output * kept), attention, kept
