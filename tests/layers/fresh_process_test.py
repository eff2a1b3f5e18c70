"""Attention layers and mixers, saved here, loaded in a fresh process."""

import numpy as np

from kexue_keras.backend import keras
from kexue_keras.layers import EntropyInvariantAttention, EntropyNormalization, SynthesizerAttention, mixing
from kexue_keras.layers.synthesizer import KINDS

LOAD = """
import sys
import numpy as np
import kexue_keras
from kexue_keras.backend import keras

model = keras.models.load_model(sys.argv[1], compile=False)
given = np.load(sys.argv[2])
for i, value in enumerate(model.predict_on_batch(given["ids"])):
    np.testing.assert_allclose(np.asarray(value), given["value_%d" % i], atol=1e-5, err_msg=str(i))
print("same", len(model.outputs))
"""


def test_all_are_saved_and_loaded(tmp_path, run_python):
    ids = keras.layers.Input((None,))
    x = keras.layers.Embedding(20, 8, mask_zero=True)(ids)
    layers = [
        EntropyInvariantAttention(2, 4, kappa=0.5, min_len=4),
        SynthesizerAttention(2, 4, kinds=KINDS, max_len=12, rank=3),
    ]
    outputs = [layer([x, x, x]) for layer in layers]
    outputs.append(EntropyNormalization(1.0)(x))
    for name in sorted(mixing.MIXERS):
        options = {} if name in ("fnet", "aft") else {"causal": True}
        outputs.append(mixing.make_mixer(name, max_len=12, ffn_units=12, **options)(x))
    outputs.append(mixing.MixerBlock("ffstack", 12, max_len=12, options={"causal": True}, dropout=0.1)(x))
    gate = mixing.SpatialGatingUnit(12, rescale="mean", spatial_initializer="glorot_uniform")
    outputs += [gate(x), mixing.ResMLP(12, max_len=12)(x)]
    model = keras.models.Model(ids, outputs)
    data = np.array([[3, 4, 5, 6, 0], [7, 8, 0, 0, 0], [1, 2, 3, 4, 5]])
    values = model.predict_on_batch(data)
    model.save(str(tmp_path / "model.h5"))
    saved = {"value_%d" % i: np.asarray(v) for i, v in enumerate(values)}
    np.savez(str(tmp_path / "values.npz"), ids=data, **saved)
    said = run_python(LOAD, tmp_path / "model.h5", tmp_path / "values.npz")
    assert "same %d" % len(outputs) in said
