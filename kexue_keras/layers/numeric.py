"""What several layers need to compute safely: a float type with room, and checks of their parameters."""

import math

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


def require_positive(value, name, layer):
    """`value` as a float, which must be finite and greater than 0.

    Args:
        value: number.
        name: str, the name of the parameter, for the message.
        layer: str, the name of the layer or function, for the message.

    Returns:
        float.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not _is_number(value) or not value > 0:
        raise ValueError("%s: %s must be a number > 0, but is %r; give for instance 1.0" % (layer, name, value))
    return float(value)


def require_not_negative(value, name, layer):
    """`value` as a float, which must be finite and at least 0.

    Args:
        value: number.
        name: str, the name of the parameter, for the message.
        layer: str, the name of the layer or function, for the message.

    Returns:
        float.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not _is_number(value) or value < 0:
        raise ValueError("%s: %s must be a number >= 0, but is %r" % (layer, name, value))
    return float(value)


def require_choice(value, choices, name, layer):
    """`value`, which must be one of `choices`.

    Args:
        value: what the user gave.
        choices: iterable of str.
        name: str, the name of the parameter, for the message.
        layer: str, the name of the layer or function, for the message.

    Returns:
        `value`.

    Raises:
        ValueError: it is not.
    """
    if value not in tuple(choices):
        raise ValueError("%s: %s must be one of %s, but is %r" % (layer, name, ", ".join(map(repr, choices)), value))
    return value


def require_count(value, name, layer, least=1):
    """`value` as an int, which must be at least `least`.

    Args:
        value: whole number.
        name: str, the name of the parameter, for the message.
        layer: str, the name of the layer or function, for the message.
        least: int.

    Returns:
        int.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not _is_number(value) or float(value) != int(value) or value < least:
        raise ValueError("%s: %s must be a whole number >= %d, but is %r" % (layer, name, least, value))
    return int(value)


def softplus_inverse(value):
    """The r with log(1 + exp(r)) = value: where a positive parameter that is trained as softplus(r) starts.

    Args:
        value: float > 0.

    Returns:
        float.
    """
    return value + math.log(-math.expm1(-value))


def _is_number(value):
    if isinstance(value, str):
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
