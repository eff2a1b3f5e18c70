"""exported.json: what an exported graph computes, and of which texts."""

import os

from kexue_keras.schemas.messages import shown
from kexue_keras.schemas.reading import Settings
from kexue_keras.schemas.run import COLUMN
from kexue_keras.schemas.words import (
    COUNT,
    FLAG,
    NAME,
    POSITIONS,
    TEXT,
    dict_of,
    keys,
    list_of,
    nullable,
    one_of,
    whole,
)

EXPORTED = "exported.json"


def is_exported(folder):
    """Whether `kexue-keras export` wrote a folder."""
    return os.path.exists(os.path.join(folder, EXPORTED))


def exported_settings(formats):
    """The `Settings` of exported.json.

    Args:
        formats: names of the formats there are.
    """
    facts = {
        "format": one_of(*formats),
        "task": one_of("classification", "similarity"),
        "labels": nullable(dict(list_of(TEXT, 1), uniqueItems=True)),
        "several": FLAG,
        "pairs": FLAG,
        "columns": keys(
            {"text": COLUMN, "text_b": nullable(COLUMN), "label": nullable(COLUMN)}, ["text", "text_b", "label"]
        ),
        "max_length": whole(2, POSITIONS),
        "batch_size": whole(1, COUNT),
        "source": NAME,
        "versions": dict_of(TEXT),
    }
    read = [name for name in facts if name not in ("source", "versions")]
    return Settings(keys(facts, read), remedy="Export the model again.", check=_wrong)


def _wrong(facts):
    """What is wrong with the facts taken together, or None."""
    if (facts["labels"] is None) != (facts["task"] == "similarity"):
        return "labels is %s, but task is %s" % (shown(facts["labels"]), shown(facts["task"]))
    if facts["pairs"] != (facts["columns"]["text_b"] is not None):
        return "pairs is %s, but columns.text_b is %s" % (shown(facts["pairs"]), shown(facts["columns"]["text_b"]))
    return None
