"""model_report: FLOPs by hand, shared layers, parameters of the published sizes, time."""

import numpy as np
import pytest
from bert4keras.models import ALBERT, BERT, ELECTRA, ALBERT_Unshared, build_transformer_model

from kexue_keras.analysis.costs import LayerCost, model_report
from kexue_keras.backend import K, keras

TINY = dict(vocab_size=30, hidden_size=12, num_attention_heads=3, intermediate_size=20, max_position=16)


def build(model, layers=2, **sizes):
    sizes = dict(TINY, num_hidden_layers=layers, hidden_act="relu", **sizes)
    return build_transformer_model(model=model, return_keras_model=False, **sizes)


def of_a_layer(n, h, inner):
    return 2 * n * (4 * h * h + 2 * h * inner) + 4 * n * n * h


@pytest.mark.all_stacks
@pytest.mark.parametrize("rows", [1, 3])
def test_products_of_a_transformer(rows):
    report = model_report(build(BERT, with_mlm="linear"), 7, batch_size=rows)
    # The head: a square matrix, and the product with the embedding.
    assert report.flops == rows * (2 * of_a_layer(7, 12, 20) + 2 * 7 * 12 * 12 + 2 * 7 * 12 * 30)
    attention = next(x for x in report.layers if x.name == "Transformer-1-MultiHeadSelfAttention")
    assert attention == (
        attention.name,
        "MultiHeadAttention",
        4 * (12 * 12 + 12),
        1,
        rows * (8 * 7 * 144 + 4 * 49 * 12),
        None,
    )
    assert next(x for x in report.layers if x.name == "Embedding-Token").applications == 2


def test_the_published_sizes():
    sizes = dict(hidden_size=768, num_attention_heads=12, intermediate_size=3072, max_position=512)
    bert = model_report(build(BERT, 1, **dict(sizes, vocab_size=9)), 128)
    assert bert.flops == 1862270976
    albert = model_report(build(ALBERT, 2, **dict(sizes, vocab_size=9), embedding_size=128), 128)
    assert albert.flops == 2 * 1862270976 + 25165824
    shared = {layer.name: layer for layer in albert.layers}["Transformer-FeedForward"]
    assert shared.applications == 2 and shared.parameters == 2 * 768 * 3072 + 768 + 3072
    # Each layer more adds nothing, and with ALBERT_Unshared what a layer of BERT has.
    one, two = (
        model_report(build(ALBERT_Unshared, n, **dict(sizes, vocab_size=9), embedding_size=128), 4).parameters
        for n in (1, 2)
    )
    assert albert.parameters == one and two - one == 7087872
    assert one + 11 * 7087872 + (21128 - 9) * 128 == 87923968


@pytest.mark.parametrize(
    "model, sizes, expected",
    [
        (BERT, {}, 101677056),
        (ALBERT, {"embedding_size": 128}, 9957376),
        (ELECTRA, {"with_discriminator": True}, 102268417),
    ],
)
def test_parameters_of_the_published_sizes(model, sizes, expected):
    # All layers but the first are alike, and weights that are never made ready cost nothing.
    sizes = dict(sizes, hidden_size=768, num_attention_heads=12, intermediate_size=3072, max_position=512)

    def count(layers):
        model_ = build(model, layers, **dict(sizes, vocab_size=21128)).model
        return sum(int(np.prod(K.int_shape(weight))) for weight in model_.weights)

    one, two = count(1), count(2)
    assert one + 11 * (two - one) == expected


def test_convolutions_dense_and_loops():
    x = keras.layers.Input((None, 4))
    y = keras.layers.Conv1D(5, 3, padding="same")(x)
    model = keras.models.Model(x, keras.layers.TimeDistributed(keras.layers.Dense(2))(y))
    report = model_report(model, 6, batch_size=2)
    assert [layer.flops for layer in report.layers] == [2 * 2 * 6 * 5 * 3 * 4, 2 * 2 * 6 * 2 * 5]
    looping = model_report(keras.models.Model(x, keras.layers.SimpleRNN(3)(x)), 6)
    assert looping.layers[0].flops is None and looping.flops == 0
    assert "?" in looping.table()[1]


def test_times_and_the_table():
    report = model_report(build(BERT, 3), 8, repeats=2)
    assert report.milliseconds > 0 and all(layer.milliseconds > 0 for layer in report.layers)
    grouped = {layer.name: layer for layer in report.grouped()}
    assert grouped["Transformer-*-FeedForward"].applications == 3
    assert grouped["Transformer-*-FeedForward"].flops == 3 * 4 * 8 * 12 * 20
    assert sum(layer.parameters for layer in report.grouped()) == report.parameters
    lines = report.table()
    assert lines[-1].split()[0] == "{:,}".format(report.parameters) and lines[-1].endswith("in all")
    assert isinstance(report.layers[0], LayerCost)


def test_refusals():
    model = build(BERT, 1)
    for arguments, word in (({"length": 0}, "length"), ({"batch_size": 0}, "batch_size"), ({"repeats": -1}, "repeats")):
        with pytest.raises(ValueError, match="model_report.*" + word):
            model_report(model, **arguments)
    with pytest.raises(ValueError, match="1 inputs for a model that takes 2"):
        model_report(model, inputs=[np.ones([1, 4])])
