"""Which layers `freeze_below` leaves to be trained."""

import pytest
from bert4keras.models import build_transformer_model
from helpers import tiny_config

from kexue_keras.errors import WeightsError
from kexue_keras.models._freezing import freeze_below, layer_number


def build(model="bert", **config):
    config = tiny_config(num_hidden_layers=2, **config)
    return build_transformer_model(None, model=model, with_mlm="linear", return_keras_model=False, **config)


@pytest.mark.dear
@pytest.mark.parametrize("lowest, numbers", [(0, {0, 1}), (1, {1}), (2, set())])
@pytest.mark.parametrize("heads", [("MLM-",), ()])
def test_layers_below_embeddings_and_other_heads_stay(lowest, numbers, heads):
    bert = build()
    freeze_below(bert, lowest, heads=heads)
    trained = [name for name, layer in bert.layers.items() if getattr(layer, "trainable_weights", None)]
    assert {layer_number(name) for name in trained} - {None} == numbers
    assert {name for name in trained if layer_number(name) is None} == (
        {"MLM-Dense", "MLM-Norm", "MLM-Bias"} if heads else set()
    )


def test_shared_layers_cannot_be_parted():
    albert = build("albert", embedding_size=8)
    with pytest.raises(WeightsError, match="share their weights"):
        freeze_below(albert, 1)
    assert len(albert.model.trainable_weights) == len(albert.model.weights)
