"""`safe_eval`: the value of an equation that a model wrote, without running anything.

The published example of the article gives what the model writes to Python's `eval`. Here Python's parser (`ast`) only
says what is computed with what, and fractions are computed; what is not arithmetic is refused before anything is
computed.

Reference: kexue.fm/archives/7809 (BERT可以上几年级了？Seq2Seq“硬刚”小学数学应用题); the data: Ape210K, arXiv 2009.11506.
"""

import ast
import re
from fractions import Fraction
from typing import Union

# Longest expression in characters; the longest equation of Ape210K's validation and test parts has 233.
LONGEST = 256
# Python 3.7's parser gives up at 93 brackets in each other, with a message on standard error.
DEEPEST = 50
LARGEST_BASE, LARGEST_EXPONENT = 10**6, 64
# Bits of numerator or denominator that a power may get; sums and products of so short an expression stay small.
MOST_BITS = 8192

_ALLOWED = re.compile(r"[0-9.+\-*/() ]+")
_NUMERAL = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")
_BINARY = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
    ast.Div: lambda a, b: a / b,
}


def safe_eval(expression: str, *, exact: bool = False) -> Union[float, Fraction]:
    """Value of an arithmetic expression: numbers, + - * / **, signs and brackets, nothing else.

    Args:
        expression: str, at most 256 characters.
        exact: bool; True gives the fraction, and refuses roots, which have none.

    Returns:
        float, or `fractions.Fraction`. Decimals are what they say: 0.1 is 1/10.

    Raises:
        ValueError: the expression is something else, divides by zero, or has no finite real value.
        TypeError: it is no str.

    Reference: kexue.fm/archives/7809.

    >>> safe_eval('(3.14*(4+1)**2)-(3.14*4**2)'), safe_eval('(1+2)/4', exact=True)
    (28.26, Fraction(3, 4))
    >>> safe_eval('9**9**9')
    Traceback (most recent call last):
    ...
    ValueError: '9**9**9': the exponent 387420489 is more than 64
    """
    value = Arithmetic(expression).value(exact=exact)
    if exact:
        return value
    try:
        return float(value)
    except OverflowError:
        raise ValueError("%s: the value is too large for a float" % _shown(expression))


class Arithmetic(object):
    """An expression that has been read and can be computed, also with other numbers in place of its own.

    Args:
        expression: str.

    Attributes:
        numbers: list of the numbers in it as fractions, in order of appearance.

    Raises:
        ValueError: see `safe_eval`; TypeError: it is no str.

    >>> Arithmetic('2*(3+.5)').numbers
    [Fraction(2, 1), Fraction(3, 1), Fraction(1, 2)]
    """

    def __init__(self, expression):
        if not isinstance(expression, str):
            raise TypeError("an expression is a str, not %r" % type(expression).__name__)
        self.expression, self.numbers = expression, []
        self._check_text()
        # Every number becomes its place in `numbers`: nothing is rounded to a float, and others can take their places.
        places = _NUMERAL.sub(self._place, expression).strip()
        try:
            self._tree = ast.parse(places, mode="eval").body
            self._check(self._tree)
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise ValueError("%s is no arithmetic expression" % _shown(expression))

    def _check_text(self):
        text = self.expression
        if not text.strip():
            raise ValueError("%s is empty" % _shown(text))
        if len(text) > LONGEST:
            raise ValueError("%s has %d characters; at most %d are computed" % (_shown(text), len(text), LONGEST))
        if not _ALLOWED.fullmatch(text):
            strange = next(character for character in text if not _ALLOWED.fullmatch(character))
            raise ValueError("%s has %r; digits, + - * / ** . ( ) and spaces are known" % (_shown(text), strange))
        depth = deepest = 0
        for character in text:
            depth += (character == "(") - (character == ")")
            deepest = max(deepest, depth)
        if deepest > DEEPEST:
            raise ValueError("%s has more than %d brackets in each other" % (_shown(text), DEEPEST))

    def _place(self, match):
        self.numbers.append(Fraction(match.group(0)))
        # Spaces, so that two numerals side by side stay two.
        return " %d " % (len(self.numbers) - 1)

    def _check(self, node):
        """Refuse all nodes but those of arithmetic; with these characters that is (1)(2) and the empty tuple."""
        if isinstance(node, ast.BinOp) and (type(node.op) in _BINARY or isinstance(node.op, ast.Pow)):
            self._check(node.left)
            self._check(node.right)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.UAdd, ast.USub)):
            self._check(node.operand)
        elif _place_of(node) is None:
            raise ValueError("a %s" % type(node).__name__)

    def value(self, numbers=None, *, exact=True):
        """The value as a fraction.

        Args:
            numbers: as many fractions as `self.numbers`, taken instead of those wherever no exponent stands.
            exact: bool, roots are refused; False: they are computed as floats.

        Raises:
            ValueError: see `safe_eval`.
        """
        try:
            return self._value(self._tree, self.numbers if numbers is None else numbers, exact)
        except ZeroDivisionError:
            raise ValueError("%s divides by zero" % _shown(self.expression))
        except OverflowError:
            raise ValueError("%s: a value in it is too large" % _shown(self.expression))

    def _value(self, node, numbers, exact):
        if isinstance(node, ast.UnaryOp):
            value = self._value(node.operand, numbers, exact)
            return -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            left = self._value(node.left, numbers, exact)
            if isinstance(node.op, ast.Pow):
                return self._power(left, self._value(node.right, self.numbers, exact), exact)
            return _BINARY[type(node.op)](left, self._value(node.right, numbers, exact))
        return numbers[_place_of(node)]

    def _power(self, base, exponent, exact):
        if abs(exponent) > LARGEST_EXPONENT:
            raise ValueError(
                "%s: the exponent %s is more than %d" % (_shown(self.expression), _short(exponent), LARGEST_EXPONENT)
            )
        if abs(base) > LARGEST_BASE:
            raise ValueError("%s: the base %s is more than %d" % (_shown(self.expression), _short(base), LARGEST_BASE))
        if exponent.denominator != 1:
            if exact or base < 0:
                raise ValueError("%s: the root of %s has no exact value" % (_shown(self.expression), _short(base)))
            return Fraction(float(base) ** float(exponent))
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits * abs(exponent) > MOST_BITS:
            raise ValueError("%s: a power in it has too many digits" % _shown(self.expression))
        return base ** int(exponent)


def _place_of(node):
    """The number of a number, or None; Python 3.7 calls the node Num, later ones Constant."""
    value = node.n if type(node).__name__ == "Num" else getattr(node, "value", None)
    return value if type(node).__name__ in ("Num", "Constant") and type(value) is int else None


def _shown(expression):
    return repr(expression if len(expression) <= 60 else expression[:57] + "...")


def _short(value):
    return "%s" % value if len(str(value)) <= 20 else "%.6g" % value
