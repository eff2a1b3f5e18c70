"""The JSON files of a model folder; those that have a schema are read by `kexue_keras.schemas.read_settings`."""

import json

from kexue_keras.schemas import read_object as read_json  # noqa: F401


def write_json(path, value):
    """Write a dict with its keys in order."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as handle:
        json.dump(value, handle, ensure_ascii=False, indent=1, sort_keys=True)
        handle.write("\n")
