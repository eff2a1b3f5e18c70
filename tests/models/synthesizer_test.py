"""extend_with_synthesizer: masks in every application, what the layer gets, vanilla is the base model."""

import numpy as np
import pytest
from helpers import tiny_bert_folder
from model_checks import BASES, IDS, check, make, predict

from kexue_keras.backend import K
from kexue_keras.layers import SynthesizerAttention
from kexue_keras.models import extend_with_synthesizer, load


@pytest.mark.parametrize(
    "base, application, variants",
    [
        ("bert", "unilm", ("dense", "vanilla")),
        ("roformer", "lm", ("random", "vanilla")),
        ("roformer", "encoder", "random"),
        ("bert", "lm", ("factorized_dense", "factorized_random", "fixed_random")),
    ],
)
def test_padding_and_leaks(base, application, variants):
    transformer = check(extend_with_synthesizer(BASES[base], variants=variants), application)
    layer = transformer.layers["Transformer-0-MultiHeadSelfAttention"]
    assert type(layer) is SynthesizerAttention and layer.max_length == 64
    transformer.model.get_config()


def test_vanilla_alone_is_the_model_it_extends(tmp_path, base="roformer"):
    folder = tiny_bert_folder(tmp_path, kind=base, num_hidden_layers=1)
    plain = predict(load(folder).bert, IDS)
    K.clear_session()
    loaded = load(folder, model=extend_with_synthesizer(BASES[base], variants="vanilla"))
    real = IDS > 0
    np.testing.assert_allclose(predict(loaded.bert, IDS)[real], plain[real], atol=1e-5)


def test_values_and_outputs_of_a_pretrained_attention_are_kept(tmp_path):
    folder = tiny_bert_folder(tmp_path, num_hidden_layers=1)
    with pytest.warns(UserWarning, match="Fresh, 1 variables: bert/encoder/layer_.*/attention/synthesizer/r"):
        loaded = load(folder, model=extend_with_synthesizer(BASES["bert"], variants="random", allow_pretrained=True))
    ours = K.get_value(loaded.bert.layers["Transformer-0-MultiHeadSelfAttention"].v_dense.kernel)
    K.clear_session()
    theirs = K.get_value(load(folder).bert.layers["Transformer-0-MultiHeadSelfAttention"].v_dense.kernel)
    np.testing.assert_array_equal(ours, theirs)


def test_errors():
    with pytest.raises(ValueError, match="a variant must be one of"):
        extend_with_synthesizer(BASES["bert"], variants="fancy")
    with pytest.raises(ValueError, match="product is at least max_length=64"):
        make(extend_with_synthesizer(BASES["bert"], variants="factorized_dense", factors=(2, 2), max_length=64))
    with pytest.raises(ValueError, match="attention_caches give the queries without their positions, which random"):
        make(extend_with_synthesizer(BASES["bert"], variants="random"), attention_caches={"a": []})
    with pytest.raises(ValueError, match="takes a model class of bert4keras"):
        extend_with_synthesizer(object)
