"""The arguments of each command, with all checks of them that need no file; nothing here imports TensorFlow.

A function a command, named as its module: it adds the arguments to a parser, parses them, and returns the options that
the `run` of the module takes.
"""

from kexue_keras.errors import UserError, as_unicode
from kexue_keras.options.choices import (
    BASELINES,
    EXPORT_FORMATS,
    MAX_LINE,
    MODEL_FORMATS,
    PLANES,
    POOLINGS,
    SENTENCE_TRANSFORMERS,
    TABLE_FORMATS,
)
from kexue_keras.options.finetune import add_finetune_arguments, add_table_arguments
from kexue_keras.options.ranges import not_negative, not_negative_float, number, port, positive, samples, seed, tokens
from kexue_keras.schemas import is_exported

LOOKS = ("unargmaxable", "dimensions", "gradients", "costs")


def list_techniques(parser, arguments):
    """Options of `kexue-keras list`."""
    parser.add_argument("--search", metavar="WORD", default="", help="only those that contain WORD")
    parser.add_argument("--all", action="store_true", help="also those that are not there yet")
    return parser.parse_args(arguments)


def finetune(parser, arguments):
    """Options of `kexue-keras finetune`; `parse_over(defaults)` of them parses again with other defaults.

    Raises:
        UserError: an option is missing, and there is no earlier run that could have it.
    """
    add_finetune_arguments(parser)
    parser.epilog = "Example: kexue-keras finetune --model me5-zh-sp --data train.tsv --test test.tsv --out runs/1"

    def parse_over(defaults):
        parser.set_defaults(**defaults)
        options = parser.parse_args(arguments)
        missing = ["--" + name for name in ("model", "data", "out") if not getattr(options, name)]
        if missing:
            raise UserError("missing: %s; %s --help lists all options" % (", ".join(missing), parser.prog))
        return options

    options = parser.parse_args(arguments)
    if options.config is None and not (options.resume and options.out and not options.data):
        options = parse_over({})
    options.parse_over = parse_over
    return options


def search(parser, arguments):
    """Options of `kexue-keras search`; `parse_over` of them as in `finetune`, or None if all of them are there.

    Raises:
        UserError: an option is missing.
    """
    group = parser.add_argument_group("search")
    group.add_argument("--trials", type=positive, default=20, metavar="N", help="runs in all (%(default)s)")
    group.add_argument(
        "--vary",
        action="append",
        metavar="NAME=VALUES",
        help="an option and the values to try: 0,0.5 or 1e-5..5e-4 or 1e-5..5e-4:log; may be given several times "
        "(default: learning-rate, warmup, layerwise-lr-decay, ema, and for classification fgm)",
    )
    add_finetune_arguments(parser)
    parser.epilog = (
        "Example: kexue-keras search --model me5-zh-sp --data train.tsv --out search --epochs 3 --vary fgm=0,0.5 "
        "--vary learning-rate=1e-5..5e-4:log"
    )
    options = parser.parse_args(arguments)
    goes_on = options.resume and options.out and not options.data

    def parse_over(defaults):
        parser.set_defaults(**defaults)
        return parser.parse_args(arguments)

    missing = ["--" + name for name in ("model", "data", "out") if not getattr(options, name)]
    if missing and not goes_on:
        raise UserError("missing: %s; %s --help lists all options" % (", ".join(missing), parser.prog))
    options.parse_over = parse_over if goes_on else None
    return options


def predict(parser, arguments):
    """Options of `kexue-keras predict`; `light` of them says that no TensorFlow is needed."""
    parser.add_argument("--run", required=True, metavar="RUN", help="folder of a fine-tuning run")
    parser.add_argument("--data", required=True, metavar="FILE|-", help="texts; - is standard input")
    parser.add_argument("--out", metavar="FILE", help="default: standard output")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="default: as in training")
    parser.add_argument("--quiet", action="store_true", help="no notes, no progress bar")
    parser.add_argument("--no-text", dest="text", action="store_false", help="only label and probability")
    add_table_arguments(parser, for_labels=False)
    options = parser.parse_args(arguments)
    options.light = is_exported(options.run)
    return options


