"""The JSON files of a model folder."""

import json

from kexue_keras.errors import WeightsError


def read_json(path):
    """The object in a JSON file, a dict.

    Raises:
        WeightsError: there is no such file, or it holds something else.
    """
    try:
        with open(path, encoding="utf-8") as handle:
            found = json.load(handle)
    except OSError as error:
        raise WeightsError("%s cannot be read: %s" % (path, error.strerror))
    except ValueError as error:
        raise WeightsError("%s is no JSON: %s" % (path, error))
    if not isinstance(found, dict):
        raise WeightsError("%s is no JSON object; it is %.60r" % (path, found))
    return found


def write_json(path, value):
    """Write a dict with its keys in order."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as handle:
        json.dump(value, handle, ensure_ascii=False, indent=1, sort_keys=True)
        handle.write("\n")
