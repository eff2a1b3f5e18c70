"""A prompt classifier as a folder: an ordinary model folder, and prompt.json next to it."""

import os

from bert4keras.models import GPT

from kexue_keras.checkpoints._convert import save_into
from kexue_keras.checkpoints._load import load
from kexue_keras.errors import WeightsError
from kexue_keras.files import restore_interrupted, whole_folder, write_json
from kexue_keras.models._causal_lm import reading_of
from kexue_keras.prompting._verbalizer import JOINS
from kexue_keras.schemas import prompt_settings, read_settings

SETTINGS, MODEL = "prompt.json", "model"
# Their variables do not tell `load` which one it is, so it has to be given.
GPT_KINDS = ("gpt", "gpt2", "gpt2_ml")


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
        write_json(os.path.join(new, SETTINGS), settings)


def read_prompt(folder, **arguments):
    """(`PretrainedModel` with its head, settings) that `write_prompt` wrote.

    Raises:
        WeightsError: the folder holds no prompt classifier, or one whose settings were changed.
    """
    restore_interrupted(folder)
    path = os.path.join(folder, SETTINGS)
    if not os.path.exists(path):
        raise WeightsError("%s holds no prompt classifier (no %s in it)" % (folder, SETTINGS))
    settings = read_settings(path, prompt_settings(JOINS, GPT_KINDS))
    return load(os.path.join(folder, MODEL), **dict(loading_of(settings), **arguments)), settings


def loading_settings(pretrained):
    """What `prompt.json` has to say for the model to be built again: dict of application and kind."""
    reading, kind = reading_of(pretrained.transformer), pretrained.kind
    # A GPT reads left to right by itself.
    own = isinstance(pretrained.transformer, GPT) and reading == "lm"
    return {"application": "encoder" if own else reading, "kind": kind if kind in GPT_KINDS else None}


def loading_of(settings):
    """Take what `loading_settings` put into the settings out of them again, as arguments of `load`."""
    application, kind = settings.pop("application", "encoder"), settings.pop("kind", None)
    # A GPT has its head, and refuses the argument.
    return dict({"kind": kind} if kind else {"with_mlm": "linear"}, application=application)
