"""A prompt classifier as a folder: an ordinary model folder, and prompt.json beside it."""

import json
import os

from kexue_keras.errors import WeightsError
from kexue_keras.models.convert import save
from kexue_keras.models.load import load
from kexue_keras.models.prompt.verbalizer import JOINS
from kexue_keras.schemas import prompt_settings, read_settings

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


def read_prompt(folder):
    """(`PretrainedModel` with its head, settings) that `write_prompt` wrote.

    Raises:
        WeightsError: the folder holds no prompt classifier, or one whose settings were changed.
    """
    path = os.path.join(folder, SETTINGS)
    if not os.path.exists(path):
        raise WeightsError("%s holds no prompt classifier (no %s in it)" % (folder, SETTINGS))
    settings = read_settings(path, prompt_settings(JOINS))
    return load(os.path.join(folder, MODEL), with_mlm="linear"), settings
