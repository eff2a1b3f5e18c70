"""Whole words are hidden: shares, lengths, and what a tokenizer makes of words."""

import sys
import types

import numpy as np
import pytest

from kexue_keras.data import whole_word_masking, word_cutter
from kexue_keras.data._word_masking import token_words
from kexue_keras.errors import UserError


def test_words_are_hidden_as_a_whole():
    random = np.random.RandomState(0)
    words = [[10] * 3, [20], [30] * 2] * 2000
    out = whole_word_masking(words, random, mask_id=4, vocab_size=1000, mask_rate=0.3, lowest=5)
    flat = [token for word in words for token in word]
    assert len(out) == len(flat)
    threes = np.array([out[i : i + 3] for i in range(0, len(out), 6)])
    touched = (threes != 10).any(axis=1)
    # A chosen word stays as it is only if each of its tokens is of the 10% that stay.
    assert abs(touched.mean() - 0.3) < 0.03
    hidden = threes[touched]
    assert abs((hidden == 4).mean() - 0.8) < 0.03 and abs((hidden == 10).mean() - 0.1) < 0.03
    assert (hidden >= 4).all()
    assert whole_word_masking(words, random, mask_id=4, vocab_size=1000, mask_rate=0) == flat
    assert whole_word_masking([], random, mask_id=4, vocab_size=1000) == []
    with pytest.raises(ValueError, match="mask_rate"):
        whole_word_masking(words, random, mask_id=4, vocab_size=1000, mask_rate=15)


def test_words_of_a_text(monkeypatch):
    class Tokenizer(object):
        def encode(self, word):
            return [2] + [ord(c) for c in word if c != " "] + [3], None

    assert token_words(Tokenizer(), "ab c", lambda text: ["ab", " ", "c"]) == [[97, 98], [99]]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install jieba==0.42.1"):
        word_cutter()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setitem(sys.modules, "jieba", types.SimpleNamespace(lcut=lambda text: [text]))
    assert word_cutter()("北京") == ["北京"]
