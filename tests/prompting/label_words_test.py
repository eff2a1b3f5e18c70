"""Label words with equal rows in the output layer: what is said of them, and that nothing is said of others."""

import numpy as np
import pytest
from prompts import PATTERN, VOCABULARY, WORDS, tiny_mlm, tokenizer

from kexue_keras.analysis import find_unargmaxable
from kexue_keras.prompting import EqualWordsWarning, PromptClassifier, Verbalizer
from kexue_keras.prompting._label_words import equal_words


def layer(*equal):
    """(W, b) of the vocabulary with equal rows for these pairs of characters, the second with the larger bias."""
    rng = np.random.RandomState(0)
    W, b = rng.standard_normal((len(VOCABULARY), 3)).astype("float32"), np.zeros(len(VOCABULARY), "float32")
    for one, other in equal:
        W[VOCABULARY.index(other)] = W[VOCABULARY.index(one)]
        b[VOCABULARY.index(other)] = 0.25
    return W, b


def told(words, W, b):
    """What is to be said, or None."""
    return "; ".join(equal_words(Verbalizer(words).compile(tokenizer()), W, b, tokenizer())) or None


def test_a_word_that_another_always_beats():
    W, b = layer(("不", "好"))
    message = told(WORDS, W, b)
    assert "'不' has the row of '好', whose bias is larger by 0.25" in message
    assert "CHANGE" not in message
    # It is one of those that the search finds.
    found = find_unargmaxable(W, b, classes=[VOCABULARY.index("不")], methods=())
    assert found.of("unargmaxable").tolist() == [VOCABULARY.index("不")]
    assert told(WORDS, *layer()) is None and told(WORDS, W, 0 * b) is None
    # The word with the larger bias is all right.
    assert told({"差评": "好", "好评": "很"}, W, b) is None


def test_labels_that_no_text_tells_apart():
    message = told(WORDS, *layer(("不", "很")))
    assert "the labels '差评' and '好评', with '不' and '很', differ by -0.25 whatever the text says" in message
    both = {"差评": "不满", "好评": "很满"}
    assert "with '不满' and '很满', differ by -0.25" in told(both, *layer(("不", "很")))
    assert "CHANGE" not in told({"差评": "不满", "好评": "很意"}, *layer(("不", "很")))
    assert "CHANGE" not in told({"差评": ["不", "很"], "好评": "满"}, *layer(("不", "很")))
    # Without any bias both are the same, which is still no way to tell labels apart.
    W, _ = layer(("不", "很"))
    assert "differ by 0 whatever" in told(WORDS, W, np.zeros(len(W)))


def test_the_classifier_says_it():
    pretrained = tiny_mlm()
    table = pretrained.bert.layers["Embedding-Token"]
    weights = table.get_weights()
    weights[0][VOCABULARY.index("很")] = weights[0][VOCABULARY.index("不")]
    table.set_weights(weights)
    with pytest.warns(EqualWordsWarning, match="label words of tiny.*CHANGE ONE OF THEM"):
        PromptClassifier(pretrained, PATTERN, WORDS, max_length=32, allow_untrained_head=True)
