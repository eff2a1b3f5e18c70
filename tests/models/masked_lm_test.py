"""Masked accuracy: what a predictor that knows the answer, and one that always says the same, get."""

import numpy as np
from prompts import VOCABULARY, tokenizer

from kexue_keras.data import gather_places, random_masking
from kexue_keras.models._masked_lm import masked_examples, token_accuracy
from kexue_keras.prompting._head import is_trained


class Stub:
    """Answers with the token that stands before the hidden one in 书店书店..., or always with one token."""

    def __init__(self, always=None):
        self.always = always

    def predict_on_batch(self, inputs):
        tokens, _, places = inputs
        logits = np.zeros(places.shape + (len(VOCABULARY),))
        for row in range(len(tokens)):
            for column, place in enumerate(places[row]):
                answer = self.always or "店书"[place % 2]
                logits[row, column, VOCABULARY.index(answer)] = 20.0
        return logits


def test_a_predictor_that_knows_and_one_that_does_not():
    texts = ["书店" * 9] * 40

    def measured(stub, texts):
        return token_accuracy(stub.predict_on_batch, masked_examples(tokenizer(), texts, max_length=20))

    scores = measured(Stub(), texts)
    assert scores["accuracy"] == 1 and scores["loss"] < 1e-3 and 70 < scores["tokens"] < 150
    assert 0.4 < scores["chance"] < 0.6 and is_trained(scores)
    scores = measured(Stub("书"), texts)
    assert scores["accuracy"] <= scores["chance"] and not is_trained(scores)
    assert measured(Stub(), [""])["tokens"] == 0


def test_shares_of_random_masking_and_what_is_protected():
    ids = np.tile(np.arange(40, dtype="int32"), (4000, 1))
    inputs, labels = random_masking(
        ids, np.random.RandomState(0), mask_id=4, vocab_size=40, protected=[2, 3], mask_rate=0.2
    )
    chosen = labels != 0
    assert not chosen[:, [0, 2, 3]].any() and abs(chosen[:, 5:].mean() - 0.2) < 0.01
    np.testing.assert_array_equal(labels[chosen], ids[chosen])
    np.testing.assert_array_equal(inputs[~chosen], ids[~chosen])
    kept = inputs == ids
    hidden = chosen & (ids != 4)
    assert abs((inputs == 4)[hidden].mean() - 0.8 - 0.1 / 39) < 0.01
    assert abs(kept[hidden].mean() - 0.1 - 0.1 / 39) < 0.01
    places, gathered = gather_places(labels[:3])
    assert places.shape[1] == chosen[:3].sum(axis=1).max()
    for row in range(3):
        np.testing.assert_array_equal(labels[row, places[row]], gathered[row])
        assert gathered[row].astype(bool).sum() == chosen[row].sum()
    assert gather_places(np.zeros((2, 5), int))[1].shape == (2, 1)
