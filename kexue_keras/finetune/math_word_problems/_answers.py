"""The written form of an answer: a whole number, a decimal, a fraction or a percentage, as the question asks.

After what the companion script of kexue.fm/archives/7809 (BERT可以上几年级了？Seq2Seq“硬刚”小学数学应用题) does for a contest's answers.
"""

import math
import re
from fractions import Fraction
from typing import Union

from kexue_keras import checks

FORMS = ("whole", "decimal", "fraction", "percent")
# What is counted, so that the answer is whole; the measure words of the companion script.
COUNTED = "辆人个只箱包本束头盒张"
_HOW_MANY = re.compile("(?:多少|几)[%s]" % COUNTED)
_PERCENT = re.compile("百分之几|百分之多少|率是多少|率为多少|百分数")
_AT_MOST = re.compile("至多|最多")
_FRACTION = re.compile("[0-9]+/[0-9]+|几分之几")


def counts_whole_things(question: str) -> bool:
    """Whether a question asks how many there are of what comes in whole ones.

    >>> counts_whole_things('每班多少本？'), counts_whole_things('长多少米？')
    (True, False)
    """
    return bool(_HOW_MANY.search(question))


def answer_form(question: str, equation: str) -> str:
    """'whole', 'decimal', 'fraction' or 'percent': what a question asks for.

    Args:
        question: str.
        equation: str; decimals in it are answered by one.

    >>> [answer_form(*pair) for pair in (('每班多少本？', '135/3'), ('还剩几分之几？', '1-1/5'),
    ...     ('成活率是多少', '15/16'), ('长多少米？', '3.5*2'))]
    ['whole', 'fraction', 'percent', 'decimal']
    """
    if _PERCENT.search(question):
        return "percent"
    if counts_whole_things(question):
        return "whole"
    return "fraction" if _FRACTION.search(question) and "." not in equation else "decimal"


def write_answer(value: Union[Fraction, float, int], *, form: str, down: bool = False, digits: int = 2) -> str:
    """A value in one of the forms.

    Args:
        value: number.
        form: 'whole': rounded up, for what is counted comes in whole ones; 'decimal'; 'fraction': in lowest terms, with
            whole part as 1_5/6; 'percent'. A whole value is written whole in all but 'percent'.
        down: bool, 'whole' rounds down ('at most').
        digits: decimals that are kept of 'decimal' and 'percent'.

    Returns:
        str.

    Raises:
        ValueError: no such form, or the value is not finite.

    >>> [write_answer(Fraction(11, 6), form=form) for form in ('whole', 'decimal', 'fraction', 'percent')]
    ['2', '1.83', '1_5/6', '183.33%']
    """
    checks.choice(form, FORMS, "form", "write_answer")
    if not math.isfinite(value):
        raise ValueError("%r cannot be written; a finite number is needed" % (value,))
    exact = Fraction(value)
    if form == "percent":
        return _decimal(exact * 100, digits) + "%"
    if exact.denominator == 1:
        return str(exact.numerator)
    if form == "whole":
        # A float that is whole but for its last bit is whole.
        near = Fraction(round(exact))
        if abs(exact - near) < Fraction(1, 10**9):
            return str(int(near))
        return str(math.floor(exact) if down else math.ceil(exact))
    if form == "decimal" or not isinstance(value, Fraction):
        return _decimal(exact, digits)
    whole, rest = divmod(abs(exact.numerator), exact.denominator)
    sign = "-" if exact < 0 else ""
    return sign + ("%d_" % whole if whole else "") + "%d/%d" % (rest, exact.denominator)


def answer_text(value: Union[Fraction, float, int], *, question: str, equation: str) -> str:
    """The answer to a question, in the form that it asks for.

    >>> answer_text(Fraction(15, 16), question='成活率是多少', equation='15/16')
    '93.75%'
    """
    return write_answer(value, form=answer_form(question, equation), down=bool(_AT_MOST.search(question)))


def _decimal(value, digits):
    """Rounded half away from zero, as at school, without closing zeros."""
    scaled = abs(value) * 10**digits
    rounded = math.floor(scaled + Fraction(1, 2))
    if not rounded:
        return "0"
    text = "%d" % rounded
    if digits:
        text = text.rjust(digits + 1, "0")
        text = (text[:-digits] + "." + text[-digits:]).rstrip("0").rstrip(".")
    return ("-" if value < 0 else "") + text
