"""A prompt classifier as a folder: an ordinary model folder, and prompt.json beside it."""

import json
import os

from bert4keras.models import GPT

from kexue_keras.errors import WeightsError
from kexue_keras.models.causal_lm import reading_of
from kexue_keras.models.convert import save
from kexue_keras.models.load import load

SETTINGS, MODEL = "prompt.json", "model"
# Their variables do not tell them from each other to `load`, which wants to be told.
GPT_KINDS = ("gpt", "gpt2", "gpt2_ml")


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
        WeightsError: the folder holds no prompt classifier.
    """
    try:
        with open(os.path.join(folder, SETTINGS), encoding="utf-8") as handle:
            settings = json.load(handle)
    except (OSError, ValueError) as error:
        raise WeightsError("%s holds no prompt classifier (%s: %s)" % (folder, SETTINGS, error))
    return load(os.path.join(folder, MODEL), **loading_of(settings)), settings


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
