"""`kexue-keras finetune`: fine-tuning with the options given, also those of an earlier run."""

import os

from kexue_keras.cli.output import say
from kexue_keras.finetune import _finetune as finetuning
from kexue_keras.finetune._run_folder import RunFolder, known_options
from kexue_keras.finetune.folds._runs import FOLDS


def run(options):
    """Fine-tune as the options say; those of --config, or of the run to --resume, are the defaults.

    Raises:
        UserError: an option is missing or wrong, bad data, no such model.
    """
    given = dict(vars(options))
    parse_over = given.pop("parse_over")
    source = options.config
    if source is None and options.resume and options.out and not options.data:
        folds = os.path.join(options.out, FOLDS)
        source = folds if os.path.exists(folds) else RunFolder(options.out).resumed_config()
    if source is not None:
        repeated = known_options(source)
        repeated.pop("out" if source == options.config else "", None)
        given = vars(parse_over(repeated))
    finetuning.finetune(say=say, **dict(given, config=None))
    return 0
