"""`Ape210kReader`: the word problems of Ape210K, one JSON object per line.

BERT可以上几年级了？Seq2Seq“硬刚”小学数学应用题, kexue.fm/archives/7809. Paper: Ape210K, arXiv 2009.11506.
"""

from collections import namedtuple
from typing import Iterator, List

from kexue_keras import checks
from kexue_keras.data import read_table
from kexue_keras.errors import UserError
from kexue_keras.files.paths import path_text
from kexue_keras.finetune.math_word_problems._evaluator import safe_eval
from kexue_keras.finetune.math_word_problems._normalizer import (
    RULES,
    normalize_equation,
    normalize_question,
    same_value,
    strip_brackets,
)
from kexue_keras.types import Path

FIELDS = ("original_text", "equation", "ans")
MAX_LINE = 20000


class WordProblem(namedtuple("WordProblem", "id question equation answer")):
    """A problem.

    Attributes:
        id: str.
        question: str, normalised.
        equation: str that `safe_eval` reads.
        answer: `fractions.Fraction` or, where that is none, float.
    """


class Ape210kReader(object):
    """Problems of a file of Ape210K whose equation agrees with its answer.

    Args:
        path: JSON lines, also .gz, each with original_text, equation and ans.
        brackets: what `strip_brackets` takes as `rule`.

    Attributes:
        problems: list of `WordProblem`.
        dropped: dict id -> str, why a problem was left out.

    Raises:
        UserError: no such file, a field is missing, or no problem is left.

    Reference: kexue.fm/archives/7809; arXiv 2009.11506.

    >>> import json, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), 'train.json')
    >>> with open(path, 'w', encoding='utf-8') as handle:
    ...     _ = handle.write(json.dumps({'id': '1', 'original_text': '135本练习本平均分给3个班', 'ans': '45',
    ...         'equation': 'x=(135)/3'}))
    >>> Ape210kReader(path).problems[0].equation
    '135/3'
    """

    def __init__(self, path: Path, *, brackets: str = "meaning") -> None:
        checks.choice(brackets, RULES, "brackets", "Ape210kReader")
        self.path, self.problems, self.dropped = path_text(path), [], {}
        table = read_table(self.path, format="jsonl", max_line=MAX_LINE)
        for number, (row, line) in enumerate(zip(table.rows, table.lines)):
            text, equation, answer = (_field(row, name, self.path, line) for name in FIELDS)
            name = str(row.get("id", number))
            try:
                self.problems.append(_checked(name, text, equation, answer, brackets))
            except ValueError as error:
                self.dropped[name] = str(error)
        if not self.problems:
            raise UserError("none of the %d problems has an equation with its answer" % len(table), path=self.path)

    def __len__(self) -> int:
        return len(self.problems)

    def __iter__(self) -> Iterator[WordProblem]:
        return iter(self.problems)

    def longer_than(self, characters: int) -> List[WordProblem]:
        """Problems whose question has more characters."""
        return [problem for problem in self.problems if len(problem.question) > characters]


def _field(row, name, path, line):
    if not isinstance(row.get(name), str) or not row[name].strip():
        raise UserError(
            "no %r with a text in it; a problem of Ape210K has %s" % (name, ", ".join(FIELDS)), path=path, line=line
        )
    return row[name]


def _checked(name, text, equation, answer, brackets):
    """`WordProblem`.

    Raises:
        ValueError: equation and answer do not agree, or have no value.
    """
    equation = normalize_equation(equation)
    value, wanted = safe_eval(equation), safe_eval(normalize_equation(answer))
    if not same_value(value, wanted):
        raise ValueError("the equation gives %g, the answer is %s" % (value, answer))
    try:
        wanted = safe_eval(normalize_equation(answer), exact=True)
    except ValueError:
        pass  # a root
    return WordProblem(name, normalize_question(text), strip_brackets(equation, rule=brackets), wanted)
