"""A prompt classifier as a folder: an ordinary model folder, and prompt.json beside it."""

import json
import os

from kexue_keras.errors import WeightsError
from kexue_keras.files import restore_interrupted, whole_folder
from kexue_keras.models.convert import save_into
from kexue_keras.models.load import load
from kexue_keras.models.prompt.verbalizer import JOINS
from kexue_keras.schemas import prompt_settings, read_settings

SETTINGS, MODEL = "prompt.json", "model"


def write_prompt(folder, pretrained, settings, *, overwrite=False):
    """Write a folder with the model folder and the settings in it; it appears when it is complete.

    Args:
        folder: str, a folder that does not exist or is empty.
        pretrained: `PretrainedModel`.
        settings: JSON-able dict.
        overwrite: bool, replace a folder that was written here; others are never deleted.

    Raises:
        WeightsError: there is something in `folder` that is not to be replaced, see `models.save`.
        OSError: a full disk and the like; what was in `folder` is as before.
    """
    with whole_folder(folder, overwrite=overwrite) as new:
        os.mkdir(os.path.join(new, MODEL))
        save_into(os.path.join(new, MODEL), pretrained)
        with open(os.path.join(new, SETTINGS), "w", encoding="utf-8") as handle:
            json.dump(settings, handle, ensure_ascii=False, indent=1)


def read_prompt(folder, **arguments):
    """(`PretrainedModel` with its head, settings) that `write_prompt` wrote.

    Raises:
        WeightsError: the folder holds no prompt classifier, or one whose settings were changed.
    """
    restore_interrupted(folder)
    path = os.path.join(folder, SETTINGS)
    if not os.path.exists(path):
        raise WeightsError("%s holds no prompt classifier (no %s in it)" % (folder, SETTINGS))
    settings = read_settings(path, prompt_settings(JOINS))
    return load(os.path.join(folder, MODEL), with_mlm="linear", **arguments), settings
