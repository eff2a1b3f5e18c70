"""Initializers draw anew at each call, and depend on the seed alone."""

import numpy as np
import pytest
from bert4keras.layers import MultiHeadAttention

from kexue_keras.backend import K, TruncatedNormal, keras, set_seed
from kexue_keras.layers import SynthesizerAttention, mixing

pytestmark = pytest.mark.all_stacks
NAMES = "glorot_uniform he_normal lecun_uniform random_normal random_uniform truncated_normal orthogonal".split()


@pytest.mark.parametrize("name", NAMES)
def test_an_initializer_without_a_seed_draws_anew(name):
    initializer = keras.initializers.get(name)
    one, other = (K.get_value(K.variable(initializer((6, 6)))) for _ in range(2))
    assert not np.array_equal(one, other) and one.std() > 0


@pytest.mark.parametrize("layer", ["attention", "mixer", "synthesizer"])
def test_the_matrices_of_a_new_layer_differ(layer):
    """Of equal shapes, from one initializer."""
    x = keras.layers.Input((None, 8))
    if layer == "attention":
        built = MultiHeadAttention(2, 4, out_dim=8)
        built([x, x, x])
    elif layer == "mixer":
        built = mixing.make_mixer("aft", max_length=6, ffn_units=8)
        built(x)
    else:
        built = SynthesizerAttention(2, 4, out_dim=8, variants=("random", "vanilla", "dense"), max_length=4)
        built([x, x, x])
    matrices = [w for w in map(K.get_value, built.weights) if w.ndim == 2]
    assert len({w.tobytes() for w in matrices}) == len(matrices) >= 3


def test_it_is_of_the_seed_alone_and_saved_as_keras_own():
    def drawn(operations):
        K.clear_session()
        for _ in range(operations):
            K.zeros((2,))
        set_seed(3)
        initializer = TruncatedNormal(stddev=0.5)
        return np.stack([K.eval(initializer((50, 50))) for _ in range(2)])

    values = drawn(0)
    np.testing.assert_array_equal(values, drawn(5))
    assert np.abs(values).max() <= 1 and abs(values.std() - 0.44) < 0.01
    saved = keras.initializers.serialize(TruncatedNormal(stddev=0.5))
    loaded = keras.initializers.deserialize(saved)
    assert not isinstance(loaded, TruncatedNormal) and loaded.stddev == 0.5
