"""What is wrong with a value and what it must be, from its JSON Schema, in one line."""

from kexue_keras.errors import shorten


def shown(value):
    """A value of a settings file for a message: short, on one line, without control characters.

    >>> shown('a' * 50), shown(None), shown([1, 2])
    ("'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa...'", 'null', 'a list of 2 entries')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return repr(shorten(value))
    if isinstance(value, int):
        return str(value) if abs(value) < 10**20 else "a number of %d digits" % len(str(abs(value)))
    if isinstance(value, (list, tuple)):
        return "a list of %d entr%s" % (len(value), "y" if len(value) == 1 else "ies")
    if isinstance(value, dict):
        return "an object with %d key%s" % (len(value), "" if len(value) == 1 else "s")
    return shorten(repr(value))


def expected(schema):
    """What a schema allows, in words.

    >>> expected({'type': ['integer', 'null'], 'minimum': 1, 'maximum': 9})
    'a whole number from 1 to 9, or null'
    >>> expected({'type': 'number', 'minimum': 0, 'exclusiveMaximum': 1})
    'a number from 0 to below 1'
    """
    if "anyOf" in schema:
        return _or([expected(one) for one in schema["anyOf"]])
    if "enum" in schema:
        return "one of %s" % ", ".join(one if isinstance(one, str) else shown(one) for one in schema["enum"])
    types = schema.get("type", "any value")
    return _or([_type(one, schema) for one in ([types] if isinstance(types, str) else types)])


def _or(words):
    return ", or ".join([", ".join(words[:-1])] * (len(words) > 1) + words[-1:])


def _type(name, schema):
    if name in ("integer", "number"):
        whole = "an even whole number" if schema.get("multipleOf") == 2 else "a whole number"
        return (whole if name == "integer" else "a number") + _bounds(schema)
    if name == "array":
        low, high, items = schema.get("minItems", 0), schema.get("maxItems"), schema.get("items")
        count = " of %d entries" % low if low == high else " of at least %d entries" % low if low else ""
        return "a list" + (count or " of entries" * bool(items)) + (", each " + expected(items) if items else "")
    plain = {"string": "a string", "boolean": "true or false", "object": "an object in braces", "null": "null"}
    if name == "string" and schema.get("maxLength"):
        return "a string of %d to %d characters" % (schema.get("minLength", 0), schema["maxLength"])
    if name == "string" and schema.get("minLength"):
        return "a string that is not empty"
    return plain.get(name, name)


def _bounds(schema):
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    start = " from %s" % low if low is not None else " above %s" % above if above is not None else ""
    join = " to" if low is not None else " and" if start else ""
    if high is not None:
        return start + join + (" %s" % high if low is not None else " at most %s" % high)
    return start + (join + " below %s" % below if below is not None else "")


def place(path):
    """A place in a settings file: `options.batch_size`, `patterns[0]`.

    >>> place(['patterns', 0])
    'patterns[0]'
    """
    text = ""
    for part in path:
        part = "[%d]" % part if isinstance(part, int) else part if part.isidentifier() else "[%s]" % shown(part)
        text += part if part.startswith("[") or not text else "." + part
    return text


def complaint(error):
    """One line about a jsonschema `ValidationError`."""
    where, schema, value = place(error.absolute_path), error.schema, error.instance
    inside = "" if not where else " in %s" % where
    if error.validator == "required":
        absent = [k for k in schema["required"] if k not in value]
        # An error for each of them.
        key = next((k for k in absent if error.message.startswith(repr(k))), absent[0])
        found = ", ".join(shorten(repr(k)[1:-1], 30) for k in sorted(value)[:20]) or "nothing"
        wanted = schema.get("properties", {}).get(key)
        return "expected the key %r%s%s; found %s" % (key, inside, wanted and ", " + expected(wanted) or "", found)
    if error.validator == "additionalProperties":
        unknown = sorted(k for k in value if k not in schema.get("properties", {}))
        return "%s has what this version does not have: %s" % (
            where or "it",
            ", ".join(shorten(repr(k)[1:-1], 30) for k in unknown[:5]),
        )
    return is_wrong(where, value, schema)


def is_wrong(where, value, schema):
    """`WHERE is VALUE; it must be ...` or `...; it is one of ...`.

    >>> is_wrong('task', 'x', {'enum': ['a', 'b']})
    "task is 'x'; it is one of a, b"
    """
    wanted = expected(schema)
    verb = "is" if wanted.startswith("one of") else "must be"
    return "%s is %s; it %s %s" % (where or "it", shown(value), verb, wanted)
