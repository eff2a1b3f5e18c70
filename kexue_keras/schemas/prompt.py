"""prompt.json: patterns, words of the labels, calibration and sizes of a saved `PromptClassifier`."""

from kexue_keras.schemas.messages import shown
from kexue_keras.schemas.reading import Settings
from kexue_keras.schemas.words import (
    COUNT,
    FLAG,
    POSITIONS,
    either,
    keys,
    list_of,
    nullable,
    number,
    one_of,
    text,
    whole,
)

VERBALIZER_WORDS = ("words", "join", "normalize_length")
_LABEL = {"type": ["string", "number", "boolean", "null"], "maxLength": 500}


def _check(said):
    if len(said["weights"]) != len(said["patterns"]):
        return "there are %d weights for %d patterns" % (len(said["weights"]), len(said["patterns"]))
    if not sum(said["weights"]) > 0:
        return "the weights of the patterns are all 0"
    labels = []
    for label, words in said["verbalizer"]["words"]:
        if isinstance(label, list) or not isinstance(words, list):
            return "verbalizer.words has no pairs of a label and a list of its words"
        if label in labels:
            return "verbalizer.words has the label %s twice" % shown(label)
        labels.append(label)
    prior = said.get("prior")
    if prior is not None and [len(one) for one in prior] != [len(labels)] * len(said["patterns"]):
        return "prior has to have a number per pattern (%d) and label (%d)" % (len(said["patterns"]), len(labels))
    return None


def prompt_settings(joins, kinds):
    """The `Settings` of prompt.json.

    Args:
        joins: the ways to join the scores of several words.
        kinds: the kinds of models that have to be passed to `load`.
    """
    label_and_words = list_of(either(_LABEL, list_of(text(1, 100), 1)), 2, 2)
    verbalizer = keys(
        {"words": list_of(label_and_words, 2), "join": one_of(*joins), "normalize_length": FLAG},
        VERBALIZER_WORDS,
    )
    return Settings(
        keys(
            {
                "patterns": list_of(text(1, 500), 1),
                "weights": list_of(number(0, 1), 1),
                "verbalizer": verbalizer,
                "max_length": whole(3, POSITIONS),
                "batch_size": whole(1, COUNT),
                "prior": nullable(list_of(list_of(number(most=0)))),
                "application": one_of("encoder", "lm", "unilm"),
                "kind": nullable(one_of(*kinds)),
            },
            ("patterns", "weights", "verbalizer", "max_length", "batch_size"),
        ),
        remedy="Save the classifier again.",
        check=_check,
    )
