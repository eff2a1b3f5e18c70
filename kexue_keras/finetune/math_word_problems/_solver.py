"""`MathSolver`: equations and answers for questions, by a model that makes text of text, decoded with remembered keys.

BERT可以上几年级了？Seq2Seq“硬刚”小学数学应用题, kexue.fm/archives/7809.
"""

from collections import namedtuple
from typing import Any, Dict, List, Optional, Sequence

from kexue_keras.data import checked_texts
from kexue_keras.finetune._report import wilson_interval
from kexue_keras.finetune._seq2seq import Seq2Seq
from kexue_keras.finetune.math_word_problems._answers import answer_text
from kexue_keras.finetune.math_word_problems._evaluator import safe_eval
from kexue_keras.finetune.math_word_problems._normalizer import normalize_question, same_value
from kexue_keras.finetune.math_word_problems._writing import ProblemWriting
from kexue_keras.types import Path


class Solution(namedtuple("Solution", "equation value answer")):
    """What a solver makes of a question.

    Attributes:
        equation: str that the model wrote.
        value: `fractions.Fraction`, float for a root, or None if the equation has no value.
        answer: str in the form that the question asks for, '' without value.
    """


class MathSolver(object):
    """Writes the equation of a question, computes it, writes the answer.

    Args:
        seq2seq: `Seq2Seq`.
        writing: `ProblemWriting` that it was trained with.

    Reference: kexue.fm/archives/7809.

    >>> from kexue_keras.finetune import load_seq2seq
    >>> from kexue_keras.finetune.math_word_problems import MathSolver
    >>> solver = MathSolver(load_seq2seq('me5-zh-char', num_hidden_layers=1, max_source_length=32))  # not yet trained
    >>> len(solver.solve(['学校把135本练习本平均分给3个班，每班多少本？'], beams=2))
    1
    """

    def __init__(self, seq2seq: Seq2Seq, writing: Optional[ProblemWriting] = None) -> None:
        self.seq2seq, self.writing = seq2seq, writing or ProblemWriting()

    @classmethod
    def load(cls, run: Path) -> "MathSolver":
        """The solver of a finished run of `finetune --task math-word-problems`.

        Raises:
            UserError: the run is not finished, or is one of another task.
        """
        # Not at the top: that file has its options from the tasks.
        from kexue_keras.finetune.math_word_problems._training import solver_of_run

        return solver_of_run(run)

    def equations(self, questions: Sequence[str], *, beams: int = 1, batch_size: int = 32) -> List[str]:
        """The equation that the model writes for each question, whatever it is.

        Args:
            questions: list of str.
            beams: width of the beam search, 1 is greedy.
            batch_size: questions computed together.

        Returns:
            list of str.
        """
        questions = [normalize_question(text) for text in checked_texts(questions, name="questions", pairs=False)]
        sources = [self.writing.source(question) for question in questions]
        written = self.seq2seq.generate(sources, beams=beams, batch_size=batch_size)
        return [self.writing.equation(text, question) for text, question in zip(written, questions)]

    def solve(self, questions: Sequence[str], *, beams: int = 1, batch_size: int = 32) -> List[Solution]:
        """Equation, value and written answer of each question; see `equations`."""
        found = []
        for question, equation in zip(questions, self.equations(questions, beams=beams, batch_size=batch_size)):
            value = value_of(equation)
            answer = "" if value is None else answer_text(value, question=question, equation=equation)
            found.append(Solution(equation, value, answer))
        return found


def value_of(equation):
    """The value of an equation, exact if it has one, or None.

    >>> value_of('1/3'), value_of('1/0')
    (Fraction(1, 3), None)
    """
    for exact in (True, False):
        try:
            return safe_eval(equation, exact=exact)
        except ValueError:
            continue
    return None


def answer_accuracy(equations: Sequence[str], answers: Sequence[Any]) -> Dict[str, Any]:
    """Share of equations whose value is the answer, to 6 decimals.

    Args:
        equations: list of str, as models write them.
        answers: list of numbers (`WordProblem.answer`), or of expressions.

    Returns:
        dict: accuracy, accuracy_interval (95%, Wilson), right, total, unreadable (equations that have no value).

    Raises:
        ValueError: the lists are empty or differ in length, or an answer has no value.

    Reference: kexue.fm/archives/7809.

    >>> scores = answer_accuracy(['135/3', '2+', '1/3'], [45, 2, '(1/4)'])
    >>> scores['right'], scores['total'], scores['unreadable']
    (1, 3, 1)
    """
    if len(equations) != len(answers) or not answers:
        raise ValueError("%d equations for %d answers" % (len(equations), len(answers)))
    right = unreadable = 0
    for equation, answer in zip(equations, answers):
        value = value_of(equation)
        if value is None:
            unreadable += 1
            continue
        try:
            right += same_value(value, safe_eval(answer) if isinstance(answer, str) else answer)
        except OverflowError:
            continue
    total = len(answers)
    return {
        "accuracy": right / total,
        "accuracy_interval": [min(max(bound, 0.0), 1.0) for bound in wilson_interval(right, total)],
        "right": right,
        "total": total,
        "unreadable": unreadable,
    }
