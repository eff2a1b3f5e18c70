"""A `SentenceEncoder` from whatever holds one: a name, a model folder, a saved encoder, a run."""

import os

from kexue_keras.checkpoints._load import is_t5
from kexue_keras.checkpoints._sentence_transformers import has_modules
from kexue_keras.checkpoints._sources import local_folder
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.finetune._run_folder import RunFolder
from kexue_keras.similarity import SentenceEncoder
from kexue_keras.similarity._encoder import SETTINGS


def open_encoder(model, *, pooling=None, max_length=None):
    """`SentenceEncoder` of a bundled name, a model folder, a saved encoder, or a run of `finetune --task similarity`.

    Args:
        model: name or folder.
        pooling: for folders that do not say it themselves; None: 'mean'.
        max_length: longest text in tokens; None: what a saved encoder says, else 64.

    Raises:
        UserError: no such model, or a pooling that a saved encoder does not have.
    """
    try:
        model = local_folder(model)
        if os.path.isdir(model):
            RunFolder(model).settle()
        for folder in (os.path.join(model, "encoder"), model):
            if os.path.exists(os.path.join(folder, SETTINGS)) or has_modules(folder):
                encoder = SentenceEncoder.load(folder)
                if pooling not in (None, encoder.pooling):
                    raise UserError("it was trained with pooling %r, not %r" % (encoder.pooling, pooling), path=model)
                if max_length is not None:
                    encoder.max_length = max_length
                return encoder
        if is_t5(model):
            raise UserError("a T5 has no sentence vectors; give a BERT or a RoFormer", path=model)
        return SentenceEncoder(model, pooling=pooling or "mean", max_length=max_length or 64)
    except (WeightsError, ValueError) as error:
        raise UserError(error)
