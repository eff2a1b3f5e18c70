"""The options of fine-tuning: one place for the command, for `finetune(...)` and for config.json.

Defaults stand in the argparse declarations alone; `finetune` and `--config` take them from there.
"""

import argparse

from kexue_keras.data import UserError
from kexue_keras.data.tables import KINDS, MAX_LINE
from kexue_keras.models.similarity.pooling import POOLINGS
from kexue_keras.tasks.recipe import TECHNIQUES

# What says how a run is run and not what comes out of it; --resume lets these differ.
PASSING = ("quiet", "resume", "overwrite", "save_every", "out", "config")
FILES = ("data", "valid", "test")


# Beyond these nothing can be computed, and what counts in 32 or 64 bits overflows.
MOST = 2**31 - 1
MOST_TOKENS = 2**16
MOST_SAMPLES = 10**5


def whole(least, most):
    """argparse type: whole number from `least` to `most`."""

    def whole_number(text):
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError("%s is not a whole number from %d to %d" % (text, least, most))
        return value

    return whole_number


positive = whole(1, MOST)
tokens = whole(1, MOST_TOKENS)
samples = whole(1, MOST_SAMPLES)
seed = whole(-(2**63), 2**63 - 1)


def number(text):
    """argparse type: a number, neither infinite nor NaN."""
    value = float(text)
    if not abs(value) < float("inf"):
        raise argparse.ArgumentTypeError("%s is not a finite number" % text)
    return value


