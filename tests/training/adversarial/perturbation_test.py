"""Where embeddings enter the graph of a loss: what cannot be perturbed."""

import numpy as np
import pytest

from kexue_keras.backend import K, keras
from kexue_keras.training.adversarial import FGM, GradientPenalty
from kexue_keras.training.gradient_cache import gradient_cache


def test_no_lookups_within_a_loop(rng):
    tokens = keras.layers.Input([4])
    h = keras.layers.Lambda(lambda t: K.mean(t, 1))(keras.layers.Embedding(9, 4)(tokens))
    model = gradient_cache(keras.models.Model(tokens, keras.layers.Dropout(0.1)(h)), chunk_size=2, views=2)
    model.compile("sgd", "mse")
    for technique in (FGM, GradientPenalty):
        with technique(model), pytest.raises(NotImplementedError, match=r"while_loop \(of a GradientCache"):
            model.train_on_batch(np.ones((4, 4)), np.ones((4, 2, 4)))
