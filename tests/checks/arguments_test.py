"""The checks of Python values: what is a number, what is whole, what is a choice; and one form of all messages."""

import decimal
import fractions
import re

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras import checks

NO_NUMBERS = [True, np.bool_(False), "1", b"1", None, [1.0], np.array([1.0]), float("nan"), float("inf"), 1j, object()]


def said(value, wanted):
    return "^Some: x must be %s, but is %s$" % (re.escape(wanted), re.escape(repr(value)))


@pytest.mark.parametrize("value", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("check", [checks.number, checks.whole_number])
def test_what_is_no_number(check, value):
    wanted = "a whole number" if check is checks.whole_number else "a number"
    with pytest.raises(ValueError, match=said(value, wanted)):
        check(value, "x", "Some")


def test_a_tensor_is_no_number():
    with pytest.raises(ValueError, match="Some: x must be a number > 0, but is <tf.Tensor"):
        checks.number(tf.constant(1.0), "x", "Some", above=0)


@pytest.mark.parametrize(
    "value", [2, 2.0, np.float16(2), np.int64(2), np.array(2.0), fractions.Fraction(2), decimal.Decimal(2)], ids=repr
)
def test_what_is_a_number_becomes_one_of_python(value):
    assert type(checks.number(value, "x", "Some")) is float and checks.number(value, "x", "Some") == 2
    assert type(checks.whole_number(value, "x", "Some")) is int and checks.whole_number(value, "x", "Some") == 2


@pytest.mark.parametrize("value", [2.5, np.float32(0.1), -1e-9, fractions.Fraction(1, 3)])
def test_what_is_not_whole(value):
    with pytest.raises(ValueError, match=said(value, "a whole number >= -5")):
        checks.whole_number(value, "x", "Some", least=-5)


def test_large_whole_numbers_keep_every_digit():
    assert checks.whole_number(2**62 + 1, "seed", "Some") == 2**62 + 1
    with pytest.raises(ValueError, match="a whole number <= 4611686018427387904, but is 4611686018427387905"):
        checks.whole_number(2**62 + 1, "seed", "Some", most=2**62)


@pytest.mark.parametrize(
    "bounds, words, good, bad",
    [
        (dict(above=0), "> 0", [1e-300, 5], [0, -1]),
        (dict(least=0), ">= 0", [0, 5], [-1e-300]),
        (dict(below=1), "< 1", [-5, 0.999], [1, 2]),
        (dict(most=1), "<= 1", [-5, 1], [1.001]),
        (dict(least=0, below=1), "in [0, 1)", [0, 0.5], [-0.1, 1]),
        (dict(above=0, most=1), "in (0, 1]", [0.1, 1], [0, 1.1]),
        (dict(least=0, most=1), "in [0, 1]", [0, 1], [-0.1, 1.1]),
        (dict(above=0, below=1), "in (0, 1)", [0.5], [0, 1]),
    ],
)
def test_ranges_and_their_words(bounds, words, good, bad):
    for value in good:
        assert checks.number(value, "x", "Some", **bounds) == value
    for value in bad + [float("nan")]:
        with pytest.raises(ValueError, match=said(value, "a number " + words)):
            checks.number(value, "x", "Some", **bounds)


@given(st.floats(-10, 10), st.floats(-10, 10), st.floats(-10, 10))
def test_ranges_hold_what_they_say(value, low, high):
    inside = low <= value < high
    try:
        assert checks.number(value, "x", "Some", least=low, below=high) == value and inside
    except ValueError:
        assert not inside


def test_choices():
    assert checks.choice("sum", ("mean", "sum"), "x", "Some") == "sum"
    assert type(checks.choice(np.str_("sum"), ("mean", "sum"), "x", "Some")) is str
    assert checks.choice("b", {"a": 1, "b": 2}, "x", "Some") == "b"
    for wrong in ("other", None, 1, ["sum"], np.array(["sum", "sum"]), tf.constant("sum")):
        with pytest.raises(ValueError, match=said(wrong, "one of 'mean', 'sum'")):
            checks.choice(wrong, ("mean", "sum"), "x", "Some")


def test_a_remedy_stands_at_the_end():
    for check in (
        lambda: checks.number(-1, "x", "Some", least=0, remedy="give 0"),
        lambda: checks.whole_number(-1, "x", "Some", least=0, remedy="give 0"),
        lambda: checks.choice(-1, "ab", "x", "Some", remedy="give 0"),
    ):
        with pytest.raises(ValueError, match="^Some: x must be .*, but is -1; give 0$"):
            check()
