"""Whole numbers in the cells of tables and in options: what counts as one."""

# Room for any column, class or index; beyond that it is a number of a telephone or an order, a word like others.
DIGITS = 18


def whole_number(value):
    """The int that a text of decimal digits says, with or without one minus; None for everything else.

    Unlike `str.isdigit` it takes neither circled nor raised digits, which `int` refuses.

    >>> [whole_number(text) for text in ('12', '-3', '--1', '①', '²', '', '1.0', '9' * 30)]
    [12, -3, None, None, None, None, None, None]
    """
    text = str(value).strip()
    digits = text[1:] if text.startswith("-") else text
    return int(text) if digits.isdecimal() and len(digits) <= DIGITS else None
