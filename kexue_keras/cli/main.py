"""The command `kexue-keras`: which commands there are, errors of one line, exit codes.

At the top only the launcher and the standard library are imported, so that help and a mistyped command answer at once
and `doctor` runs where TensorFlow does not. The arguments of a command are parsed and checked with light modules alone;
its file, and the package with TensorFlow, are imported once they are good.
"""

import argparse
import contextlib
import importlib
import importlib.util
import io
import os
import sys
import warnings
from collections import namedtuple

from kexue_keras_launcher import light_package

PROG = "kexue-keras"
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

Command = namedtuple("Command", "module summary")

# The summaries stand here because a command's file may need the whole package.
COMMANDS = {
    "doctor": Command("doctor", "show versions, devices, what works here, what does not, and how to fix it"),
    "list": Command("list_techniques", "list the techniques: article, names, documentation"),
    "finetune": Command(
        "finetune",
        "fine-tune a model: labels for texts or pairs, sentence vectors from scored pairs, equations for questions",
    ),
    "search": Command("search", "search for the best options of finetune: learning rate and techniques"),
    "predict": Command("predict", "label texts with the model of a run"),
    "export": Command("export", "write a run or a model as ONNX or SavedModel, for predicting without Keras"),
    "serve": Command("serve", "serve a run or an exported folder over HTTP"),
    "convert": Command(
        "convert", "convert a model folder: TensorFlow checkpoint <-> Hugging Face; trim its vocabulary"
    ),
    "inspect": Command(
        "inspect_model", "look at a model: words it can never predict, its dimensions, costs, recurrent gradients"
    ),
    "explain": Command("explain", "show which tokens a run's decision is based on, or what a model's heads attend to"),
    "plot": Command("plot", "plot the sentence vectors of a file in two dimensions"),
    "mine": Command("mine", "mine hard negatives for positive pairs of texts"),
    "similar": Command("similar", "nearest texts of a file, or generated paraphrases"),
}


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, and without guessing at shortened options."""

    def __init__(self, **kwargs):
        super(Parser, self).__init__(allow_abbrev=False, **kwargs)

    def _print_message(self, message, file=None):
        # That of Python 3.12 lets no error of writing through.
        (file or sys.stderr).write(message or "")

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
        tf_keras: bool, the stack asked for, None for the one that comes by itself; only `doctor` in an environment that
            cannot work needs it.

    Returns:
        exit code: 0 done, 1 the package cannot be used here (doctor), 2 an error that the user can fix,
        130 interrupted.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    output = _load("cli", "output")
    # What these print is a report; the results are files, and perhaps hours of work.
    with output.guarded(survives=argv[:1] in (["finetune"], ["search"], ["convert"]), name=PROG):
        try:
            with _readable_output():
                code = _run(argv, tf_keras)
                sys.stdout.flush()
                return code
        except KeyboardInterrupt:
            output.complain("\n%s: interrupted; finetune --resume continues from the last checkpoint" % PROG)
            return 130
        except BrokenPipeError:
            return 0  # `kexue-keras predict ... | head`: nobody reads the rest
        except OSError as error:
            reason = _load("files", "system_errors").describe(error)
            output.complain("%s: %s" % (" ".join([PROG] + [name for name in argv[:1] if name in COMMANDS]), reason))
            return 2


def _run(argv, tf_keras):
    lines = ["  %-10s %s" % (name, command.summary) for name, command in COMMANDS.items()]
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
        return _run_command(given.command, given.arguments, tf_keras)
    except SystemExit as leave:  # argparse: help (0) or bad usage (2)
        return leave.code or 0


def _run_command(name, arguments, tf_keras):
    parser = Parser(prog="%s %s" % (PROG, name), description=COMMANDS[name].summary)
    if name == "doctor":
        return _load("cli", "doctor").run(parser, arguments, versions=_load("versions"), tf_keras=tf_keras)
    module, said = COMMANDS[name].module, io.StringIO()
    with light_package() as load:
        try:
            from kexue_keras.cli import arguments as declared
            from kexue_keras.errors import UserError

            options = getattr(declared, module)(parser, arguments)
            with contextlib.redirect_stderr(said):  # Keras greets here
                (_without_tensorflow if getattr(options, "light", False) else load)()
                command = importlib.import_module("kexue_keras.cli." + module)
        except ImportError as error:
            print(said.getvalue().replace("Using TensorFlow backend.\n", "") + str(error), file=sys.stderr)
            return 2
        except UserError as error:
            print("%s: %s" % (parser.prog, error), file=sys.stderr)
            return 2
        if not getattr(options, "light", False):
            from kexue_keras.backend import tf1

            tf1.logging.set_verbosity(tf1.logging.ERROR)
        try:
            return command.run(options)
        except UserError as error:
            print("%s: %s" % (parser.prog, error), file=sys.stderr)
            return 2


def _without_tensorflow():
    from kexue_keras.tokenizing.without_tensorflow import import_tokenizers

    import_tokenizers()


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


def _load(*place):
    """A module of the package by its path, without importing the package."""
    path = os.path.join(PACKAGE, *place) + ".py"
    spec = importlib.util.spec_from_file_location("_".join(("kexue_keras",) + place), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
