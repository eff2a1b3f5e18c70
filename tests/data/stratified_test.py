"""Stratified parts: the same as scikit-learn's, draw for draw."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from kexue_keras.data._stratified import stratified_indices


@given(st.lists(st.integers(2, 40), min_size=1, max_size=8), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_same_parts_as_of_scikit_learn(counts, share, seed):
    rng = np.random.RandomState(1)
    strata = rng.permutation(np.repeat(np.arange(len(counts)) * 3, counts))
    # One of each stratum at least on both sides.
    held_out = len(counts) + int(share * (len(strata) - 2 * len(counts)))
    expected = train_test_split(np.arange(len(strata)), test_size=held_out, random_state=seed, stratify=strata)
    found = stratified_indices(strata, held_out, np.random.RandomState(seed))
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(np.sort(one), np.sort(other))
