"""The command `kexue-keras`: doctor, list, finetune, predict, convert, similar.

Thin: it reads options, calls what the package offers as functions, and turns `UserError` into one line and exit
code 2. At the top only the standard library is imported, so that help and a mistyped command answer at once and
`doctor` runs where TensorFlow does not.
"""

import argparse
import contextlib
import importlib.util
import io
import os
import sys
import warnings

PROG = "kexue-keras"
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, and without guessing at shortened options."""

    def __init__(self, **kwargs):
        super(Parser, self).__init__(allow_abbrev=False, **kwargs)

    def error(self, message):
        line = " ".join(message.split())
        # Not `errors.printable`: doctor runs where the package cannot be imported.
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        print("%s: %s (%s --help)" % (self.prog, line, self.prog), file=sys.stderr)
        sys.exit(2)


def main(argv=None, tf_keras=None):
    """Run the command.

    Args:
        argv: list of arguments; None takes those of the process.
        tf_keras: bool, the stack asked for; only `doctor` in an environment that cannot work needs it.

    Returns:
        exit code: 0 done, 1 the package cannot be used here (doctor), 2 something is wrong that the user can mend,
        130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    streams = _beside("output")
    # What these print is a report; the results are files, and perhaps hours of work.
    with streams.guarded(survives=argv[:1] in (["finetune"], ["convert"]), name=PROG):
        try:
            with _readable_output():
                code = _run(argv, tf_keras)
                sys.stdout.flush()
                return code
        except KeyboardInterrupt:
            streams.complain("\n%s: interrupted; finetune --resume goes on from the last saved point" % PROG)
            return 130
        except BrokenPipeError:
            return 0  # `kexue-keras predict ... | head`: nobody reads on
        except OSError as error:
            reason = _beside(os.path.join("files", "system_errors")).describe(error)
            streams.complain("%s: %s" % (" ".join([PROG] + [name for name in argv[:1] if name in COMMANDS]), reason))
            return 2


