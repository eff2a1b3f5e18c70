"""The words in which the schemas are written: JSON Schema for whole numbers, numbers, strings, choices, lists."""

# Bounds that no real model or run comes near; beyond them a value is a slip or an attack.
LAYERS = 1000
WIDTH = 65536
HEADS = 1024
VOCABULARY = 10**7
POSITIONS = 10**6
COUNT = 10**9

FLAG = {"type": "boolean"}
TEXT = {"type": "string"}
NAME = {"type": "string", "minLength": 1}
# From 0 to below 1: dropout and other shares.
SHARE = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}


def whole(least=None, most=None):
    """Whole numbers from `least` to `most`; a JSON number such as 12.0 is one."""
    return _range({"type": "integer"}, minimum=least, maximum=most)


def number(least=None, most=None, *, above=None, below=None):
    """Numbers from `least` to `most`, or above and below bounds that do not belong to them."""
    return _range({"type": "number"}, minimum=least, maximum=most, exclusiveMinimum=above, exclusiveMaximum=below)


def _range(schema, **bounds):
    return dict(schema, **{word: bound for word, bound in bounds.items() if bound is not None})


def text(shortest, longest):
    """Strings of so many characters."""
    return {"type": "string", "minLength": shortest, "maxLength": longest}


def one_of(*values):
    """One of these values."""
    return {"enum": list(values)}


def list_of(items, least=0, most=None):
    """Lists whose items all follow one schema."""
    return _range({"type": "array", "items": items}, minItems=least or None, maxItems=most)


def dict_of(values):
    """Objects with any keys whose values all follow one schema."""
    return {"type": "object", "additionalProperties": values}


def either(*schemas):
    """What follows one of several schemas."""
    return {"anyOf": list(schemas)}


def nullable(schema):
    """The same, or null.

    >>> nullable(whole(1))
    {'type': ['integer', 'null'], 'minimum': 1}
    """
    if "enum" in schema:
        return {"enum": schema["enum"] + [None]}
    if "anyOf" in schema:
        return either(*(schema["anyOf"] + [{"type": "null"}]))
    if not schema:
        return schema
    types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return dict(schema, type=types + ["null"])


def keys(properties, required=(), others=True):
    """Objects with these keys.

    Args:
        properties: dict key -> schema.
        required: keys that must be there.
        others: whether there may be other keys, which are ignored.
    """
    return {
        "type": "object",
        "properties": properties,
        "required": list(required),
        "additionalProperties": bool(others),
    }