def export(parser, arguments):
    """Options of `kexue-keras export`."""
    parser.add_argument("source", metavar="RUN|MODEL", help="run of finetune, bundled name, or folder of an encoder")
    parser.add_argument(
        "--format",
        choices=EXPORT_FORMATS + (SENTENCE_TRANSFORMERS,),
        default="onnx",
        help="onnx: onnxruntime; onnx-int8: the same with int8 matrices; savedmodel: TensorFlow; "
        "sentence-transformers: vectors alone, for SentenceTransformer(DIR) (%(default)s)",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="new folder")
    parser.add_argument("--overwrite", action="store_true", help="replace DIR")
    parser.add_argument("--pooling", choices=list(POOLINGS), help="for a MODEL that does not specify it (mean)")
    parser.add_argument("--max-length", type=tokens, metavar="N", help="for a MODEL: tokens per text (64)")
    return parser.parse_args(arguments)


def serve(parser, arguments):
    """Options of `kexue-keras serve`; `light` as in `predict`."""
    parser.add_argument("--run", required=True, metavar="RUN", help="run of finetune, or exported folder")
    parser.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help="(%(default)s)")
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="0 chooses a free port (%(default)s)")
    parser.add_argument(
        "--wait", type=not_negative_float, default=5.0, metavar="MS", help="for more texts (%(default)s)"
    )
    parser.add_argument(
        "--max-batch", type=positive, default=64, metavar="N", help="texts computed together (%(default)s)"
    )
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="of these, texts of similar length per pass (the run's)"
    )
    parser.add_argument("--max-texts", type=positive, default=256, metavar="N", help="per request (%(default)s)")
    parser.add_argument("--max-characters", type=positive, default=10000, metavar="N", help="per text (%(default)s)")
    parser.add_argument("--max-bytes", type=positive, default=2**20, metavar="N", help="per request (%(default)s)")
    parser.add_argument("--max-waiting", type=positive, default=4096, metavar="N", help="texts in all (%(default)s)")
    parser.add_argument("--threads", type=positive, metavar="N", help="of an exported model (one per core)")
    options = parser.parse_args(arguments)
    options.light = is_exported(options.run)
    return options


