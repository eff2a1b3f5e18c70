"""Models with these layers are saved here and load in a fresh process, in the formats of Keras."""

import numpy as np
import pytest

from kexue_keras.backend import keras
from kexue_keras.layers import (
    SAU,
    DeepNormAdd,
    DeepNormAttention,
    GainInitializer,
    PerturbMax,
    PTuningEmbedding,
    RandomProjection,
    SimHash,
    SquarePlus,
    VonMisesFisherSampling,
    smooth,
)

LOAD = """
import sys, numpy as np
import kexue_keras
from kexue_keras.backend import keras
data = np.load(sys.argv[1] + "/data.npz")
model = keras.models.load_model(sys.argv[1] + "/model.h5", compile=False)
for got, key in zip(model.predict(data["tokens"]), ("probabilities", "codes", "points")):
    np.testing.assert_allclose(got, data[key], atol=1e-6, err_msg=key)
print("same")
"""


@pytest.mark.spread
def test_a_model_with_all_of_them_comes_back(tmp_path, run_python):
    tokens = keras.layers.Input((None,))
    x = keras.layers.Dense(8, activation="squareplus")(
        PTuningEmbedding(20, 8, trainable_ids=[1, 2], mask_zero=True)(tokens)
    )
    attention = DeepNormAttention(2, 4, gain=0.3, kernel_initializer=GainInitializer(1.0))([x, x, x])
    x = DeepNormAdd(2.0)([x, attention])
    x = keras.layers.Dense(8, activation="gauss_relu", kernel_initializer=GainInitializer(0.5))(x)
    x = SquarePlus(0.5, trainable_b=True, per_channel=True)(x)
    x = SAU(0.2, 0.5, trainable_alpha=True, trainable_sigma=True)(x)
    x = smooth("clip", "logistic", 0.3, True, low=-2.0, high=2.0)(x)
    x = smooth("max", "square", 0.1)([x, RandomProjection(8, kind="sparse")(x)])
    probabilities = PerturbMax("gumbel", num_points=7, nodes="article")(x)
    outputs = [probabilities, SimHash(5)(x), VonMisesFisherSampling(3.0, training_only=True, num_caches=50)(x)]
    model = keras.models.Model(tokens, outputs)
    model.set_weights([w + 0.01 for w in model.get_weights()])  # so that no start value passes for a loaded one
    data = np.array([[3, 1, 2, 19], [4, 5, 0, 0]])
    values = model.predict(data)
    np.savez(str(tmp_path / "data.npz"), tokens=data, probabilities=values[0], codes=values[1], points=values[2])
    model.save(str(tmp_path / "model.h5"))
    assert "same" in run_python(LOAD, tmp_path)
