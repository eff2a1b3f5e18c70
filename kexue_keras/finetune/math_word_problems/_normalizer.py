"""Equations of Ape210K in one form: computable, mixed numbers and percents written out, no needless brackets.

BERT可以上几年级了？Seq2Seq“硬刚”小学数学应用题, kexue.fm/archives/7809. There brackets
are dropped as long as the value stays equal, and that also happens by chance: 20-20/(4+1) and 20-20/4+1 are both 16,
which teaches the model another question. So here brackets go only if the value stays equal for other numbers as well;
the article's rule is an option.
"""

import random
import re
from fractions import Fraction

from kexue_keras import checks
from kexue_keras.finetune.math_word_problems._evaluator import Arithmetic, safe_eval

RULES = ("meaning", "value", "none")
_DRAWS = 2


def normalize_equation(equation: str) -> str:
    """An equation or answer of Ape210K as an expression that `safe_eval` can read.

    A mixed number 1(5/6) becomes (1+5/6), 20% becomes (20/100), `:` becomes `/`, a leading `x=` goes.

    Args:
        equation: str.

    Returns:
        str.

    Reference: kexue.fm/archives/7809.

    >>> normalize_equation('x=150*20%/5%-150'), normalize_equation('1(5/6)')
    ('150*(20/100)/(5/100)-150', '(1+5/6)')
    """
    equation = re.sub(r"([0-9]+)\(([0-9]+/[0-9]+)\)", r"(\1+\2)", equation)
    equation = re.sub(r"([0-9]+)\(", r"\1+(", equation)
    equation = re.sub(r"([.0-9]+)%", r"(\1/100)", equation)
    equation = equation.replace(":", "/").replace("%", "/100")
    return equation[2:] if equation[:2] == "x=" else equation


def normalize_question(question: str) -> str:
    """A question with mixed numbers and fractions as its equation has them: 1(5/6) is (1+5/6), (1/5) is 1/5.

    >>> normalize_question('小明看了一本书的(1/5)，还剩1(5/6)')
    '小明看了一本书的1/5，还剩(1+5/6)'
    """
    question = re.sub(r"([0-9]+)\(([0-9]+/[0-9]+)\)", r"(\1+\2)", question)
    return re.sub(r"\(([0-9]+/[0-9]+)\)", r"\1", question)


def same_value(one: object, other: object) -> bool:
    """Whether two numbers agree after rounding to 6 decimals, as the article compares them.

    >>> same_value(28.26, Fraction(1413, 50))
    True
    """
    return round(float(one), 6) == round(float(other), 6)


def strip_brackets(equation: str, *, rule: str = "meaning") -> str:
    """An equation without the brackets that change nothing.

    Pairs are tried one after the other, in the order in which they close.

    Args:
        equation: str as `safe_eval` reads it.
        rule: 'meaning': a pair goes if the value stays equal also with random numbers in place of those that stand
            there (exponents stay); 'value': if the value stays equal to 6 decimals, the article's, which changes what
            one equation in forty shortened ones says; 'none': all brackets stay.

    Returns:
        str without spaces.

    Raises:
        ValueError: no such rule, or the equation has no value.

    Reference: kexue.fm/archives/7809.

    >>> strip_brackets('150*(20/100)/(5/100)-150'), strip_brackets('2+(3+1/4)-(2+1/6)')
    ('150*20/100/(5/100)-150', '2+3+1/4-(2+1/6)')
    >>> strip_brackets('20-20/(4+1)'), strip_brackets('20-20/(4+1)', rule='value')
    ('20-20/(4+1)', '20-20/4+1')
    """
    checks.choice(rule, RULES, "rule", "strip_brackets")
    if rule == "none":
        return equation.replace(" ", "")
    is_same = (_SameMeaning if rule == "meaning" else _SameValue)(equation)
    for left, right in _pairs(equation):
        # Spaces in place of the pair: the places of the others stay.
        shorter = equation[:left] + " " + equation[left + 1 : right] + " " + equation[right + 1 :]
        if is_same(shorter.replace(" ", "")):
            equation = shorter
    return equation.replace(" ", "")


def _pairs(equation):
    """Places (left, right) of the bracket pairs in the order in which they close."""
    opened, pairs = [], []
    for place, character in enumerate(equation):
        if character == "(":
            opened.append(place)
        elif character == ")":
            pairs.append((opened.pop(), place))
    return pairs


class _SameValue(object):
    """Whether other equations have the value of this one."""

    def __init__(self, equation):
        self.value = safe_eval(equation)

    def __call__(self, other):
        value = _value_or_none(lambda: safe_eval(other))
        return value is not None and same_value(value, self.value)


class _SameMeaning(object):
    """Whether other equations with as many numbers have the value of this one whatever the numbers are."""

    def __init__(self, equation):
        arithmetic = Arithmetic(equation)
        arithmetic.value(exact=False)
        self.count = len(arithmetic.numbers)
        # The same numbers in every process; fractions, since the bases of powers must not become large.
        draw = random.Random(equation)
        self.tests = []
        for _ in range(100):
            numbers = [Fraction(draw.randint(2, 999), draw.randint(2, 999)) for _ in range(self.count)]
            value = _value_or_none(lambda: arithmetic.value(numbers))
            if value is not None:
                self.tests.append((numbers, value))
            if len(self.tests) == _DRAWS:
                break

    def __call__(self, other):
        other = Arithmetic(other)
        return (
            len(self.tests) == _DRAWS
            and len(other.numbers) == self.count
            and all(_value_or_none(lambda: other.value(numbers)) == value for numbers, value in self.tests)
        )


def _value_or_none(compute):
    try:
        return compute()
    except ValueError:
        return None
