"""Writing the JSON files of a model folder; `kexue_keras.schemas` reads them."""

import json


def write_json(path, value):
    """Write a dict with its keys in order."""
    with open(path, "w", encoding="utf-8", errors="backslashreplace") as handle:
        json.dump(value, handle, ensure_ascii=False, indent=1, sort_keys=True)
        handle.write("\n")
