"""LinearChainCRF: what its output is made of, its shapes, masks, half precision."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import K, get_session, keras, tf1
from kexue_keras.layers import LinearChainCRF


def test_the_output_holds_the_chain_and_the_scores():
    layer = LinearChainCRF()
    x = keras.layers.Input((None, 3))
    model = keras.models.Model(x, layer(keras.layers.Masking()(x)))
    assert [w.name.split("/")[-1] for w in layer.weights] == ["start:0", "end:0", "transitions:0"]
    assert not any(np.abs(w).max() for w in layer.get_weights())
    rng = np.random.RandomState(0)
    values = [rng.randn(*w.shape).astype("float32") for w in layer.get_weights()]
    layer.set_weights(values)
    for length in (4, 1):
        scores = rng.randn(2, length, 3).astype("float32")
        out = np.asarray(model.predict_on_batch(scores))
        assert out.shape == (2, 5 + length, 3) and layer.compute_output_shape((2, length, 3)) == out.shape
        for i in range(2):
            np.testing.assert_array_equal(
                out[i], np.concatenate([values[0][None], values[1][None], values[2], scores[i]])
            )


def test_no_mask_leaves_it_and_the_config_makes_it_again():
    layer = LinearChainCRF(name="chain")
    assert layer.compute_mask(None, mask=tf.constant([[True]])) is None
    assert LinearChainCRF.from_config(layer.get_config()).name == "chain"


def test_half_precision_comes_out_in_single():
    layer = LinearChainCRF()
    half = tf1.placeholder("float16", [None, None, 3])
    layer.build((None, None, 3))
    out = layer.call(half)
    assert out.dtype == tf.float32 and all(K.dtype(w) == "float32" for w in layer.weights)
    get_session().run([w.initializer for w in layer.weights])
    assert get_session().run(out, {half: np.ones((1, 2, 3))}).shape == (1, 7, 3)


def test_the_number_of_tags_must_be_known():
    with pytest.raises(ValueError, match="the last axis must be known"):
        LinearChainCRF().build((None, None, None))