def positive_float(text):
    """argparse type: number > 0."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("%s is not a number above 0" % text)
    return value


def fraction(text):
    """argparse type: number in [0, 1)."""
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("%s does not lie in [0, 1)" % text)
    return value


def separator(text):
    """argparse type: what stands between two labels."""
    if not text:
        raise argparse.ArgumentTypeError("it is empty; give what stands between two labels, e.g. '|'")
    return text


def add_table_arguments(parser, for_labels=True):
    """How files are read; shared by finetune and predict."""
    group = parser.add_argument_group("files (TSV, CSV, JSON lines, each also .gz)")
    group.add_argument("--format", choices=KINDS, help="default: by the suffix, else by the first line")
    group.add_argument("--header", choices=("auto", "yes", "no"), default="auto", help="is line 1 a header?")
    group.add_argument("--text-column", metavar="C", help="name, or number from 1")
    group.add_argument("--text-b-column", metavar="C", help="second text of a pair")
    if for_labels:
        group.add_argument("--label-column", metavar="C", help="name, or number from 1")
        group.add_argument(
            "--label-separator",
            type=separator,
            metavar="SEP",
            help="texts have several labels, with SEP between them, e.g. '|'",
        )
    group.add_argument(
        "--max-line", type=positive, metavar="N", default=MAX_LINE, help="longest line in characters (%(default)s)"
    )


def add_finetune_arguments(parser):
    """All options of fine-tuning, those of the techniques too."""
    main = parser.add_argument_group("main")
    main.add_argument(
        "--task",
        choices=("classification", "similarity"),
        default="classification",
        help="labels for texts or pairs, or vectors whose cosine follows a score of pairs (%(default)s)",
    )
    main.add_argument("--model", metavar="M", help="me5-zh-char, me5-zh-sp, or a folder with a checkpoint")
    main.add_argument("--data", metavar="TRAIN", help="training file")
    main.add_argument("--valid", metavar="V", help="validation file (default: a part of TRAIN is split off)")
    main.add_argument("--test", metavar="T", help="test file")
    main.add_argument("--out", metavar="RUN", help="folder for the results")
    main.add_argument("--config", metavar="FILE", help="config.json of another run: repeats it")
    main.add_argument("--resume", action="store_true", help="go on from the last saved point of RUN")
    main.add_argument("--overwrite", action="store_true", help="replace an earlier run in RUN")
    main.add_argument("--quiet", action="store_true", help="no progress bar, no notes")
    add_table_arguments(parser)
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=positive, default=3, metavar="N", help="(%(default)s)")
    training.add_argument("--batch-size", type=positive, default=32, metavar="N", help="(%(default)s)")
    training.add_argument("--length", type=tokens, default=128, metavar="N", help="tokens a text (%(default)s)")
    training.add_argument(
        "--learning-rate", type=positive_float, default=1e-4, metavar="LR", help="(%(default)s); base models: 2e-5"
    )
    training.add_argument("--weight-decay", type=fraction, default=0.0, metavar="W", help="decoupled (%(default)s)")
    training.add_argument(
        "--dropout", type=fraction, metavar="P", help="in encoder, attention and head (the model's own; head 0.1)"
    )
    training.add_argument(
        "--multilabel-loss",
        choices=("zlpr", "sigmoid"),
        default="zlpr",
        help="with several labels a text: one multi-label cross-entropy, or a sigmoid each (%(default)s)",
    )
    training.add_argument("--pooling", choices=list(POOLINGS), default="mean", help="(%(default)s)")
    training.add_argument(
        "--valid-share", type=fraction, default=0.1, metavar="F", help="part split off without --valid (%(default)s)"
    )
    training.add_argument("--seed", type=seed, default=1, metavar="S", help="(%(default)s)")
    training.add_argument(
        "--save-every",
        type=positive,
        metavar="STEPS",
        help="save a point for --resume every so many steps, besides each epoch's end",
    )
    training.add_argument(
        "--no-bucketing",
        dest="bucketing",
        action="store_false",
        help="pad all batches to --length (for comparison; slower)",
    )
    similarity = parser.add_argument_group("--task similarity (two texts and a number a line)")
    similarity.add_argument(
        "--similarity-loss",
        choices=("cosent", "sbert"),
        default="cosent",
        help="cosent: cosines in the order of the scores; sbert: a classifier on [u, v, |u-v|] (%(default)s)",
    )
    similarity.add_argument(
        "--cosent-scale",
        type=positive_float,
        default=20.0,
        metavar="S",
        help="what cosines are multiplied by (%(default)s)",
    )
    similarity.add_argument(
        "--score-range", type=number, nargs=2, metavar=("LOW", "HIGH"), help="refuse scores outside, e.g. 0 5"
    )
    similarity.add_argument(
        "--positive-above",
        type=number,
        metavar="X",
        help="sbert: two classes, scores above X and others, e.g. 2.5 for STS-B (default: each score is a class)",
    )
    techniques = parser.add_argument_group("techniques")
    for technique in TECHNIQUES:
        technique.add_arguments(techniques)


def _parser():
    parser = argparse.ArgumentParser(add_help=False)
    add_finetune_arguments(parser)
    return parser


def defaults():
    """Dict of all options with their default values."""
    return vars(_parser().parse_args([]))


def make_options(**given):
    """Namespace of all options, with `given` in place of the defaults.

    Raises:
        TypeError: no such option.
        UserError: a value that the command would refuse; wherever it comes from, the same is refused.

    >>> make_options(epochs=2).epochs, make_options().batch_size
    (2, 32)
    """
    parser = _parser()
    options = vars(parser.parse_args([]))
    unknown = sorted(set(given) - set(options))
    if unknown:
        raise TypeError("no option %s; there are: %s" % (", ".join(unknown), ", ".join(sorted(options))))
    actions = {action.dest: action for action in parser._actions}
    for name, value in given.items():
        if value is not None and value is not options[name]:
            options[name] = _checked(actions[name], value)
        else:
            options[name] = value
    return argparse.Namespace(**options)


def _checked(action, value):
    """The value as the command would have it, from a function's argument or from config.json.

    Raises:
        UserError: naming the option.
    """
    name = "--" + action.dest.replace("_", "-")
    if action.nargs == 0:
        if value not in (True, False):
            raise UserError("%s is %r; it is True or False" % (name, value))
        return value
    if action.nargs == "?" and isinstance(value, bool):
        return value  # the option without a word
    several = isinstance(action.nargs, int)
    values = list(value) if several and isinstance(value, (list, tuple)) else [value]
    if several and len(values) != action.nargs:
        raise UserError("%s is %r; it takes %d values" % (name, value, action.nargs))
    if action.type is not None:
        try:
            values = [action.type(one if isinstance(one, str) else _as_text(one)) for one in values]
        except (argparse.ArgumentTypeError, ValueError, OverflowError) as error:
            raise UserError("%s is %r: %s" % (name, value, error))
    if action.choices is not None and values[0] not in action.choices:
        raise UserError("%s is %r; it is one of %s" % (name, value, ", ".join(action.choices)))
    return values if several else values[0]


def _as_text(value):
    """A number as text that gives the same number again; numpy's and Python's alike."""
    return repr(value.item() if hasattr(value, "item") else value)
