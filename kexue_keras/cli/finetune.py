"""`kexue-keras finetune`: all options of fine-tuning, also those of an earlier run."""

from kexue_keras.cli.output import say
from kexue_keras.errors import UserError
from kexue_keras.finetune import _classification as classification
from kexue_keras.finetune._options import add_finetune_arguments
from kexue_keras.finetune._run_folder import RunFolder, known_options


def run(parser, arguments):
    """Fine-tune as the options say; those of --config, or of the run to --resume, are the defaults.

    Raises:
        UserError: an option is missing or wrong, bad data, no such model.
    """
    add_finetune_arguments(parser)
    parser.epilog = "Example: kexue-keras finetune --model me5-zh-sp --data train.tsv --test test.tsv --out runs/1"
    options = parser.parse_args(arguments)
    source = options.config
    if source is None and options.resume and options.out and not options.data:
        source = RunFolder(options.out).resumed_config()
    if source is not None:
        repeated = known_options(source)
        repeated.pop("out" if source == options.config else "", None)
        parser.set_defaults(**repeated)
        options = parser.parse_args(arguments)
    missing = ["--" + name for name in ("model", "data", "out") if not getattr(options, name)]
    if missing:
        raise UserError("missing: %s; %s --help lists all options" % (", ".join(missing), parser.prog))
    given = dict(vars(options), config=None)
    classification.finetune(say=say, **given)
    return 0
