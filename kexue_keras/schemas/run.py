"""A run's config.json and metrics.json: of fine-tuning for labels and similarity, and of one text from another."""

from kexue_keras.schemas.messages import shown
from kexue_keras.schemas.reading import Settings
from kexue_keras.schemas.words import (
    COUNT,
    FLAG,
    NAME,
    POSITIONS,
    SHARE,
    TEXT,
    dict_of,
    keys,
    list_of,
    nullable,
    number,
    one_of,
    whole,
)

REMEDY = "Put back the file that the run wrote, or run finetune again."
COLUMN = {"type": ["string", "integer"], "minimum": 0, "maximum": COUNT}


def options_file(options):
    """The part of a run's config.json that `--config` reads.

    Args:
        options: JSON Schema of the options.
    """
    return Settings(
        keys({"options": options}, ["options"]), remedy="Give config.json of a run of kexue-keras finetune."
    )


def run_config(options):
    """config.json of a run of `finetune`; other facts may stand in it.

    Args:
        options: JSON Schema of the options.
    """
    facts = {
        "options": options,
        "fingerprints": dict_of(nullable(TEXT)),
        "columns": keys(
            {"text": COLUMN, "text_b": nullable(COLUMN), "label": nullable(COLUMN)},
            ["text", "text_b", "label"],
            others=False,
        ),
        "pairs": FLAG,
        "texts": dict_of(whole(0, COUNT)),
        "labels": nullable(dict(list_of(TEXT, 1), uniqueItems=True)),
        "head": NAME,
        "stack": one_of("keras", "tf.keras", "tf2"),
        "versions": dict_of(TEXT),
        "header": FLAG,
    }
    # The others are information for people only.
    read = [name for name in facts if name not in ("header", "texts", "versions")]
    return Settings(keys(facts, read), remedy=REMEDY, check=wrong_facts)


def wrong_facts(config):
    """What is wrong with the facts of a run taken together, or None.

    >>> wrong_facts({'columns': {'text': 0, 'text_b': None, 'label': 1}, 'pairs': True, 'labels': None, 'options': {}})
    'pairs is true, but columns.text_b is null'
    """
    columns, labels = config["columns"], config["labels"]
    if config["pairs"] != (columns["text_b"] is not None):
        return "pairs is %s, but columns.text_b is %s" % (shown(config["pairs"]), shown(columns["text_b"]))
    if len({isinstance(column, str) for column in columns.values() if column is not None}) > 1:
        return "columns has names and numbers; it has one or the other"
    task = config["options"].get("task", "classification")
    if (labels is None) != (task in ("similarity", "math-word-problems")):
        return "labels is %s, but options.task is %s" % (shown(labels), shown(task))
    return None


_DATA = keys({"path": TEXT, "fingerprint": nullable(TEXT), "pairs": whole(0, COUNT), "crc32": TEXT})
_SEQ2SEQ = {
    "model": NAME,
    "train": _DATA,
    "valid": _DATA,
    "test": nullable(_DATA),
    "epochs": whole(1, COUNT),
    "batch_size": whole(1, COUNT),
    "max_source_length": whole(1, POSITIONS),
    "max_target_length": whole(1, POSITIONS),
    "learning_rate": nullable(number(above=0)),
    "beams": whole(1, 10**4),
    "dropout_rate": nullable(SHARE),
    "seed": whole(),
    "techniques": {"type": "object"},
}
SEQ2SEQ_RUN = Settings(keys(_SEQ2SEQ, list(_SEQ2SEQ)), remedy=REMEDY)

METRICS = Settings(
    keys(
        {
            "best_epoch": nullable(whole(1, COUNT)),
            "main_metric": NAME,
            "history": list_of({"type": "object"}),
            "seconds": number(0),
            "majority": nullable(number(0, 1)),
        },
        ("best_epoch", "history", "seconds"),
    ),
    remedy=REMEDY,
)
