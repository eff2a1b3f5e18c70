"""extend_with_entropy_invariance: masks in every application, weights of the base, its function at the base length."""

import numpy as np
import pytest
from helpers import tiny_bert_folder
from model_checks import BASES, IDS, check, make, predict

from kexue_keras.backend import K
from kexue_keras.layers import EntropyInvariantAttention
from kexue_keras.models import extend_with_entropy_invariance, load


@pytest.mark.parametrize("base, application", [("bert", "unilm"), ("roformer", "lm"), ("roformer", "encoder")])
def test_padding_and_leaks(base, application):
    transformer = check(extend_with_entropy_invariance(BASES[base]), application)
    layer = transformer.layers["Transformer-0-MultiHeadSelfAttention"]
    assert type(layer) is EntropyInvariantAttention


def test_at_the_base_it_is_the_model_it_extends(tmp_path, base="roformer"):
    folder = tiny_bert_folder(tmp_path, kind=base, num_hidden_layers=1)
    ids = np.random.RandomState(0).randint(5, 30, (2, 20))
    plain = predict(load(folder).bert, ids)
    K.clear_session()
    cls = extend_with_entropy_invariance(BASES[base], base=20, allow_pretrained=True)
    with pytest.warns(UserWarning, match="Fresh, 0 variables: none"):
        loaded = load(folder, model=cls)
    np.testing.assert_allclose(predict(loaded.bert, ids), plain, atol=1e-5)
    # Under 16 tokens the factor stands still, but not at 1.
    assert np.abs(predict(loaded.bert, ids[:, :17]) - plain[:, :17]).max() > 1e-5


def test_residual_scores_of_realformer():
    transformer = make(
        extend_with_entropy_invariance(BASES["bert"]), num_hidden_layers=2, residual_attention_scores=True
    )
    assert np.isfinite(predict(transformer, IDS)).all()


def test_errors():
    with pytest.raises(ValueError, match="takes a model class of bert4keras.*but got 'bert'"):
        extend_with_entropy_invariance("bert")
    with pytest.raises(ValueError, match="base must be a number > 1, but is 0"):
        extend_with_entropy_invariance(BASES["bert"], base=0)
