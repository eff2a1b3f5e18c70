"""extend_with_mixer: masks in every application, feed-forward layers, weights' names."""

import numpy as np
import pytest
from model_checks import BASES, check, make

from kexue_keras.backend import K
from kexue_keras.layers import mixing
from kexue_keras.models import extend_with_mixer


@pytest.mark.dear
@pytest.mark.parametrize(
    "base, application, mixer",
    [
        ("bert", "encoder", "fnet"),
        ("roformer", "encoder", "mlp"),
        ("bert", "lm", "ffstack"),
        ("roformer", "unilm", "resmlp"),
        ("roformer", "unilm", "gmlp"),
        ("bert", "unilm", "amlp"),
        ("bert", "lm", "external"),
        ("roformer", "unilm", "aft"),
        ("bert", "lm", "conv"),
        ("roformer", "unilm", "conv"),
    ],
)
def test_padding_and_leaks(base, application, mixer):
    options = {"spatial_initializer": "glorot_uniform"} if mixer in ("gmlp", "amlp") else {}
    transformer = check(extend_with_mixer(BASES[base], mixer, **options), application)
    layer = transformer.layers["Transformer-0-MultiHeadSelfAttention"]
    assert type(layer) is mixing.MIXERS[mixer]
    if mixer == "conv":
        assert layer.causal is (application == "lm") and layer.heads == transformer.num_attention_heads
    assert ("Transformer-0-FeedForward" in transformer.layers) is (mixer not in ("gmlp", "amlp"))
    names = transformer.variable_mapping()["Transformer-0-MultiHeadSelfAttention"]
    assert len(names) == len(layer.trainable_weights) == len(set(names))
    assert all(name.startswith("bert/encoder/layer_0/attention/%s/" % mixer) for name in names)
    transformer.model.get_config()


def test_feed_forward_can_stay_and_go():
    both = make(extend_with_mixer(BASES["bert"], "gmlp", feed_forward=True, max_length=32))
    assert "Transformer-0-FeedForward-Norm" in both.layers
    assert both.layers["Transformer-0-MultiHeadSelfAttention"].max_length == 32
    none = make(extend_with_mixer(BASES["bert"], "resmlp", feed_forward=False))
    assert not [name for name in none.layers if "FeedForward" in name]


def test_matrices_start_as_small_as_those_of_the_model():
    for mixer in ("mlp", "resmlp", "gmlp", "external", "aft", "conv"):
        layer = make(extend_with_mixer(BASES["bert"], mixer)).layers["Transformer-0-MultiHeadSelfAttention"]
        values = {w.name.split("/")[-1].split(":")[0]: v for w, v in zip(layer.weights, layer.get_weights())}
        large = [
            v for name, v in values.items() if v.size > 30 and v.any() and not name.startswith(("spatial", "gate"))
        ]
        assert large and all(0.01 < v.std() < 0.03 and np.abs(v).max() < 0.041 for v in large), mixer
    layer = make(extend_with_mixer(BASES["bert"], "mlp")).layers["Transformer-0-MultiHeadSelfAttention"]
    one, other = layer.kernel_1, layer.kernel_2
    assert K.int_shape(one) == K.int_shape(other) and np.abs(K.get_value(one) - K.get_value(other)).max() > 0.01
    wide = extend_with_mixer(BASES["bert"], "mlp", kernel_initializer="glorot_uniform")
    layer = make(wide).layers["Transformer-0-MultiHeadSelfAttention"]
    assert K.get_value(layer.kernel_1).std() > 0.05


def test_errors():
    with pytest.raises(ValueError, match="mixer must be one of"):
        extend_with_mixer(BASES["bert"], "attention")
    with pytest.raises(ValueError, match="mixes all tokens with all"):
        make(extend_with_mixer(BASES["bert"], "fnet"), "lm")
    with pytest.raises(ValueError, match="go with attention only"):
        make(extend_with_mixer(BASES["bert"], "gmlp"), residual_attention_scores=True)
    with pytest.raises(ValueError, match="takes a model class of bert4keras"):
        extend_with_mixer(None)
