"""Strict JSON: UTF-8, finite numbers, keys that stand once, bounded depth; what else there is raises ValueError."""

import json
import math

# A configuration is three levels deep, and its numbers have at most a dozen digits.
DEPTH = 32
DIGITS = 300


def parse_json(data):
    """The value of a JSON text.

    Args:
        data: bytes, UTF-8, with or without a byte order mark.

    Returns:
        dict, list, str, int, float, bool or None.

    Raises:
        ValueError: with the reason, on one line.

    >>> parse_json(b'{"a": [1, 2.5, null]}')
    {'a': [1, 2.5, None]}
    >>> parse_json(b'{"a": NaN}')
    Traceback (most recent call last):
    ...
    ValueError: it is no JSON (NaN is no number of JSON)
    """
    try:
        # Editors of Windows put a byte order mark in front.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("it is not UTF-8 (byte %d is 0x%02x)" % (error.start, data[error.start]))
    if not text.strip():
        raise ValueError("it is empty, no JSON")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=_int, parse_float=_float, parse_constant=_constant
        )
    except RecursionError:
        raise ValueError("it is nested more than %d levels deep" % DEPTH)
    except ValueError as error:
        raise ValueError("it is no JSON (%s)" % error)
    if _depth(value) > DEPTH:
        raise ValueError("it is nested more than %d levels deep" % DEPTH)
    if "\\u" in text and not _encodable(value):
        raise ValueError("it has one half of a surrogate pair (\\ud800 to \\udfff), which is no character")
    return value


def _object(pairs):
    found = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError("the key %.40r appears twice with different values" % key)
        found[key] = value
    return found


def _int(digits):
    # Reading n digits takes n^2 steps, and what has 309 is no float any more.
    if len(digits) > DIGITS:
        raise ValueError("a number has %d digits" % len(digits))
    return int(digits)


def _float(digits):
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError("the number %.20s is too large" % digits)
    return value


def _constant(name):
    raise ValueError("%s is no number of JSON" % name)


def _depth(value):
    """Levels of lists and objects, without recursion."""
    level, depth = [value], 0
    while level:
        below = []
        for one in level:
            if isinstance(one, dict):
                below.extend(one.values())
            elif isinstance(one, list):
                below.extend(one)
        depth += 1
        level = [one for one in below if isinstance(one, (dict, list))] if depth <= DEPTH else []
    return depth


def _encodable(value):
    try:
        # A byte of a file name that is no UTF-8 is such a half in Python, and comes back as it was.
        json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True