def _run(argv, tf_keras):
    lines = ["  %-10s %s" % (name, command.__doc__.splitlines()[0]) for name, command in COMMANDS.items()]
    parser = Parser(
        prog=PROG,
        description="Fine-tune Chinese BERT models with the techniques of kexue.fm.",
        epilog="commands:\n%s\n\n`%s COMMAND --help` lists a command's options." % ("\n".join(lines), PROG),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", choices=list(COMMANDS), help=" | ".join(COMMANDS))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    if not argv:
        parser.print_help(sys.stderr)
        return 2
    try:
        given = parser.parse_args(argv)
        return _run_command(given, tf_keras)
    except SystemExit as leave:  # argparse: help (0) or bad usage (2)
        return leave.code or 0


def _run_command(given, tf_keras):
    command = COMMANDS[given.command]
    own = Parser(prog="%s %s" % (PROG, given.command), description=command.__doc__.splitlines()[0])
    if command is doctor:
        return doctor(own, given.arguments, tf_keras)
    package_error = _import_package()
    if package_error is not None:
        print(package_error, file=sys.stderr)
        return 2
    from kexue_keras.errors import UserError

    try:
        return command(own, given.arguments)
    except UserError as error:
        print("%s %s: %s" % (PROG, given.command, error), file=sys.stderr)
        return 2


@contextlib.contextmanager
def _readable_output():
    """Chinese labels must come out also where the locale is C (as in most containers)."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure") and (stream.encoding or "").lower().replace("-", "") != "utf8":
            stream.reconfigure(encoding="utf-8", errors="replace")
    with warnings.catch_warnings():
        # TensorFlow 1.15 and its numpy print pages of them; none is about what the user did.
        warnings.simplefilter("ignore")
        yield


def _import_package():
    """None, or why kexue_keras cannot be imported (with the mend)."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):  # Keras greets here
            from kexue_keras.backend import tf1
            from kexue_keras.finetune import _classification as classification  # noqa: F401
    except ImportError as error:
        return said.getvalue().replace("Using TensorFlow backend.\n", "") + str(error)
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    return None


def _beside(name):
    """A module of this folder, loaded without importing the package."""
    path = os.path.join(PACKAGE, name + ".py")
    spec = importlib.util.spec_from_file_location("kexue_keras_" + name.replace(os.sep, "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def doctor(parser, arguments, tf_keras=None):
    """show versions, devices, what works here and what does not, with the mend"""
    parser.parse_args(arguments)
    return _beside(os.path.join("cli", "doctor")).run(_beside("versions"), tf_keras)


def list_techniques(parser, arguments):
    """list the techniques: article, names, documentation"""
    parser.add_argument("--search", metavar="WORD", default="", help="only those that contain WORD")
    parser.add_argument("--all", action="store_true", help="also those that are not there yet")
    options = parser.parse_args(arguments)
    from kexue_keras import catalogue

    found = catalogue.search(options.search)
    shown = [t for t in found if options.all or catalogue.exists(t)]
    for t in shown:
        print("%3d  %s%s" % (t.number, t.title, "" if catalogue.exists(t) else "  (not there yet)"))
        links = ", ".join("https://kexue.fm/archives/%d" % number for number in t.articles)
        print("     %s" % " ".join(part for part in (t.chinese, links) if part))
        print("     %s" % ", ".join("kexue_keras." + name for name in t.names))
        print("     docs/%s" % t.docs)
    if not shown:
        hint = "; --all also looks at %d that are not there yet" % len(found) if found else ""
        print("%s list: nothing with %r%s" % (PROG, options.search, hint), file=sys.stderr)
        return 2
    return 0


def finetune(parser, arguments):
    """fine-tune a model: labels for texts or pairs, or sentence vectors from scored pairs"""
    from kexue_keras.errors import UserError
    from kexue_keras.finetune import _classification as classification
    from kexue_keras.finetune._options import add_finetune_arguments
    from kexue_keras.finetune._run_folder import RunFolder, known_options

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
    classification.finetune(say=_say, **given)
    return 0


def _say(line):
    from kexue_keras.errors import printable

    print(printable(line), flush=True)


def predict(parser, arguments):
    """label texts with the model of a run"""
    from kexue_keras.finetune._options import add_table_arguments, positive

    parser.add_argument("--run", required=True, metavar="RUN", help="folder of a fine-tuning run")
    parser.add_argument("--data", required=True, metavar="FILE|-", help="texts; - is standard input")
    parser.add_argument("--out", metavar="FILE", help="default: standard output")
    parser.add_argument("--overwrite", action="store_true", help="replace FILE")
    parser.add_argument("--batch-size", type=positive, metavar="N", help="default: as in training")
    parser.add_argument("--quiet", action="store_true", help="no notes, no progress bar")
    parser.add_argument("--no-text", dest="text", action="store_false", help="only label and probability")
    add_table_arguments(parser, for_labels=False)
    from kexue_keras.cli.predict import predict_file

    return predict_file(parser.parse_args(arguments), note=lambda line: print(line, file=sys.stderr))


def convert(parser, arguments):
    """convert a model folder: TensorFlow checkpoint <-> Hugging Face; trim its vocabulary"""
    from kexue_keras.finetune._options import positive

    parser.add_argument("source", metavar="IN", help="folder with a TensorFlow checkpoint or Hugging Face's weights")
    parser.add_argument("target", metavar="OUT", help="new folder")
    parser.add_argument("--format", choices=("tensorflow", "hf"), help="default: the one that IN does not have")
    parser.add_argument("--keep-tokens", metavar="FILE", help="JSON list of the token ids to keep")
    parser.add_argument("--corpus", metavar="FILE", help="texts, one a line: keep the SentencePiece pieces they need")
    parser.add_argument("--min-count", type=positive, default=1, metavar="N", help="of those, what occurs N times (1)")
    parser.add_argument("--max-pieces", type=positive, metavar="N", help="of those, N pieces in all")
    parser.add_argument("--ignore-extra", action="store_true", help="leave out variables that have no place in OUT")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT")
    from kexue_keras.cli.convert import convert_folder

    convert_folder(parser.parse_args(arguments), say=_say)
    return 0


def similar(parser, arguments):
    """nearest texts of a file, or similar texts by generating"""
    from kexue_keras.cli.similar import similar as find
    from kexue_keras.data._tables import KINDS, MAX_LINE
    from kexue_keras.errors import printable
    from kexue_keras.finetune._options import positive, samples, seed, tokens
    from kexue_keras.similarity._pooling import POOLINGS

    parser.add_argument("text", nargs="+", metavar="TEXT", help="texts to look for")
    parser.add_argument("--corpus", metavar="FILE|-", help="texts to search, one a line, or a table")
    parser.add_argument("--text-column", metavar="C", help="of a table: name, or number from 1")
    parser.add_argument("--format", choices=KINDS, help="default: by the suffix, else by the first line")
    parser.add_argument("--header", choices=("auto", "yes", "no"), default="auto", help="is line 1 a header?")
    parser.add_argument("--max-line", type=positive, metavar="N", default=MAX_LINE, help="characters (%(default)s)")
    parser.add_argument(
        "--generate", action="store_true", help="say TEXT in other words with a SimBERT or RoFormer-Sim"
    )
    parser.add_argument(
        "--model", metavar="M", help="bundled name, model folder, or run of finetune --task similarity (me5-zh-sp)"
    )
    parser.add_argument("--pooling", choices=list(POOLINGS), help="of a model that does not say it itself (mean)")
    parser.add_argument("--length", type=tokens, metavar="N", help="tokens a text (64)")
    parser.add_argument("-k", type=positive, default=10, metavar="K", help="hits a text (%(default)s)")
    parser.add_argument("-n", type=samples, default=100, metavar="N", help="--generate: samples a text (%(default)s)")
    parser.add_argument(
        "--mask", type=positive, nargs="+", metavar="P", help="--generate: tokens seen as [MASK], from 1"
    )
    parser.add_argument("--seed", type=seed, default=0, metavar="S", help="--generate: (%(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    for line in find(parser.parse_intermixed_args(arguments)):
        print("\t".join(map(printable, line.split("\t"))) if sys.stdout.isatty() else line)
    return 0


COMMANDS = {
    "doctor": doctor,
    "list": list_techniques,
    "finetune": finetune,
    "predict": predict,
    "convert": convert,
    "similar": similar,
}


if __name__ == "__main__":
    sys.exit(main())
