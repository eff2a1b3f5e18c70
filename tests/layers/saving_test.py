"""Models with all of the layers are saved here and load in a fresh process, in the formats of Keras."""

import numpy as np
import pytest

from kexue_keras.backend import keras
from kexue_keras.layers import (
    SAU,
    DeepNormAdd,
    DeepNormAttention,
    EntropyInvariantAttention,
    EntropyNormalization,
    GainInitializer,
    PerturbMax,
    PTuningEmbedding,
    RandomProjection,
    SimHash,
    SquarePlus,
    SynthesizerAttention,
    VonMisesFisherSampling,
    mixing,
    smooth,
)
from kexue_keras.layers._synthesizer import VARIANTS

pytestmark = pytest.mark.all_stacks
LOAD = """
import sys
import numpy as np
import kexue_keras
from kexue_keras.backend import keras

model = keras.models.load_model(sys.argv[1] + "/model.h5", compile=False)
given = np.load(sys.argv[1] + "/values.npz")
for i, value in enumerate(model.predict_on_batch(given["tokens"])):
    np.testing.assert_allclose(np.asarray(value), given["value_%d" % i], atol=float(sys.argv[2]), err_msg=str(i))
print("same", len(model.outputs))
"""


def check_loading(model, tokens, folder, run_python, tolerance):
    """What the model gives is what it gives after loading."""
    values = model.predict_on_batch(tokens)
    np.savez(str(folder / "values.npz"), tokens=tokens, **{"value_%d" % i: np.asarray(v) for i, v in enumerate(values)})
    model.save(str(folder / "model.h5"))
    assert "same %d" % len(model.outputs) in run_python(LOAD, folder, tolerance)


def test_attention_and_mixers(tmp_path, run_python):
    ids = keras.layers.Input((None,))
    x = keras.layers.Embedding(20, 8, mask_zero=True)(ids)
    layers = [
        EntropyInvariantAttention(2, 4, kappa=0.5, min_length=4),
        SynthesizerAttention(2, 4, variants=VARIANTS, max_length=12, rank=3),
    ]
    outputs = [layer([x, x, x]) for layer in layers]
    outputs.append(EntropyNormalization(1.0)(x))
    for name in sorted(mixing.MIXERS):
        options = {} if name in ("fnet", "aft") else {"causal": True}
        outputs.append(mixing.make_mixer(name, max_length=12, ffn_units=12, **options)(x))
    outputs.append(mixing.MixerBlock("ffstack", 12, max_length=12, options={"causal": True}, dropout_rate=0.1)(x))
    gate = mixing.SpatialGatingUnit(12, rescale="mean", spatial_initializer="glorot_uniform")
    outputs += [gate(x), mixing.ResMLP(12, max_length=12)(x)]
    tokens = np.array([[3, 4, 5, 6, 0], [7, 8, 0, 0, 0], [1, 2, 3, 4, 5]])
    check_loading(keras.models.Model(ids, outputs), tokens, tmp_path, run_python, 1e-5)


def test_all_others(tmp_path, run_python):
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
    x = smooth("max", "square", 0.1)([x, RandomProjection(8, distribution="sparse")(x)])
    probabilities = PerturbMax("gumbel", num_nodes=7, nodes="article")(x)
    outputs = [probabilities, SimHash(5)(x), VonMisesFisherSampling(3.0, training_only=True, num_caches=50)(x)]
    model = keras.models.Model(tokens, outputs)
    model.set_weights([w + 0.01 for w in model.get_weights()])  # so that no start value passes for a loaded one
    check_loading(model, np.array([[3, 1, 2, 19], [4, 5, 0, 0]]), tmp_path, run_python, 1e-6)
