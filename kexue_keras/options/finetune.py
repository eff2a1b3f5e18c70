"""The options of fine-tuning: one place for the command, for `finetune(...)` and for config.json.

Defaults, types, ranges and choices stand in the argparse declarations alone; `finetune`, `--config` and whoever reads a
run take them from there.
"""

import argparse

from kexue_keras.errors import UserError
from kexue_keras.files.paths import as_text
from kexue_keras.options.choices import (
    ENTITY_HEADS,
    HEAD_LR_MULTIPLIERS,
    MAX_LINE,
    METRICS,
    POOLINGS,
    TABLE_FORMATS,
    TRACKERS,
)
from kexue_keras.options.ranges import (
    beams,
    column,
    even,
    folds,
    fraction,
    number,
    order,
    positive,
    positive_float,
    seed,
    separator,
    tokens,
)
from kexue_keras.options.techniques import add_model_techniques, add_training_techniques
from kexue_keras.schemas import words
from kexue_keras.schemas.messages import is_wrong, shown
from kexue_keras.schemas.reading import is_finite, mismatches, plain, with_ints

# What says how a run is run and not what comes out of it; --resume lets these differ.
PASSING = ("quiet", "resume", "overwrite", "save_every", "out", "config", "track", "distributed")
FILES = ("data", "valid", "test", "unlabelled")


