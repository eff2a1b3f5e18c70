"""Verbalizers: the oracle's numbers, several characters and lengths, invariances, what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prompts import VOCABULARY, tokenizer

from kexue_keras.prompting import Verbalizer


def logits_of(words, vocabulary=len(VOCABULARY)):
    """[1, 1, V] with the logits of single characters."""
    logits = np.full((1, 1, vocabulary), -30.0)
    for word, value in words.items():
        logits[0, 0, VOCABULARY.index(word)] = value
    return logits


@pytest.mark.parametrize("join, expected", [("mean_logit", 0.924141819979), ("sum_probability", 0.9648809730406602)])
def test_many_words_to_a_label_as_in_the_oracle(join, expected):
    words = Verbalizer({"A": ["很", "好"], "B": "不"}, join=join).compile(tokenizer())
    logits = logits_of({"很": 2, "坏": 0, "好": 1, "不": -1, "书": 0.5})
    probabilities = words.probabilities({1: words.word_scores(logits)})
    np.testing.assert_allclose(probabilities, [[expected, 1 - expected]], rtol=1e-10)


def test_the_score_of_a_word_is_the_sum_over_its_slots(rng):
    words = Verbalizer({"a": "喜欢", "b": "讨厌"}).compile(tokenizer())
    logits = rng.randn(4, 2, len(VOCABULARY))
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = [
        [sum(row[slot, VOCABULARY.index(c)] for slot, c in enumerate(word)) for word in ("喜欢", "讨厌")] for row in log_p
    ]
    np.testing.assert_allclose(words.word_scores(logits), expected, atol=1e-12)
    ratio = np.exp(np.array(expected))
    got = words.probabilities({2: words.word_scores(logits)})
    np.testing.assert_allclose(got, ratio / ratio.sum(axis=1, keepdims=True), atol=1e-12)


def test_different_lengths_are_divided_by_their_length(rng):
    with pytest.raises(ValueError, match=r"different numbers of tokens: 很 \(1\), 讨厌 \(2\)"):
        Verbalizer({"a": "很", "b": "讨厌"}).compile(tokenizer())
    words = Verbalizer({"a": "很", "b": "讨厌"}, normalize_length=True).compile(tokenizer())
    assert words.lengths == [1, 2]
    uniform = {k: words.word_scores(np.zeros((3, k, len(VOCABULARY)))) for k in words.lengths}
    np.testing.assert_allclose(words.probabilities(uniform), 0.5)  # without, the longer word would have 1/V of it
    one, two = rng.randn(3, 1, len(VOCABULARY)), rng.randn(3, 2, len(VOCABULARY))
    scores = words.label_scores({1: words.word_scores(one), 2: words.word_scores(two)})
    log_p = two - np.log(np.exp(two).sum(axis=-1, keepdims=True))
    expected = (log_p[:, 0, VOCABULARY.index("讨")] + log_p[:, 1, VOCABULARY.index("厌")]) / 2
    np.testing.assert_allclose(scores[:, 1], expected, atol=1e-12)


@given(st.floats(-1e3, 1e3), st.integers(0, 99))
def test_a_constant_on_all_logits_changes_nothing(shift, seed):
    words = Verbalizer({"a": ["很", "好"], "b": "不", "c": "坏"}).compile(tokenizer())
    logits = np.random.RandomState(seed).randn(2, 1, len(VOCABULARY)) * 5
    first, second = (words.probabilities({1: words.word_scores(x)}) for x in (logits, logits + shift))
    np.testing.assert_allclose(first, second, atol=1e-9)
    assert np.allclose(first.sum(axis=1), 1) and first.shape == (2, 3)


def test_what_is_far_out_stays_finite():
    words = Verbalizer({"a": "很", "b": "不"}, join="sum_probability").compile(tokenizer())
    logits = logits_of({"很": -3e4, "不": -2e4, "书": 3e4})
    assert words.probabilities({1: words.word_scores(logits)}).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    "words, message",
    [
        ({"a": "很"}, "at least two labels"),
        ({}, "at least two labels"),
        ({"a": "很", "b": []}, "label 'b' has no word"),
        ({"a": "很", "b": " "}, "is no word"),
        ({"a": "很", "b": ["不", "很"]}, "'很' stands for the labels 'a' and 'b'"),
        ({"a": "很", "b": "龘"}, "label 'b', word '龘': the vocabulary has no token for '龘'"),
        ({"a": "很", "b": "ab"}, "no single token a character or word; the vocabulary cuts it into a, ##b"),
        ({"a": "很", "b": "[PAD]"}, "id 0, which is padding"),
        ({"a": "很", "b": "[UNK]"}, "no token for"),
        ({"a": "a", "b": "A"}, "are the same tokens"),
    ],
)
def test_refused(words, message):
    with pytest.raises(ValueError) as info:
        Verbalizer(words).compile(tokenizer())
    assert message in str(info.value)


def test_configuration():
    verbalizer = Verbalizer({1: ["很"], "b": "不"}, join="sum_probability", normalize_length=True)
    assert Verbalizer.from_config(verbalizer.get_config()).get_config() == verbalizer.get_config()
    with pytest.raises(ValueError, match="join='max'"):
        Verbalizer({"a": "很", "b": "不"}, join="max")
