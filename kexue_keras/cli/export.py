"""`kexue-keras export`: a run or a model as a folder that predicts without Keras."""

import os

from kexue_keras.cli.output import say
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.export import export_model
from kexue_keras.files import describe
from kexue_keras.finetune._open_encoder import open_encoder
from kexue_keras.finetune._run_folder import RunFolder
from kexue_keras.options.choices import SENTENCE_TRANSFORMERS


def run(options):
    """Export as the options say, and tell how well the graph agrees."""
    try:
        if options.format == SENTENCE_TRANSFORMERS:
            return _encoder_folder(options)
        done = export_model(
            options.source,
            options.out,
            format=options.format,
            pooling=options.pooling,
            max_length=options.max_length,
            overwrite=options.overwrite,
        )
    except (WeightsError, ValueError) as error:
        raise UserError(error)
    except OSError as error:
        raise UserError(describe(error))
    say(
        "%s: %s, %.1f MB, differs from the model by %.1g at most"
        % (options.out, done.format, done.megabytes, done.difference)
    )
    return 0


def _encoder_folder(options):
    folder = RunFolder(options.source) if os.path.isdir(options.source) else None
    if folder is not None and folder.is_run and folder.config()["options"].get("task") != "similarity":
        raise UserError("a run with sentence vectors is needed, one of --task similarity", path=options.source)
    encoder = open_encoder(options.source, pooling=options.pooling, max_length=options.max_length)
    encoder.save(options.out, format=options.format, overwrite=options.overwrite)
    say("%s: for SentenceTransformer(%r) and SentenceEncoder.load(%r)" % (options.out, options.out, options.out))
    return 0
