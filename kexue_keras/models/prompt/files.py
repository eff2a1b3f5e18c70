"""A prompt classifier as a folder: an ordinary model folder, and prompt.json beside it."""

import json
import os

from kexue_keras.errors import WeightsError
from kexue_keras.models.convert import save
from kexue_keras.models.load import load

SETTINGS, MODEL = "prompt.json", "model"


def write_prompt(folder, pretrained, settings, *, overwrite=False):
    """Write `folder/model` and the settings.

    Args:
        folder: str.
        pretrained: `PretrainedModel`.
        settings: JSON-able dict.
        overwrite: bool, replace what is there.

    Raises:
        WeightsError: there is a model already.
    """
    os.makedirs(folder, exist_ok=True)
    save(pretrained, os.path.join(folder, MODEL), overwrite=overwrite)
    with open(os.path.join(folder, SETTINGS), "w", encoding="utf-8") as handle:
        json.dump(settings, handle, ensure_ascii=False, indent=1)


def read_prompt(folder, **arguments):
    """(`PretrainedModel` with its head, settings) that `write_prompt` wrote.

    Raises:
        WeightsError: the folder holds no prompt classifier.
    """
    try:
        with open(os.path.join(folder, SETTINGS), encoding="utf-8") as handle:
            settings = json.load(handle)
    except (OSError, ValueError) as error:
        raise WeightsError("%s holds no prompt classifier (%s: %s)" % (folder, SETTINGS, error))
    return load(os.path.join(folder, MODEL), with_mlm="linear", **arguments), settings
