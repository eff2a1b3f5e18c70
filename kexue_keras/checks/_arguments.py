"""Checks of arguments that are Python values: each returns the value, or raises a ValueError of one form.

"FlatNCE: temperature must be a number > 0, but is -1": whose argument, which one, what it may be, what it is, and
where there is a remedy, that too. A number is what `float` takes, numpy's scalars included, if it is finite; truth
values, strings and arrays are none.
"""

import math

import numpy as np


def invalid(owner, name, wanted, value, remedy=None):
    """The ValueError of an argument that is not what it must be.

    Args:
        owner: str, the class or function whose argument it is.
        name: str, the argument.
        wanted: str, what it must be.
        value: what it is.
        remedy: str or None, what to do.

    >>> from kexue_keras.checks import invalid
    >>> print(invalid("FGM", "epsilon", "a number >= 0", -1, "0 attacks nothing"))
    FGM: epsilon must be a number >= 0, but is -1; 0 attacks nothing
    """
    after = "; " + remedy if remedy else ""
    return ValueError("%s: %s must be %s, but is %r%s" % (owner, name, wanted, value, after))


def number(value, name, owner, *, above=None, least=None, below=None, most=None, remedy=None):
    """`value` as a float, which must be finite.

    Args:
        value: the argument.
        name: str, its name.
        owner: str, whose argument it is.
        above, least: the number that it must be greater than, or at least.
        below, most: the number that it must be less than, or at most.
        remedy: str or None, what to do otherwise.

    >>> from kexue_keras.checks import number
    >>> number(np.float32(0.5), "dropout", "Block", least=0, below=1)
    0.5
    """
    given = _as_float(value)
    if given is None or not math.isfinite(given) or _outside(given, above, least, below, most):
        raise invalid(owner, name, "a number" + _range(above, least, below, most), value, remedy)
    return given


def whole_number(value, name, owner, *, least=None, most=None, remedy=None):
    """`value` as an int; floats that are whole are taken too.

    Args:
        value, name, owner, remedy: as for `number`.
        least, most: the numbers that it must be at least and at most.

    >>> from kexue_keras.checks import whole_number
    >>> whole_number(4.0, "steps", "GradientAccumulation", least=1)
    4
    """
    given = _as_float(value)
    # Beyond 2^53 a float is no longer the number that was given.
    is_whole = given is not None and math.isfinite(given) and int(value) == value
    if not is_whole or _outside(int(value), None, least, None, most):
        raise invalid(owner, name, "a whole number" + _range(None, least, None, most), value, remedy)
    return int(value)


def choice(value, choices, name, owner, *, remedy=None):
    """The one of `choices` that `value` equals.

    Args:
        value, name, owner, remedy: as for `number`.
        choices: iterable of what there is, the names first that are to be read first.

    >>> from kexue_keras.checks import choice
    >>> choice("mean", ("mean", "sum"), "mode", "GradientAccumulation")
    'mean'
    """
    choices = list(choices)
    for one in choices:
        # An array is not compared, which would give no truth value.
        if isinstance(value, type(one)) and value == one:
            return one
    raise invalid(owner, name, "one of " + ", ".join(map(repr, choices)), value, remedy)


def _as_float(value):
    """None for what is no number."""
    if isinstance(value, (bool, np.bool_, str, bytes)) or (isinstance(value, np.ndarray) and value.ndim):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _outside(given, above, least, below, most):
    return (
        (above is not None and not given > above)
        or (least is not None and not given >= least)
        or (below is not None and not given < below)
        or (most is not None and not given <= most)
    )


def _range(above, least, below, most):
    """The range in words: nothing, " > 0", " >= 0", " < 1", " <= 1" or " in [0, 1)"."""
    low, high = (
        bound if bound is None or isinstance(bound, int) else "%g" % bound
        for bound in (above if least is None else least, below if most is None else most)
    )
    if low is None and high is None:
        return ""
    if high is None:
        return " %s %s" % (">" if least is None else ">=", low)
    if low is None:
        return " %s %s" % ("<" if most is None else "<=", high)
    return " in %s%s, %s%s" % ("(" if least is None else "[", low, high, ")" if most is None else "]")
