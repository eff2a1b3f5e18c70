"""vocab.txt: a token a line, whose id is the number of the line, so that one line lost or doubled spoils all after it.

The file is read here and not by bert4keras, which takes a doubled line for one and gives all later tokens other ids.
"""

import codecs
import os
import warnings

from kexue_keras.errors import WeightsError, shorten
from kexue_keras.files.paths import check_regular
from kexue_keras.schemas import ADDED_TOKENS, read_settings

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_LARGEST = 2**26
# Embeddings are padded to a multiple of this, or of its double, for the sake of tensor cores.
_PADDED_TO = 64


def read_vocabulary(path):
    """The tokens of a vocab.txt, in the order of their ids; those of an added_tokens.json beside it come last.

    Windows' line ends, a byte order mark and empty lines at the end do no harm; of a line with spaces the first word
    counts, as in bert4keras.

    Args:
        path: str.

    Returns:
        dict token -> id.

    Raises:
        WeightsError: with file and line: not UTF-8, an empty line, a token that stands there twice; one of the special
            tokens is absent, or [PAD] is not the first.

    >>> import tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'vocab.txt')
    >>> _ = open(path, 'w').write('[PAD]\\n[UNK]\\n[CLS]\\n[SEP]\\nx\\n')
    >>> read_vocabulary(path)['x']
    4
    """
    check_regular(path)
    if os.path.getsize(path) > _LARGEST:
        raise WeightsError("%s has %d bytes; that is no vocabulary" % (path, os.path.getsize(path)))
    with open(path, "rb") as handle:
        content = handle.read()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise WeightsError("%s is UTF-16: iconv -f UTF-16 -t UTF-8 converts it" % path)
    if content.startswith(codecs.BOM_UTF8):
        content = content[len(codecs.BOM_UTF8) :]
    lines = content.split(b"\n")
    while lines and not lines[-1].strip():
        lines.pop()
    tokens = {}
    for number, line in enumerate(lines, 1):
        token = _token(line, path, number)
        if token in tokens:
            raise WeightsError(
                "%s:%d: the token %s is already on line %d, so that all ids after it would be wrong; take the "
                "vocabulary that belongs to the model, or give tokenizer=..."
                % (path, number, _shown(token), tokens[token] + 1)
            )
        tokens[token] = number - 1
    check_special(tokens, path)
    _add_tokens(tokens, os.path.join(os.path.dirname(path), "added_tokens.json"))
    return tokens


def _token(line, path, number):
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise WeightsError(
            "%s:%d: not UTF-8 (byte 0x%02x); take the vocabulary that belongs to the model"
            % (path, number, line[error.start])
        )
    if not text.strip(" \t\r"):
        raise WeightsError("%s:%d: the line is empty; each line is a token, and its number the id" % (path, number))
    words = text.split()
    # A token may be a space of another kind, such as the full-width one.
    return words[0] if words else text.rstrip("\r")


def _shown(token):
    return ascii(shorten(token)) if not token.isprintable() else repr(shorten(token))


def check_special(tokens, source):
    """Refuse a vocabulary without [PAD], [UNK], [CLS] and [SEP], or with another first token than [PAD].

    Args:
        tokens: dict token -> id.
        source: str, for messages.

    Raises:
        WeightsError: see above.
    """
    absent = [token for token in SPECIAL if token not in tokens]
    if absent:
        raise WeightsError(
            "%s lacks %s, without which no text can be encoded; take the vocabulary that belongs to the model, or give "
            "tokenizer=..." % (source, ", ".join(absent))
        )
    if tokens["[PAD]"] != 0:
        raise WeightsError(
            "%s has [PAD] on line %d; bert4keras takes the id 0, line 1, for padding. Is a line too many, or out of "
            "order? If not, give tokenizer=..." % (source, tokens["[PAD]"] + 1)
        )


def _add_tokens(tokens, path):
    if not os.path.exists(path):
        return
    added = read_settings(path, ADDED_TOKENS)
    for token, place in sorted(added.items(), key=lambda item: (not isinstance(item[1], int), str(item[1]).zfill(20))):
        if tokens.get(token) == place and place is not None:
            continue
        if place is True or place != len(tokens) or token in tokens:
            raise WeightsError(
                "%s gives %s the id %s; after the vocabulary's %d tokens the next id is %d"
                % (path, _shown(token), shorten(place), len(tokens), len(tokens))
            )
        tokens[token] = place


def check_length(tokens, rows, vocabulary, source):
    """Compare the number of tokens with the rows of the embedding.

    More rows than tokens are padding if they make the number a multiple of 64; a warning says so.

    Args:
        tokens: int.
        rows: int.
        vocabulary, source: names of the files, for messages.

    Raises:
        WeightsError: they differ otherwise.
    """
    if tokens == rows:
        return
    if tokens < rows < tokens + 2 * _PADDED_TO and rows % _PADDED_TO == 0:
        warnings.warn(
            "%s has %d tokens, the token embedding of %s %d rows, a multiple of %d: the last %d are taken for padding"
            % (vocabulary, tokens, source, rows, _PADDED_TO, rows - tokens),
            stacklevel=3,
        )
        return
    raise WeightsError(
        "%s has %d tokens, but the token embedding of %s has %d rows; give the vocabulary that belongs to it"
        % (vocabulary, tokens, source, rows)
    )


def keep(tokens, keep_tokens):
    """The vocabulary cut to the ids `keep_tokens`, in their order; rows without a token get a name that no text has.

    >>> keep({'[PAD]': 0, 'x': 1, 'y': 2}, [0, 2, 9])
    {'[PAD]': 0, 'y': 1, '[kept 9]': 2}
    """
    by_id = {i: token for token, i in tokens.items()}
    return {by_id.get(i, "[kept %d]" % i): new for new, i in enumerate(keep_tokens)}
