"""`kexue-keras export`: a run or a model as a folder that predicts without Keras."""

from kexue_keras.cli.output import say
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.export import export_model
from kexue_keras.files import describe


def run(options):
    """Export as the options say, and tell how well the graph agrees."""
    try:
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
