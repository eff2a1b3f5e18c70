"""Attention maps: numpy's softmax, the maps of all layers of the family, pictures and pages."""

import json
import re

import numpy as np
import pytest
from helpers import tiny_bert_folder
from scipy.special import softmax

from kexue_keras import models
from kexue_keras.backend import K
from kexue_keras.models._kinds import CLASSES
from kexue_keras.pictures import attention_maps
from kexue_keras.similarity import SentenceEncoder

TEXT = "我在电影店看书"


def by_hand(encoder, layer, x):
    """softmax(Q K^T / sqrt(d)) of the first attention layer, its input being `x` `[n, d]`."""
    (wq, bq), (wk, bk) = (dense.get_weights() for dense in (layer.q_dense, layer.k_dense))
    q, k = (
        (x @ w + b).reshape(len(x), layer.heads, layer.key_size).transpose(1, 0, 2) for w, b in ((wq, bq), (wk, bk))
    )
    return softmax(q @ k.transpose(0, 2, 1) / np.sqrt(layer.key_size), axis=-1)


@pytest.mark.all_stacks
def test_they_are_the_softmax_of_the_products_and_the_model_stays_as_it_is(tiny):
    encoder = SentenceEncoder(tiny)
    before = encoder.encode([TEXT])
    own = {layer.name: vars(layer).get("pay_attention_to") for layer in encoder.model.layers}
    maps = attention_maps(encoder, TEXT)
    layers = {layer.name: layer for layer in encoder.model.layers}
    first = layers[maps.names[0]]
    assert maps.names[0].startswith("Transformer-0") and len(maps.names) == 2
    assert maps.tokens == ["[CLS]"] + list(TEXT) + ["[SEP]"]
    inputs = [layer for layer in encoder.model.layers if layer.name in ("Embedding-Dropout", "Embedding-Norm")]
    ids, segments = encoder.tokenizer.encode(TEXT)
    x = K.function(encoder.model.inputs, [inputs[-1].output])([np.array([ids]), np.array([segments])])[0][0]
    expected = by_hand(encoder, first, np.asarray(x, "float64"))
    np.testing.assert_allclose(maps.weights[0], expected, atol=1e-6)
    assert vars(first).get("pay_attention_to") is own[maps.names[0]]
    np.testing.assert_array_equal(encoder.encode([TEXT]), before)
    assert len(first._inbound_nodes) == 1 and first.output is not None
    again = attention_maps(encoder, TEXT)
    np.testing.assert_array_equal(again.weights[1], maps.weights[1])


@pytest.mark.dear
@pytest.mark.parametrize(
    "wrap, arguments",
    [
        (models.extend_with_entropy_invariance, {"allow_pretrained": True}),
        (models.extend_with_fused, {}),
        (lambda base: models.extend_with_recompute(base, "blocks"), {}),
        (lambda base: base, {"application": "unilm", "with_mlm": True, "missing": "initialise"}),
        (lambda base: base, {"kind": "nezha"}),
        (lambda base: base, {"kind": "roformer"}),
    ],
    ids=["entropy", "fused", "recompute", "unilm", "nezha", "roformer"],
)
def test_layers_of_the_family(tmp_path, wrap, arguments):
    folder = tiny_bert_folder(str(tmp_path / "m"), num_hidden_layers=1)
    kind = arguments.pop("kind", "bert")
    if kind != "bert":
        arguments["missing"], arguments["model"] = "initialise", CLASSES[kind]
    else:
        arguments["model"] = wrap(CLASSES["bert"])
    pretrained = models.load(folder, **arguments)
    maps = attention_maps(pretrained, (TEXT, "电影好"))
    (weights,) = maps.weights
    n = len(maps.tokens)
    assert weights.shape[1:] == (n, n) and n == 13
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    if "application" in arguments:  # the first text is read whole, the second one from left to right
        assert weights[:, :9, 9:].max() == 0 and np.triu(weights[0, 9:, 9:], 1).max() == 0
        assert weights[:, :9, :9].min() > 0
    else:
        assert weights.min() > 0


def test_pictures_and_pages(tiny, tmp_path):
    encoder = SentenceEncoder(tiny)
    maps = attention_maps(encoder, "大</script>电影")
    maps.save(str(tmp_path / "all.png"))
    maps.save(str(tmp_path / "heads.png"), layer=-1)
    maps.save(tmp_path / "one.png", layer=0, head=1)
    for name in ("all", "heads", "one"):
        assert (tmp_path / (name + ".png")).read_bytes()[:4] == b"\x89PNG"
    maps.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("</script>") == 1
    tokens = json.loads(re.search(r"tokens = (\[.*?\]), names", page).group(1))
    assert tokens[:3] == ["[CLS]", "大", "[UNK]"]
    for more, message in (
        ({"layer": 2}, "layer is 2, but there are 2 attention layers"),
        ({"head": 0}, "head is 0, but no layer is given"),
        ({"layer": 0, "head": 9}, "head is 9, but the layer has"),
        ({"layer": "x"}, "layer must be"),
    ):
        with pytest.raises(ValueError, match=message):
            maps.save(tmp_path / "x.png", **more)
    with pytest.raises(ValueError, match="writes .png or .html, but path is 'x.pdf'"):
        maps.save("x.pdf")


def test_a_model_without_attention_is_refused(tiny):
    from kexue_keras.backend import keras

    class Other(object):
        tokenizer = SentenceEncoder(tiny).tokenizer
        model = keras.models.Sequential([keras.layers.Dense(2, input_shape=(3,))])

    with pytest.raises(ValueError, match="no layer of the kind of bert4keras' MultiHeadAttention"):
        attention_maps(Other(), TEXT)
