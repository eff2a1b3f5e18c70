"""Types of options: a number or a word with its range."""

import argparse
import math

from kexue_keras.schemas import words
from kexue_keras.schemas.messages import expected
from kexue_keras.schemas.reading import matches

# Beyond these nothing can be computed, and what counts in 32 or 64 bits overflows.
MOST = 2**31 - 1
MOST_TOKENS = 2**16
MOST_SAMPLES = 10**5
MOST_BEAMS = 1000
MOST_ORDERS = 100


class Ranged(object):
    """argparse type with its range as JSON Schema, which also holds for `finetune(...)` and for config.json.

    Args:
        convert: function of str.
        schema: in the words of `schemas.words`.

    >>> positive('3'), positive.schema['minimum']
    (3, 1)
    """

    def __init__(self, convert, schema):
        self.convert, self.schema = convert, schema
        # argparse names it where a text cannot be converted.
        self.__name__ = convert.__name__

    def __call__(self, text):
        value = self.convert(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise argparse.ArgumentTypeError("%s is not a finite number" % text)
        if not matches(value, self.schema):
            raise argparse.ArgumentTypeError("%s is not %s" % (text, expected(self.schema)))
        return value


positive = Ranged(int, words.whole(1, MOST))
port = Ranged(int, words.whole(0, 65535))
not_negative = Ranged(int, words.whole(0, MOST))
tokens = Ranged(int, words.whole(1, MOST_TOKENS))
folds = Ranged(int, words.whole(2, 100))
samples = Ranged(int, words.whole(1, MOST_SAMPLES))
beams = Ranged(int, words.whole(1, MOST_BEAMS))
# Widths that are turned in pairs.
even = Ranged(int, dict(words.whole(2, MOST_TOKENS), multipleOf=2))
order = Ranged(int, words.whole(1, MOST_ORDERS))
seed = Ranged(int, words.whole(-(2**63), 2**63 - 1))
number = Ranged(float, words.number())
not_negative_float = Ranged(float, words.number(0))
positive_float = Ranged(float, words.number(above=0))
fraction = Ranged(float, words.SHARE)
# What stands between two labels, such as |.
separator = Ranged(str, words.NAME)
# By its name, or by its number from 1.
column = Ranged(str, {"type": ["string", "integer"], "minimum": 1})
