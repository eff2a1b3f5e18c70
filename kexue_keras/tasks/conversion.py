"""What `kexue-keras convert` does: check the options, convert, say what came out."""

import glob
import json
import os

from kexue_keras import models
from kexue_keras.data import UserError


def convert_folder(options, *, say=print):
    """Convert a model folder as the command's options ask for.

    Args:
        options: namespace with source, target, format, keep_tokens, corpus, min_count, max_pieces, ignore_extra and
            overwrite.
        say: function of a line, for notes.

    Raises:
        UserError: anything that the user can mend; nothing was written then.
    """
    if options.keep_tokens and options.corpus:
        raise UserError("--keep-tokens and --corpus both choose tokens; give one of them")
    if not options.corpus and (options.max_pieces or options.min_count != 1):
        raise UserError("--min-count and --max-pieces choose among the pieces of a --corpus; give one")
    try:
        keep_tokens = _keep_tokens(options, say)
        left_out = models.convert(
            options.source,
            options.target,
            format=options.format,
            keep_tokens=keep_tokens,
            extra="ignore" if options.ignore_extra else "error",
            overwrite=options.overwrite,
        )
    except (models.WeightsError, ValueError, OSError) as error:
        raise UserError(error)
    if left_out:
        say("left out (no heads of pretraining): %s" % ", ".join(left_out))
    size = sum(os.path.getsize(path) for path in glob.glob(os.path.join(options.target, "*")))
    say("%s: %s, %.1f MB" % (options.target, ", ".join(sorted(os.listdir(options.target))), size / 1e6))


def _keep_tokens(options, say):
    if options.keep_tokens:
        try:
            with open(options.keep_tokens, encoding="utf-8") as handle:
                return json.load(handle)
        except (ValueError, RecursionError) as error:
            raise UserError("no JSON: %s" % error, path=options.keep_tokens)
    if not options.corpus:
        return None
    if not os.path.isfile(options.corpus):
        raise UserError("no such file", path=options.corpus)
    found = [path for path in ("spiece.model", "*.model") for path in glob.glob(os.path.join(options.source, path))]
    if not found:
        raise UserError("there is no SentencePiece model (spiece.model) to trim", path=options.source)
    trimmed = models.trim_sentencepiece(
        found[0], options.corpus, min_count=options.min_count, max_pieces=options.max_pieces
    )
    say("%d tokens are kept, which make up %.2f%% of the corpus" % (len(trimmed.keep_tokens), 100 * trimmed.coverage))
    return trimmed.keep_tokens
