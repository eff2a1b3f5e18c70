"""Equations in one form: values stay, brackets go where they mean nothing, and once is enough."""

from fractions import Fraction

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from kexue_keras.finetune.math_word_problems import normalize_equation, safe_eval, strip_brackets
from kexue_keras.finetune.math_word_problems._evaluator import Arithmetic
from kexue_keras.finetune.math_word_problems._normalizer import normalize_question, same_value


@pytest.mark.parametrize(
    "given_, wanted",
    [
        ("x=150*20%/5%-150", "150*(20/100)/(5/100)-150"),
        ("2.75-1(5/6)+3(1/4)-2(1/6)", "2.75-(1+5/6)+(3+1/4)-(2+1/6)"),
        ("x=(15/(15+1))*100%", "(15/(15+1))*(100/100)"),
        ("x=3:4", "3/4"),
        ("(1/2)%", "(1/2)/100"),
        ("93.75%", "(93.75/100)"),
        ("2(3+4)", "2+(3+4)"),
        ("x=5", "5"),
    ],
)
def test_forms(given_, wanted):
    assert normalize_equation(given_) == wanted
    assert normalize_equation(wanted) == wanted


def test_questions_have_the_fractions_of_their_equations():
    assert normalize_question("看了(1/5)，还剩1(5/6)，(a)") == "看了1/5，还剩(1+5/6)，(a)"


@pytest.mark.parametrize(
    "equation, meaning, value",
    [
        ("150*(20/100)/(5/100)-150", "150*20/100/(5/100)-150", "150*20/100/(5/100)-150"),
        ("2.75-(1+5/6)+(3+1/4)-(2+1/6)", "2.75-(1+5/6)+3+1/4-(2+1/6)", "2.75-(1+5/6)+3+1/4-(2+1/6)"),
        ("(3.14*(4+1)**2)-(3.14*4**2)", "3.14*(4+1)**2-3.14*4**2", "3.14*(4+1)**2-3.14*4**2"),
        # Agrees by chance: 20-20/(4+1) is 16, and so is 20-20/4+1.
        ("20-20/(4+1)", "20-20/(4+1)", "20-20/4+1"),
        ("(2+2)*2-2*(1+1)", "(2+2)*2-2*(1+1)", "(2+2)*2-2*(1+1)"),
        ("((5))", "5", "5"),
        ("(0-3)**2", "(0-3)**2", "(0-3)**2"),
        ("2**(1+2)", "2**(1+2)", "2**(1+2)"),
    ],
)
def test_brackets(equation, meaning, value):
    assert strip_brackets(equation) == meaning
    assert strip_brackets(equation, rule="value") == value
    assert strip_brackets(equation, rule="none") == equation
    assert same_value(safe_eval(meaning), safe_eval(equation)) and same_value(safe_eval(value), safe_eval(equation))


def test_a_strange_rule_and_an_equation_without_value_are_errors():
    with pytest.raises(ValueError, match="rule"):
        strip_brackets("1", rule="some")
    with pytest.raises(ValueError, match="zero"):
        strip_brackets("(1/0)")
    with pytest.raises(ValueError, match="no arithmetic"):
        strip_brackets("(1")


def equations():
    return st.recursive(
        st.integers(1, 99).map(str),
        lambda inner: st.builds("({}{}{})".format, inner, st.sampled_from("+-*/"), inner),
        max_leaves=6,
    )


@settings(max_examples=80, deadline=None)
@given(equations(), st.randoms(use_true_random=False))
def test_meaning_stays_and_once_is_enough(equation, draw):
    try:
        value = safe_eval(equation, exact=True)
    except ValueError:
        assume(False)
    shorter = strip_brackets(equation)
    assert strip_brackets(shorter) == shorter
    assert safe_eval(shorter, exact=True) == value
    one, other = Arithmetic(equation), Arithmetic(shorter)
    numbers = [Fraction(draw.randint(1, 999), draw.randint(1, 999)) for _ in one.numbers]
    try:
        assert one.value(numbers) == other.value(numbers)
    except ValueError:
        pass  # a division by zero


@settings(max_examples=80, deadline=None)
@given(equations())
def test_the_articles_rule_keeps_the_value(equation):
    try:
        value = safe_eval(equation)
    except ValueError:
        assume(False)
    assert same_value(safe_eval(strip_brackets(equation, rule="value")), value)


def test_brackets_that_are_left_are_needed():
    """Without any one pair of those left the meaning is another."""
    for equation in ("(1+2)*3", "8/(2*3)", "9-(4-2)", "((1+2)*3)**2", "20-20/(4+1)"):
        assert strip_brackets(equation) == equation
