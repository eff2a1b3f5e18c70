"""Float types: what needs room for large sums, exponentials and logarithms is computed in float32 at least."""

import tensorflow as tf


def widen(x):
    """`x` as a tensor in which large sums, exponentials and logarithms are safe.

    Args:
        x: tensor or array. float32 and float64 are kept; anything else becomes float32.

    Returns:
        a float32 or float64 tensor.
    """
    x = tf.convert_to_tensor(x)
    return x if x.dtype in (tf.float32, tf.float64) else tf.cast(x, tf.float32)
