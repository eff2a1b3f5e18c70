"""Checks of the parameters of layers: each returns the value, or raises a ValueError that names parameter and layer."""

import math


def require_positive(value, name, layer):
    """`value` as a float, which must be finite and greater than 0."""
    if isinstance(value, bool) or not _is_number(value) or not value > 0:
        raise ValueError("%s: %s must be a number > 0, but is %r; give for instance 1.0" % (layer, name, value))
    return float(value)


def require_not_negative(value, name, layer):
    """`value` as a float, which must be finite and at least 0."""
    if isinstance(value, bool) or not _is_number(value) or value < 0:
        raise ValueError("%s: %s must be a number >= 0, but is %r" % (layer, name, value))
    return float(value)


def require_choice(value, choices, name, layer):
    """`value`, which must be one of `choices`."""
    if value not in tuple(choices):
        raise ValueError("%s: %s must be one of %s, but is %r" % (layer, name, ", ".join(map(repr, choices)), value))
    return value


def require_count(value, name, layer, least=1):
    """`value` as an int, which must be at least `least`."""
    if isinstance(value, bool) or not _is_number(value) or float(value) != int(value) or value < least:
        raise ValueError("%s: %s must be a whole number >= %d, but is %r" % (layer, name, least, value))
    return int(value)


def _is_number(value):
    if isinstance(value, str):
        return False
    try:
        return math.isfinite(float(value))
    except (TypeError, ValueError):
        return False
