"""`kexue-keras convert`: convert a model folder, say what came out."""

import os
import warnings

from kexue_keras import checkpoints
from kexue_keras.cli.output import say
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.files import MARK, check_target, describe
from kexue_keras.files.paths import matching
from kexue_keras.schemas import read_token_ids


def run(options):
    """Convert a model folder as the options say."""
    convert_folder(options)
    return 0


def convert_folder(options):
    """Convert a model folder as the command's options ask for.

    Args:
        options: namespace with source, target, format, keep_tokens, corpus, min_count, max_pieces, ignore_extra,
            enlarge and overwrite.

    Raises:
        UserError: anything that the user can fix; nothing has been written then.
    """
    try:
        inputs = [path for path in (options.source, options.keep_tokens, options.corpus) if path]
        check_target(options.target, overwrite=options.overwrite, inputs=inputs)
        keep_tokens = _keep_tokens(options)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", UserWarning)
            if options.enlarge:
                left_out = _enlarge(options)
            else:
                left_out = checkpoints.convert(
                    options.source,
                    options.target,
                    format=options.format,
                    keep_tokens=keep_tokens,
                    extra="ignore" if options.ignore_extra else "error",
                    overwrite=options.overwrite,
                )
    except (WeightsError, ValueError) as error:
        raise UserError(error)
    except OSError as error:
        raise UserError(describe(error))
    for warning in caught:
        if issubclass(warning.category, UserWarning):
            say("note: %s" % warning.message)
    if left_out:
        say("left out (no heads of pretraining): %s" % ", ".join(left_out))
    names = sorted(name for name in os.listdir(options.target) if not name.startswith(MARK))
    size = sum(os.path.getsize(os.path.join(options.target, name)) for name in names)
    say("%s: %s, %.1f MB" % (options.target, ", ".join(names), size / 1e6))


def _enlarge(options):
    try:
        k = float(options.enlarge)
    except ValueError:
        raise UserError("--enlarge is %r; a whole number from 2 is needed" % options.enlarge)
    report = checkpoints.enlarge(
        options.source, options.target, k=k, format=options.format, overwrite=options.overwrite
    )
    say("%d times as wide: hidden size %d, %s" % (report.k, report.hidden_size, report.exactness))
    return report.left_out


def _keep_tokens(options):
    if options.keep_tokens:
        return read_token_ids(options.keep_tokens, error=UserError)
    if not options.corpus:
        return None
    if not os.path.isfile(options.corpus):
        raise UserError("no such file", path=options.corpus)
    found = matching(options.source, "spiece.model", "*.model")
    if not found:
        raise UserError("there is no SentencePiece model (spiece.model) to trim", path=options.source)
    trimmed = checkpoints.trim_sentencepiece(
        found[0], options.corpus, min_count=options.min_count, max_pieces=options.max_pieces
    )
    say("%d tokens are kept, which make up %.2f%% of the corpus" % (len(trimmed.keep_tokens), 100 * trimmed.coverage))
    return trimmed.keep_tokens
