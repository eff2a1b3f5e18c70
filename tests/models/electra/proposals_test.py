"""propose_masks: the hardest places stay hidden, the others are shown again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_softmax

from kexue_keras.data import gather_places
from kexue_keras.models import propose_masks


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.2, 0.5, 1.0]))
def test_the_hardest_stay(seed, keep):
    rng = np.random.RandomState(seed)
    tokens = rng.randint(5, 12, [4, 9])
    hidden = rng.rand(4, 9) < 0.5
    places, labels = gather_places(np.where(hidden, tokens, 0))
    inputs = [np.where(hidden, 4, tokens), np.zeros([4, 9], int), places]
    logits = rng.randn(4, places.shape[1], 12)
    found, words = propose_masks(tokens, inputs, labels[..., None], logits, keep=keep)
    losses = -np.take_along_axis(log_softmax(logits, axis=-1), labels[..., None], -1)[..., 0]
    for row in range(4):
        real = labels[row] > 0
        count = int(np.ceil(keep * real.sum()))
        hardest = places[row][real][np.argsort(-losses[row][real])[:count]]
        kept = found[2][row][words[row, :, 0] > 0]
        assert sorted(kept) == sorted(hardest)
        np.testing.assert_array_equal(found[0][row] == 4, np.isin(np.arange(9), hardest))
        np.testing.assert_array_equal(np.where(found[0][row] == 4, tokens[row], found[0][row]), tokens[row])
        np.testing.assert_array_equal(words[row, :, 0][words[row, :, 0] > 0], tokens[row, kept])


def test_refusals():
    inputs = [np.array([[4, 6]]), np.array([[0, 0]]), np.array([[0]])]
    arguments = np.array([[5, 6]]), inputs, np.array([[5]])
    with pytest.raises(ValueError, match="logits"):
        propose_masks(*arguments, np.zeros([1, 2, 9]))
    for keep in (0, 1.5, "a"):
        with pytest.raises(ValueError, match="keep"):
            propose_masks(*arguments, np.zeros([1, 1, 9]), keep=keep)
