"""`ProblemWriting`: how problem and equation are put to a model as texts: digit by digit, numbers copied, 3.14 as π.

BERT可以上几年级了？Seq2Seq“硬刚”小学数学应用题, kexue.fm/archives/7809,
proposes copying and π for 3.14. Copying is done in the text: each number of the question gets a sign in front,
①135 本 ... ②3 个班, and the equation is written with the signs, ①/②. Any model that makes text of text can do it, and a
number that it never saw is no harder than another.
"""

import re
from typing import Any, Dict

# Signs that a vocabulary has as single tokens and that questions do not use, the first that is complete is taken.
ALPHABETS = ("①②③④⑤⑥⑦⑧⑨⑩", "①②③④⑤⑥⑦⑧⑨", "αβγδεζηθικ", "ABCDEFGHIJ", "abcdefghij")
# A vocabulary without π has the character for a circle.
PIS, PI_DIGITS = ("π", "圆", "p"), "3.14"
NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")


class ProblemWriting(object):
    """Texts for a model, and equations of what it writes.

    Args:
        signs: str, a sign for each number of a question that can be copied; '' for no copying. Numbers beyond them are
            written out.
        pi: str, what 3.14 is written as; '' for itself.

    >>> writing = ProblemWriting('①②③')
    >>> writing.source('把135本平均分给3个班'), writing.target('135/3*10', '把135本平均分给3个班')
    ('把①1 3 5本平均分给②3个班', '① / ② * 1 0')
    >>> writing.equation('① / ② * 1 0', '把135本平均分给3个班')
    '135/3*10'
    """

    def __init__(self, signs: str = ALPHABETS[0], *, pi: str = PIS[0]) -> None:
        self.signs, self.pi = signs, pi

    def get_config(self) -> Dict[str, Any]:
        """What `ProblemWriting(**config)` takes."""
        return {"signs": self.signs, "pi": self.pi}

    def source(self, question: str) -> str:
        """The question as the model reads it."""
        free = iter(self.signs)
        return NUMBER.sub(lambda match: next(free, "") + " ".join(match.group(0)), question)

    def target(self, equation: str, question: str) -> str:
        """The equation as the model is to write it; of a number that occurs twice the first is copied."""
        copied = {}
        for sign, number in zip(self.signs, NUMBER.findall(question)):
            copied.setdefault(number, sign)
        if self.pi:
            copied[PI_DIGITS] = self.pi
        return " ".join(NUMBER.sub(lambda match: copied.get(match.group(0), match.group(0)), equation))

    def equation(self, text: str, question: str) -> str:
        """The equation of what the model wrote; a sign that the question does not have stays, and is no arithmetic."""
        numbers = dict(zip(self.signs, NUMBER.findall(question)))
        if self.pi:
            numbers[self.pi] = PI_DIGITS
        return "".join(numbers.get(character, character) for character in "".join(text.split()))
