"""The errors of the package: `UserError` for input and options, `WeightsError` for models and their files.

Both are what the user can mend; the command prints them as one line and ends with exit code 2.
"""


class UserError(Exception):
    """Something about the input, the options or a folder is wrong.

    Its text is `FILE:LINE: message`, `FILE: message` or `message`, always on one line.

    Args:
        message: what happened, the offending value, what to do.
        path: the file it happened in.
        line: line number in that file, from 1.

    >>> str(UserError('the text is empty', path='train.tsv', line=3))
    'train.tsv:3: the text is empty'
    """

    def __init__(self, message, *, path=None, line=None):
        self.message = printable(" ".join(str(message).split()))
        self.path = None if path is None else str(path)
        self.line = line
        place = "" if path is None else str(path) + (":%d" % line if line is not None else "") + ": "
        super(UserError, self).__init__(printable(place) + self.message)


class WeightsError(ValueError):
    """A model folder, a vocabulary or a checkpoint does not fit the model that is to be built."""


def printable(text):
    r"""`text` with what a terminal would obey (escape codes, marks of direction) or cannot show written as escapes.

    >>> print(printable('\x1b[31m很差'))
    \x1b[31m很差
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def shorten(text, width=40):
    """`text` on one line and not longer than `width` characters, for messages.

    >>> shorten('ab' * 50, width=8)
    'ababa...'
    """
    text = " ".join(str(text).split())
    return text if len(text) <= width else text[: width - 3] + "..."