def convert(parser, arguments):
    """Options of `kexue-keras convert`.

    Raises:
        UserError: options that do not go together.
    """
    parser.add_argument("source", metavar="IN", help="folder with a TensorFlow checkpoint or Hugging Face's weights")
    parser.add_argument("target", metavar="OUT", help="new folder")
    parser.add_argument("--format", choices=MODEL_FORMATS, help="default: the one that IN does not have")
    parser.add_argument("--keep-tokens", metavar="FILE", help="JSON list of the token ids to keep")
    parser.add_argument("--corpus", metavar="FILE", help="texts, one per line: keep the SentencePiece pieces they need")
    parser.add_argument("--min-count", type=positive, default=1, metavar="N", help="of those, what occurs N times (1)")
    parser.add_argument("--max-pieces", type=positive, metavar="N", help="of those, N pieces in all")
    parser.add_argument("--ignore-extra", action="store_true", help="leave out variables that the format of OUT lacks")
    parser.add_argument("--enlarge", metavar="K", help="make it K times as wide, without loss (a whole number)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    options = parser.parse_args(arguments)
    if options.keep_tokens and options.corpus:
        raise UserError("--keep-tokens and --corpus both choose tokens; give one of them")
    if not options.corpus and (options.max_pieces or options.min_count != 1):
        raise UserError("--min-count and --max-pieces choose among the pieces of a --corpus; give one")
    if options.enlarge and (options.keep_tokens or options.corpus or options.ignore_extra):
        raise UserError(
            "--enlarge takes the whole model; choose tokens and leave out variables in an earlier conversion"
        )
    return options


def inspect_model(parser, arguments):
    """Options of `kexue-keras inspect`; `looks` of them are those asked for.

    Raises:
        UserError: there is nothing to look at.
    """
    parser.add_argument("model", metavar="MODEL", help="bundled name or model folder; for --gradients a file of Keras")
    parser.add_argument("--unargmaxable", action="store_true", help="words that can never be the prediction")
    parser.add_argument("--dimensions", action="store_true", help="sizes of embedding and heads against 8.33 log N")
    parser.add_argument("--gradients", action="store_true", help="gradients of recurrent layers by lag (model.h5)")
    parser.add_argument("--costs", action="store_true", help="parameters, FLOPs and time of its layers")
    parser.add_argument("--words", type=int, default=50, metavar="N", help="--unargmaxable: print N (%(default)s)")
    parser.add_argument("--steps", type=int, default=50, metavar="T", help="--gradients: steps of noise (%(default)s)")
    parser.add_argument("--length", type=int, default=128, metavar="N", help="--costs: tokens per row (%(default)s)")
    parser.add_argument("--batch-size", type=int, default=1, metavar="B", help="--costs: rows (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, metavar="R", help="--costs: timed passes (%(default)s)")
    parser.add_argument("--png", metavar="FILE", help="also a picture (matplotlib)")
    options = parser.parse_args(arguments)
    options.looks = [name for name in LOOKS if getattr(options, name)]
    if not options.looks:
        raise UserError("nothing to look at; give %s" % " or ".join("--" + name for name in LOOKS))
    return options


def explain(parser, arguments):
    """Options of `kexue-keras explain`.

    Raises:
        UserError: options that do not go together, or another suffix than .png and .html.
    """
    parser.add_argument(
        "text", nargs="+", metavar="TEXT", help="texts to explain; for pairs both texts, one after the other"
    )
    parser.add_argument("--run", metavar="RUN", help="folder of a fine-tuning run")
    parser.add_argument("--out", required=True, metavar="FILE", help=".html, or .png for a single text")
    parser.add_argument("--label", metavar="L", help="the label to explain (default: the most likely)")
    parser.add_argument("--steps", type=positive, default=32, metavar="N", help="of the integration (%(default)s)")
    parser.add_argument("--baseline", choices=BASELINES, help="in place of each word (mask, or pad)")
    parser.add_argument("--attention", action="store_true", help="instead: where the heads look")
    parser.add_argument("--model", metavar="M", help="--attention: bundled name or model folder instead of a run")
    parser.add_argument("--layer", type=int, metavar="I", help="--attention, .png: its heads; negative from the top")
    parser.add_argument("--head", type=int, metavar="I", help="--attention, .png: this head alone")
    options = parser.parse_args(arguments)
    if not options.out.endswith((".png", ".html")):
        raise UserError("--out is %s; it must end with .png or .html" % options.out)
    if bool(options.run) == bool(options.model):
        raise UserError("give --run RUN, or --attention with --model M")
    if options.model and not options.attention:
        raise UserError("--model has no labels; it goes with --attention")
    if options.attention and options.label is not None:
        raise UserError("--label goes without --attention")
    if not options.attention and (options.layer is not None or options.head is not None):
        raise UserError("--layer and --head go with --attention")
    return options


def plot(parser, arguments):
    """Options of `kexue-keras plot`.

    Raises:
        UserError: another suffix than .png.
    """
    parser.add_argument("--data", required=True, metavar="FILE", help="texts; their labels, if any, are the colours")
    parser.add_argument("--out", required=True, metavar="FILE", help=".png")
    parser.add_argument("--model", default="me5-zh-sp", metavar="M", help="as in similar (%(default)s)")
    parser.add_argument("--pooling", choices=list(POOLINGS), help="for a model that does not specify it (mean)")
    parser.add_argument("--max-length", type=tokens, metavar="N", help="tokens per text (64)")
    parser.add_argument("--method", choices=PLANES, default="pca", help="umap takes umap-learn (%(default)s)")
    parser.add_argument("--write-texts", action="store_true", help="write the texts next to their points")
    parser.add_argument("--seed", type=seed, default=1, metavar="S", help="(%(default)s)")
    add_table_arguments(parser)
    options = parser.parse_args(arguments)
    if not options.out.endswith(".png"):
        raise UserError("--out is %s; it must end with .png" % options.out)
    return options


def mine(parser, arguments):
    """Options of `kexue-keras mine`."""
    parser.add_argument("--data", required=True, metavar="FILE", help="pairs: a question and its positive")
    parser.add_argument("--out", required=True, metavar="FILE", help="TSV of question, positive, negative")
    parser.add_argument("--corpus", metavar="FILE", help="texts to mine from, one per line; default: all positives")
    parser.add_argument("--model", default="me5-zh-sp", metavar="M", help="as in similar (%(default)s)")
    parser.add_argument("--pooling", choices=list(POOLINGS), help="for a model that does not specify it (mean)")
    parser.add_argument("--max-length", type=tokens, metavar="N", help="tokens per text (64)")
    parser.add_argument("--negatives", type=positive, default=1, metavar="N", help="a pair (%(default)s)")
    parser.add_argument("--candidates", type=positive, default=50, metavar="N", help="nearest texts (%(default)s)")
    parser.add_argument("--skip", type=not_negative, default=0, metavar="N", help="of those, the nearest (%(default)s)")
    parser.add_argument("--margin", type=not_negative_float, metavar="C", help="below the positive's cosine at least")
    parser.add_argument(
        "--relative-margin",
        type=not_negative_float,
        default=0.05,
        metavar="SHARE",
        help="of the positive's cosine that a negative stays below it (%(default)s)",
    )
    parser.add_argument("--highest", type=number, metavar="C", help="largest cosine of a negative")
    parser.add_argument("--choose", choices=("nearest", "random"), default="nearest", help="(%(default)s)")
    parser.add_argument("--reranker", metavar="RUN", help="run of finetune on pairs, whose scores decide for cosines")
    parser.add_argument(
        "--label", default="1", metavar="L", help="of RUN, that says that both belong together (%(default)s)"
    )
    parser.add_argument("--method", choices=("exact", "hnsw"), default="exact", help="of the search (%(default)s)")
    parser.add_argument("--text-column", metavar="C", help="of a table: name, or number from 1")
    parser.add_argument("--text-b-column", metavar="C", help="of the positives")
    parser.add_argument("--format", choices=TABLE_FORMATS, help="default: by the suffix, else by the first line")
    parser.add_argument("--header", choices=("auto", "yes", "no"), default="auto", help="is line 1 a header?")
    parser.add_argument("--max-line", type=positive, metavar="N", default=MAX_LINE, help="characters (%(default)s)")
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="--choose random: (%(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    return parser.parse_args(arguments)


def similar(parser, arguments):
    """Options of `kexue-keras similar`.

    Raises:
        UserError: an empty text, or options that do not go together.
    """
    parser.add_argument("text", nargs="+", metavar="TEXT", help="texts to look for")
    parser.add_argument("--corpus", metavar="FILE|-", help="texts to search, one per line, or a table")
    parser.add_argument("--text-column", metavar="C", help="of a table: name, or number from 1")
    parser.add_argument("--format", choices=TABLE_FORMATS, help="default: by the suffix, else by the first line")
    parser.add_argument("--header", choices=("auto", "yes", "no"), default="auto", help="is line 1 a header?")
    parser.add_argument("--max-line", type=positive, metavar="N", default=MAX_LINE, help="characters (%(default)s)")
    parser.add_argument("--generate", action="store_true", help="paraphrase TEXT with a SimBERT or RoFormer-Sim")
    parser.add_argument(
        "--model",
        metavar="M",
        help="bundled name, model folder, or run of finetune --task similarity (me5-zh-sp; --generate: "
        "roformer-sim-zh-small)",
    )
    parser.add_argument("--pooling", choices=list(POOLINGS), help="for a model that does not specify it (mean)")
    parser.add_argument("--max-length", type=tokens, metavar="N", help="tokens per text (64)")
    parser.add_argument("-k", type=positive, default=10, metavar="K", help="hits per text (%(default)s)")
    parser.add_argument("-n", type=samples, default=100, metavar="N", help="--generate: samples per text (%(default)s)")
    parser.add_argument(
        "--mask", type=positive, nargs="+", metavar="P", help="--generate: tokens seen as [MASK], from 1"
    )
    parser.add_argument(
        "--entropy", type=not_negative_float, metavar="NATS", help="--generate: of each token's distribution, e.g. 0.5"
    )
    parser.add_argument(
        "--min-score", type=number, default=-1.0, metavar="C", help="--generate: smallest cosine with TEXT"
    )
    parser.add_argument(
        "--min-edits",
        type=not_negative,
        default=0,
        metavar="N",
        help="--generate: least number of characters that differ from TEXT",
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="--generate: (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_intermixed_args(arguments)
    options.text = [as_unicode(text) for text in options.text]
    if not all(text.strip() for text in options.text):
        raise UserError("the text is empty")
    if options.generate == (options.corpus is not None):
        raise UserError("give one of --corpus FILE (search there) and --generate (paraphrase it)")
    for name in ("mask", "entropy"):
        if not options.generate and getattr(options, name) not in (None, []):
            raise UserError("--%s goes with --generate" % name)
    return options
