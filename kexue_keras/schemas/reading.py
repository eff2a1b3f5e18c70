"""Reading a settings file: strict JSON, its schema, then what the fields say of each other; one line if it is wrong."""

import math
import os
import stat

import jsonschema

from kexue_keras.errors import UserError, WeightsError
from kexue_keras.schemas.json_text import parse_json
from kexue_keras.schemas.messages import complaint, place, shown

# The largest real one is a configuration that records 250,000 kept token ids.
MOST_BYTES = 64 * 2**20


class Settings(object):
    """A kind of settings file.

    Args:
        schema: JSON Schema of the object, in the words of `schemas.words`.
        remedy: sentence that says what to do about a wrong file.
        check: function of the dict, called when the schema holds; what is wrong as str, or None. It says what a schema
            cannot: one field by another.
    """

    def __init__(self, schema, *, remedy, check=None):
        self.schema, self.remedy, self.check = schema, remedy, check


def read_settings(path, settings, *, error=WeightsError):
    """The contents of a settings file, checked.

    Args:
        path: the file.
        settings: `Settings`.
        error: `WeightsError` or `UserError`, what is raised.

    Returns:
        dict with whole numbers as int; keys that the schema does not know are in it as well.

    Raises:
        error: no such file, no JSON, or not what the schema says: file, key, value, what it must be, what to do.
    """
    return check_settings(read_object(path, error=error), settings, path, error=error)


def check_settings(value, settings, source, *, error=WeightsError):
    """A dict checked against `settings`; see `read_settings`. Arrays and numbers of numpy count as those of JSON.

    >>> from kexue_keras.schemas import words
    >>> size = Settings(words.keys({'size': words.whole(1, 9)}, ['size']), remedy='Give another.')
    >>> check_settings({'size': 3.0}, size, 'a.json')
    {'size': 3}
    >>> check_settings({'size': -3}, size, 'a.json')
    Traceback (most recent call last):
    ...
    kexue_keras.errors.WeightsError: a.json: size is -3; it must be a whole number from 1 to 9. Give another.
    """
    value = plain(value)
    problem = _infinite(value) or _mismatch(value, settings.schema)
    if problem is None:
        value = with_ints(value, settings.schema)
        problem = settings.check and settings.check(value)
    if problem:
        fail(error, source, "%s. %s" % (problem, settings.remedy))
    return value


def read_object(path, *, error=WeightsError):
    """The object in a JSON file, a dict that no schema has seen."""
    value = read_json(path, error=error)
    if not isinstance(value, dict):
        fail(error, path, "it is no JSON object; it is %s" % shown(value))
    return value


def read_json(path, *, error=WeightsError):
    """The value in a JSON file, whatever it is; bounded in size and depth.

    Raises:
        error: no such file, no ordinary file, too large, no JSON.
    """
    data = _read_bytes(path, error)
    try:
        return parse_json(data)
    except ValueError as problem:
        fail(error, path, "cannot be read: %s" % problem)


def read_text(path, *, error=WeightsError):
    """The text of a file, UTF-8; bounded in size as for `read_json`."""
    try:
        return _read_bytes(path, error).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        fail(error, path, "cannot be read: it is not UTF-8 (byte %d)" % problem.start)


def _read_bytes(path, error):
    try:
        # A pipe that nobody writes to would block for ever; what the shell makes of <(...) is written to.
        if not stat.S_ISREG(os.stat(path).st_mode) and not os.fspath(path).startswith("/dev/fd/"):
            fail(error, path, "cannot be read: it is %s" % ("a folder" if os.path.isdir(path) else "no ordinary file"))
        with open(path, "rb") as handle:
            data = handle.read(MOST_BYTES + 1)
    except OSError as problem:
        fail(error, path, "cannot be read: %s" % (problem.strerror or problem))
    except UnicodeError:
        fail(error, shown(path), "cannot be read: no such file")
    if len(data) > MOST_BYTES:
        fail(error, path, "cannot be read: it has more than %d MB, no settings file" % (MOST_BYTES >> 20))
    return data


def fail(error, source, message):
    """Raise `error` about a file, on one line."""
    if issubclass(error, UserError):
        raise error(message, path=source)
    raise error("%s: %s" % (source, " ".join(message.split())))


def matches(value, schema):
    """Whether a plain value follows a schema; infinite numbers never do."""
    return _infinite(value) is None and jsonschema.Draft7Validator(schema).is_valid(value)


def mismatches(value, schema):
    """jsonschema's errors of a plain value, the shallowest first: what is wrong with a list before what is in it."""
    return sorted(jsonschema.Draft7Validator(schema).iter_errors(value), key=lambda e: len(e.absolute_path))


def _mismatch(value, schema):
    errors = mismatches(value, schema)
    return complaint(errors[0]) if errors else None


def is_finite(number):
    """Whether an int or float can be computed with: neither infinite nor NaN, nor an int beyond all floats.

    >>> is_finite(10 ** 300), is_finite(10 ** 400), is_finite(float('nan'))
    (True, False, False)
    """
    try:
        return math.isfinite(number)
    except OverflowError:
        return False


def _infinite(value, path=()):
    if isinstance(value, (int, float)) and not is_finite(value):
        return "%s is %s; it must be finite" % (place(path) or "it", shown(value))
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        if isinstance(part, (int, float, dict, list)):
            found = _infinite(part, path + (key,))
            if found:
                return found
    return None


def plain(value):
    """A copy as JSON would give it: lists for tuples, Python's numbers for numpy's, str for paths."""
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    if hasattr(value, "__fspath__"):
        return os.fspath(value)
    if hasattr(value, "dtype") and hasattr(value, "tolist"):
        return value.tolist()
    return value


def with_ints(value, schema):
    """`value` with an int for each float where the schema wants whole numbers."""
    types = schema.get("type", ())
    if isinstance(value, float) and "integer" in types and "number" not in types:
        return int(value)
    if isinstance(value, dict):
        known, others = schema.get("properties", {}), schema.get("additionalProperties")
        others = others if isinstance(others, dict) else {}
        return {key: with_ints(part, known.get(key, others)) for key, part in value.items()}
    if isinstance(value, list) and "items" in schema:
        return [with_ints(part, schema["items"]) for part in value]
    if "anyOf" in schema:
        fitting = [one for one in schema["anyOf"] if matches(value, one)]
        return with_ints(value, fitting[0]) if fitting else value
    return value
