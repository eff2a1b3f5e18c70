"""The errors of the package: `UserError` for input and options, `WeightsError` for models and their files.

Both are what the user can mend; the command prints them as one line and ends with exit code 2. What they say may come
from a file that nobody has looked into, so it is made printable.
"""

import re
import unicodedata
from typing import Any, Optional

# Control characters move the cursor and change the terminal; direction marks show a line in another order; line
# separators make two of it; half of a surrogate pair cannot be written at all.
_UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
# The joiners within emoji and scripts are of category Cf, and harmless.
_JOINERS = "\u200c\u200d"
# How Python holds the bytes of a file name that the locale cannot decode.
_ESCAPED_BYTES = re.compile("[\udc80-\udcff]+")


def printable(text):
    """`text` on one line and safe for a terminal: control characters and broken Unicode as escapes, spaces as they are.

    Bytes of file names and arguments that the locale could not decode are shown as UTF-8 where they are that.

    >>> printable('\\x1b[31mred\\ttext\\n')
    '\\\\x1b[31mred\\\\ttext\\\\n'
    """
    text = str(text)
    if text.isprintable():
        return text
    text = as_unicode(text)
    return "".join(map(_shown, text))


def _shown(character):
    if unicodedata.category(character) not in _UNPRINTABLE or character in _JOINERS:
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def as_unicode(text):
    """An argument of the command as the user meant it: UTF-8, whatever the locale says.

    Only for words and texts; as a file name Python needs it as it came.

    >>> as_unicode('\\udce5\\udca5\\udcbd')
    '好'
    """
    return _ESCAPED_BYTES.sub(_decoded, text) if isinstance(text, str) else text


def _decoded(found):
    raw = found.group().encode("ascii", "surrogateescape")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("ascii", "backslashreplace")


def has_half_pair(text):
    """Whether `text` holds half of a surrogate pair, which UTF-8 cannot write.

    >>> has_half_pair('很差\\ud83d'), has_half_pair('很差😀')
    (True, False)
    """
    try:
        text.encode("utf-8")
        return False
    except UnicodeEncodeError:
        return True


def _one_line(text):
    return printable(" ".join(str(text).split()))


class UserError(Exception):
    """Something about the input, the options or a folder is wrong.

    Its text is `FILE:LINE: message`, `FILE: message` or `message`, always on one line and printable.

    Args:
        message: what happened, the offending value, what to do.
        path: the file it happened in.
        line: line number in that file, from 1.

    >>> str(UserError('the text is empty', path='train.tsv', line=3))
    'train.tsv:3: the text is empty'
    """

    def __init__(self, message: str, *, path: Any = None, line: Optional[int] = None) -> None:
        self.message = _one_line(message)
        self.path = None if path is None else str(path)
        self.line = line
        place = "" if path is None else (printable(path) or "''") + (":%d" % line if line is not None else "") + ": "
        super(UserError, self).__init__(place + self.message)


class WeightsError(ValueError):
    """A model folder, a vocabulary or a checkpoint does not fit the model that is to be built.

    Its text is on one line and printable.
    """

    def __str__(self):
        return _one_line(super(WeightsError, self).__str__())


def shorten(text, width=40):
    """`text` on one line and not longer than `width` characters, for messages.

    >>> shorten('ab' * 50, width=8)
    'ababa...'
    """
    text = " ".join(str(text).split())
    return text if len(text) <= width else text[: width - 3] + "..."
