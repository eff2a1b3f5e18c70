"""Cells of a table of results: a text on one line, labels and probabilities, one or several."""

import re

import numpy as np


def one_line(text):
    """A text as a TSV cell."""
    return " ".join(text.split())


def join(labels):
    """One label, or several with | between them, as a TSV cell.

    >>> print(join('a|b'), join(['a|b', 'c']))
    a|b a\\|b|c
    """
    if isinstance(labels, str):
        return label_cell(labels)
    return "|".join(label_cell(label).replace("|", "\\|") for label in labels)


def label_cell(label):
    """A label as a TSV cell: a backslash in front of it is what a backslash, tab or line break becomes.

    >>> print(label_cell('a\\tb'), label_cell('a\\\\b'))
    a\\tb a\\\\b
    """
    return _BREAKING.sub(lambda found: found.group().encode("unicode_escape").decode("ascii"), str(label))


# What ends a line for some reader (str.splitlines), the tab, and the backslash itself.
_BREAKING = re.compile("[\\\\\t\n\x0b\x0c\r\x1c-\x1e\x85\u2028\u2029]")


def join_probabilities(probabilities):
    """One probability, or several with | between them, 4 digits.

    >>> join_probabilities([.5, .25])
    '0.5000|0.2500'
    """
    return "|".join("%.4f" % p for p in np.atleast_1d(probabilities))
