"""Answers in the form that is asked for, the writing of problems for a model, and the score."""

from fractions import Fraction

import pytest

from kexue_keras.errors import UserError
from kexue_keras.finetune.math_word_problems import ProblemWriting, answer_accuracy, write_answer
from kexue_keras.finetune.math_word_problems._answers import answer_form, answer_text
from kexue_keras.finetune.math_word_problems._solver import value_of
from kexue_keras.finetune.math_word_problems._vocabulary import fit_to_vocabulary, tokenizer_before_loading, used_tokens


@pytest.mark.parametrize(
    "value, whole, decimal, fraction, percent",
    [
        (Fraction(7), "7", "7", "7", "700%"),
        (Fraction(11, 6), "2", "1.83", "1_5/6", "183.33%"),
        (Fraction(-11, 6), "-1", "-1.83", "-1_5/6", "-183.33%"),
        (Fraction(4, 5), "1", "0.8", "4/5", "80%"),
        (Fraction(15, 16), "1", "0.94", "15/16", "93.75%"),
        (Fraction(1, 200), "1", "0.01", "1/200", "0.5%"),
        (Fraction(-1, 1000), "0", "0", "-1/1000", "-0.1%"),
        (2.5, "3", "2.5", "2.5", "250%"),
        (2.0000000000001, "2", "2", "2", "200%"),
        (0, "0", "0", "0", "0%"),
    ],
)
def test_forms(value, whole, decimal, fraction, percent):
    forms = [write_answer(value, form=form) for form in ("whole", "decimal", "fraction", "percent")]
    assert forms == [whole, decimal, fraction, percent]


def test_rounding():
    assert write_answer(Fraction(5, 2), form="whole", down=True) == "2"
    assert write_answer(Fraction(1, 8), form="decimal", digits=2) == "0.13"
    assert write_answer(Fraction(123456, 1000), form="decimal", digits=0) == "123"
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            write_answer(value, form="whole")
    with pytest.raises(ValueError, match="form"):
        write_answer(1, form="roman")


@pytest.mark.parametrize(
    "question, equation, form, answer",
    [
        ("每班多少本？", "135/3", "whole", "45"),
        ("至少要几辆车？", "100/30", "whole", "4"),
        ("最多可以买几个？", "100/30", "whole", "3"),
        ("还剩几分之几？", "1-1/5", "fraction", "4/5"),
        ("看了1/5，还剩多少？", "2-1/5", "fraction", "1_4/5"),
        ("成活率是多少", "15/16", "percent", "93.75%"),
        ("占百分之几？", "1/4", "percent", "25%"),
        ("长多少米？", "3.5/2", "decimal", "1.75"),
    ],
)
def test_what_a_question_asks_for(question, equation, form, answer):
    assert answer_form(question, equation) == form
    assert answer_text(value_of(equation), question=question, equation=equation) == answer


def test_accuracy():
    scores = answer_accuracy(
        ["1/3", "0.333333", "x", "1/0", "2**.5", "7"], [Fraction(1, 3)] * 4 + [2**0.5, "7.0000001"]
    )
    assert (scores["right"], scores["total"], scores["unreadable"]) == (4, 6, 2)
    assert scores["accuracy_interval"][0] < 4 / 6 < scores["accuracy_interval"][1]
    for equations, answers in (([], []), (["1"], [1, 2])):
        with pytest.raises(ValueError, match="equations for"):
            answer_accuracy(equations, answers)
    with pytest.raises(ValueError):
        answer_accuracy(["1"], ["one"])


def test_numbers_are_copied_by_their_signs():
    writing = ProblemWriting("①②", pi="π")
    question = "一个圆半径2.5米，高10米，另一个2.5米、4米"
    assert writing.source(question) == "一个圆半径①2 . 5米，高②1 0米，另一个2 . 5米、4米"
    equation = "3.14*2.5*2.5*10*4*12.5"
    target = writing.target(equation, question)
    assert target == "π * ① * ① * ② * 4 * 1 2 . 5"
    assert writing.equation(target, question) == equation
    # A sign that the question does not have is no arithmetic, and no other number.
    assert writing.equation("② + 1", "只有1个") == "②+1" and value_of("②+1") is None
    plain = ProblemWriting("", pi="")
    assert plain.target("3.14*2", question) == "3 . 1 4 * 2" and plain.equation("3 . 1 4 * 2", question) == "3.14*2"
    assert ProblemWriting(**writing.get_config()).get_config() == writing.get_config()


def test_every_equation_survives_the_vocabulary():
    tokenizer, writing = tokenizer_before_loading("me5-zh-char"), ProblemWriting()
    fit_to_vocabulary(writing, tokenizer, copy=True, pi=True)
    assert len(writing.signs) >= 9 and len(writing.pi) == 1
    question = "3.14的1/5和12、34、56、78、90、11、22、33、44、55、66"
    equation = "(3.14*5+12.5)**2/(34-56)*78-90+11*22*33*44*55*66"
    target = writing.target(equation, question)
    ids = tokenizer.tokens_to_ids(tokenizer.tokenize(target))
    assert tokenizer._token_unk_id not in ids
    assert writing.equation(tokenizer.decode(ids), question) == equation
    kept = used_tokens(tokenizer, [(writing.source(question), target)], writing)
    assert set(map(int, ids)) <= set(kept) and kept == sorted(kept) and kept[0] == 0 and len(kept) < 100


def test_a_vocabulary_without_digits_is_refused(tmp_path):
    from helpers import tiny_bert_folder

    tokenizer = tokenizer_before_loading(tiny_bert_folder(tmp_path / "tiny"))
    with pytest.raises(UserError, match="cannot write 0 1 2"):
        fit_to_vocabulary(ProblemWriting(), tokenizer, copy=True, pi=True)
    assert tokenizer_before_loading("small-t5") is None