def add_table_arguments(parser, for_labels=True):
    """How files are read; shared by finetune and predict."""
    group = parser.add_argument_group("files (TSV, CSV, JSON lines, each also .gz)")
    group.add_argument("--format", choices=TABLE_FORMATS, help="default: by the suffix, else by the first line")
    group.add_argument("--header", choices=("auto", "yes", "no"), default="auto", help="is line 1 a header?")
    group.add_argument("--text-column", type=column, metavar="C", help="name, or number from 1")
    group.add_argument("--text-b-column", type=column, metavar="C", help="second text of a pair")
    if for_labels:
        group.add_argument("--label-column", type=column, metavar="C", help="name, or number from 1")
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
        choices=("classification", "similarity", "math-word-problems", "ner"),
        default="classification",
        help="labels for texts or pairs, vectors whose cosine follows a score of pairs, equations for questions, or "
        "named entities "
        "(%(default)s)",
    )
    main.add_argument("--model", metavar="M", help="me5-zh-char, me5-zh-sp, a folder, or a name of the hub")
    main.add_argument("--data", metavar="TRAIN", help="training file")
    main.add_argument("--valid", metavar="V", help="validation file (default: a part of TRAIN is split off)")
    main.add_argument("--test", metavar="T", help="test file")
    main.add_argument(
        "--unlabelled",
        metavar="U",
        help="texts without labels, for --vat or --rdrop; each batch has as many of them as of TRAIN",
    )
    main.add_argument("--out", metavar="RUN", help="folder for the results")
    main.add_argument("--config", metavar="FILE", help="config.json of another run: repeats it")
    main.add_argument("--resume", action="store_true", help="continue from the last checkpoint of RUN")
    main.add_argument("--overwrite", action="store_true", help="replace an earlier run in RUN")
    main.add_argument(
        "--distributed",
        action="store_true",
        help="train on several devices together, started by `horovodrun -np N kexue-keras finetune ...`; the same "
        "model comes out, for --batch-size is that of all together",
    )
    main.add_argument("--quiet", action="store_true", help="no progress bar, no notes")
    add_table_arguments(parser)
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=positive, default=3, metavar="N", help="(%(default)s)")
    training.add_argument("--batch-size", type=positive, default=32, metavar="N", help="(%(default)s)")
    training.add_argument("--max-length", type=tokens, default=128, metavar="N", help="tokens per text (%(default)s)")
    training.add_argument(
        "--learning-rate", type=positive_float, default=1e-4, metavar="LR", help="(%(default)s); base models: 2e-5"
    )
    training.add_argument("--weight-decay", type=fraction, default=0.0, metavar="W", help="decoupled (%(default)s)")
    training.add_argument(
        "--dropout-rate", type=fraction, metavar="P", help="in encoder, attention and head (the model's own; head 0.1)"
    )
    training.add_argument(
        "--multilabel-loss",
        choices=("zlpr", "sigmoid"),
        default="zlpr",
        help="with several labels per text: one multi-label cross-entropy, or a sigmoid each (%(default)s)",
    )
    training.add_argument("--pooling", choices=list(POOLINGS), default="mean", help="(%(default)s)")
    training.add_argument(
        "--head-init",
        choices=("random", "probe"),
        default="random",
        help="probe: the head starts as a logistic regression on the encoder's vectors, one for each of several labels "
        "(scikit-learn; %(default)s)",
    )
    training.add_argument(
        "--frozen",
        action="store_true",
        help="train no encoder: a logistic regression on its vectors, C by cross-validation (scikit-learn; seconds)",
    )
    training.add_argument(
        "--valid-share", type=fraction, default=0.1, metavar="F", help="part split off without --valid (%(default)s)"
    )
    training.add_argument(
        "--metric",
        choices=sorted({name for names in METRICS.values() for name in names}),
        metavar="M",
        help="of the validation, chooses the best epoch: %s (default: the first; with several labels per text micro-f1)"
        % "; ".join("%s %s" % (task, ", ".join(names)) for task, names in METRICS.items()),
    )
    training.add_argument(
        "--patience", type=positive, metavar="N", help="stop after N epochs without a better metric (default: never)"
    )
    training.add_argument(
        "--folds",
        type=folds,
        metavar="K",
        help="K runs in RUN/fold-1, ..., each tested on its part of TRAIN: out-of-fold predictions for all of it",
    )
    training.add_argument("--seed", type=seed, default=1, metavar="S", help="(%(default)s)")
    training.add_argument(
        "--track", choices=TRACKERS, help="log the scores of each epoch with Weights & Biases or MLflow, if installed"
    )
    training.add_argument(
        "--save-every",
        type=positive,
        metavar="STEPS",
        help="save a checkpoint for --resume every STEPS steps, in addition to the end of each epoch",
    )
    training.add_argument(
        "--no-bucketing",
        dest="bucketing",
        action="store_false",
        help="pad all batches to --max-length (for comparison; slower)",
    )
    similarity = parser.add_argument_group("--task similarity (two texts and a number per line)")
    similarity.add_argument(
        "--similarity-loss",
        choices=tuple(HEAD_LR_MULTIPLIERS),
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
    entities = parser.add_argument_group("--task ner (CoNLL files, or JSON lines with spans)")
    entities.add_argument(
        "--head",
        choices=ENTITY_HEADS,
        default=ENTITY_HEADS[0],
        help="a score for each first and last token and label, with more or fewer weights, or BIOES tags (%(default)s)",
    )
    entities.add_argument(
        "--head-size", type=even, default=64, metavar="N", help="pointers: width of queries and keys (%(default)s)"
    )
    entities.add_argument(
        "--transition-lr-multiplier",
        type=positive_float,
        default=100.0,
        metavar="F",
        help="crf: factor of the learning rate of the scores of transitions (%(default)s)",
    )
    problems = parser.add_argument_group("--task math-word-problems (files of Ape210K)")
    problems.add_argument(
        "--max-equation-length", type=tokens, default=64, metavar="N", help="tokens per equation (%(default)s)"
    )
    problems.add_argument(
        "--beams", type=beams, default=1, metavar="N", help="width of the beam search, 1 is greedy (%(default)s)"
    )
    problems.add_argument(
        "--brackets",
        choices=("meaning", "value", "none"),
        default="meaning",
        help="which brackets are dropped from equations: those without meaning, those that leave the value (the "
        "article's), none (%(default)s)",
    )
    problems.add_argument(
        "--no-copy", dest="copy", action="store_false", help="write the numbers of the question digit by digit"
    )
    problems.add_argument("--no-pi", dest="pi", action="store_false", help="write 3.14 as it is, not as one token")
    problems.add_argument(
        "--teaforn",
        type=order,
        default=1,
        metavar="N",
        help="orders of teacher forcing (TeaForN), each a pass through the layers; 2 or 3 are usual (default: 1, off)",
    )
    problems.add_argument(
        "--teaforn-gamma",
        type=fraction,
        default=0.5,
        metavar="G",
        help="weight of an order to the one before (%(default)s)",
    )
    add_training_techniques(parser.add_argument_group("techniques"))
    add_model_techniques(parser.add_argument_group("how the model is built and computed"))


def as_option(name):
    """What an option is called on the command line.

    >>> as_option('mixed_precision')
    '--mixed-precision'
    """
    return "--" + name.replace("_", "-")


def finetune_parser():
    """A parser that has these options alone."""
    parser = argparse.ArgumentParser(add_help=False)
    add_finetune_arguments(parser)
    return parser


def defaults():
    """Dict of all options with their default values."""
    return vars(finetune_parser().parse_args([]))


def options_schema():
    """JSON Schema of the options: types, ranges and choices of the argparse declarations; none has to be there."""
    return words.keys({action.dest: _schema(action) for action in finetune_parser()._actions}, others=False)


def _schema(action):
    """Schema of one option. What `Techniques` checks is any number here."""
    plain = {int: words.whole(), float: words.number(), None: words.TEXT}
    if action.nargs == 0:
        return words.FLAG
    if action.choices is not None:
        schema = words.one_of(*action.choices)
    else:
        schema = getattr(action.type, "schema", None) or plain.get(action.type, {})
    if isinstance(action.nargs, int):
        schema = words.list_of(schema, action.nargs, action.nargs)
    if action.nargs == "?" and schema:
        # The option without a word, as finetune(xla=True) says it.
        schema = words.either(schema, words.FLAG)
    return words.nullable(schema) if action.default is None else schema


def checked_options(given):
    """A dict of options, each checked by its type, range or choices.

    Returns:
        dict as JSON would give it: whole numbers as int, paths as str, lists for tuples.

    Raises:
        UserError: naming the option, its value, and what it must be.
    """
    schema, given = options_schema(), plain(given)
    wrong = [name for name, value in given.items() if isinstance(value, (int, float)) and not is_finite(value)]
    if wrong:
        raise UserError("%s is %s; it must be a finite number" % (as_option(wrong[0]), shown(given[wrong[0]])))
    for error in mismatches(given, schema):
        name = error.absolute_path[0]
        raise UserError(is_wrong(as_option(name), given[name], schema["properties"][name]))
    return with_ints(given, schema)


def make_options(**given):
    """Namespace of all options, with `given` in place of the defaults.

    Raises:
        TypeError: no such option.
        UserError: a value that the command would refuse; wherever it comes from, the same is refused.

    >>> make_options(epochs=2).epochs, make_options().batch_size
    (2, 32)
    """
    parser = finetune_parser()
    options = vars(parser.parse_args([]))
    unknown = sorted(set(given) - set(options))
    if unknown:
        raise TypeError("no option %s; there are: %s" % (", ".join(unknown), ", ".join(sorted(options))))
    # config.json keeps them, and knows no path types.
    options.update(checked_options({name: as_text(value) for name, value in given.items()}))
    return argparse.Namespace(**options)
