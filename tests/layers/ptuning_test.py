"""The embedding of P-tuning: only the prompt moves, in both modes, whatever the optimizer."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.layers import Embedding
from bert4keras.models import BERT, build_transformer_model
from helpers import tiny_config

from kexue_keras.backend import K, get_session, keras
from kexue_keras.layers import PTuningEmbedding
from kexue_keras.optimizers import AdamW

IDS = [1, 4, 2]


def tied_model(embedding):
    tokens = keras.layers.Input((None,))
    hidden = embedding(tokens)
    logits = embedding(hidden, mode="dense")
    return keras.models.Model(tokens, logits)


def test_it_is_the_ordinary_embedding_in_both_modes():
    ours, plain = PTuningEmbedding(9, 4, trainable_ids=IDS, mask_zero=True), Embedding(9, 4, mask_zero=True)
    model, reference = tied_model(ours), tied_model(plain)
    table = np.random.RandomState(0).randn(9, 4)
    ours.set_table(table)
    plain.set_weights([table])
    tokens = np.array([[0, 1, 2, 3], [4, 5, 0, 0]])
    np.testing.assert_allclose(model.predict(tokens), reference.predict(tokens), atol=1e-6)
    np.testing.assert_allclose(ours.get_table(), table, atol=1e-7)
    x = keras.layers.Input((4,))
    ours(x), plain(x)
    masks = K.function([x], [ours.get_output_mask_at(-1), plain.get_output_mask_at(-1)])([tokens])
    assert masks[0].tolist() == masks[1].tolist() == [[True] * 4, [True, True, False, False]]


@pytest.mark.parametrize(
    "make", [lambda: AdamW(0.1, weight_decay=0.1), lambda: keras.optimizers.SGD(0.1, momentum=0.9)]
)
def test_only_the_prompt_moves(make):
    layer = PTuningEmbedding(9, 4, trainable_ids=IDS)
    model = tied_model(layer)
    model.compile(make(), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = layer.get_table()
    tokens = np.arange(9)[None]
    for _ in range(3):
        model.train_on_batch(tokens, tokens[..., None])
    moved = np.abs(layer.get_table() - before).max(1) > 0
    assert sorted(np.flatnonzero(moved)) == sorted(IDS)
    sizes = [w.size for w in model.optimizer.get_weights()]
    assert max(sizes) <= len(IDS) * 4  # no state for the frozen rows


def test_gradient_is_that_of_the_masked_table():
    layer, rng = PTuningEmbedding(9, 4, trainable_ids=IDS), np.random.RandomState(1)
    tokens = K.constant([[1, 2, 2, 7]])
    weights = rng.randn(1, 4, 9)
    total = K.sum(K.tanh(layer(layer(tokens), mode="dense")) * K.constant(weights))
    gradient = tf.gradients(total, layer.prompt)[0]
    table = rng.randn(9, 4)
    layer.set_table(table)

    def value(prompt):
        whole = table.copy()
        whole[IDS] = prompt
        return np.sum(np.tanh(whole[[1, 2, 2, 7]] @ whole.T) * weights[0])

    expected = np.zeros((3, 4))
    for i in np.ndindex(3, 4):
        step = np.zeros((3, 4))
        step[i] = 1e-6
        expected[i] = (value(table[IDS] + step) - value(table[IDS] - step)) / 2e-6
    np.testing.assert_allclose(get_session().run(tf.convert_to_tensor(gradient)), expected, rtol=1e-3, atol=1e-4)


def test_it_stands_in_a_bert_and_takes_its_pretrained_table():
    class PTuningBERT(BERT):
        def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
            if kwargs.get("name") == "Embedding-Token" and "input_dim" in kwargs:
                layer, kwargs["trainable_ids"] = PTuningEmbedding, range(1, 9)
            return super().apply(inputs, layer, arguments, **kwargs)

    config = dict(tiny_config(num_hidden_layers=1), with_mlm="linear", return_keras_model=False)
    pretrained = build_transformer_model(**config)
    bert = build_transformer_model(model=PTuningBERT, **config)
    for layer in pretrained.model.layers:
        if layer.name == "Embedding-Token":
            bert.model.get_layer(layer.name).set_table(layer.get_weights()[0])
        else:
            bert.model.get_layer(layer.name).set_weights(layer.get_weights())
    inputs = [np.array([[2, 1, 5, 9, 3]]), np.zeros((1, 5))]
    np.testing.assert_allclose(bert.model.predict(inputs), pretrained.model.predict(inputs), atol=1e-5)


def test_configuration_and_dynamic_shapes():
    layer = PTuningEmbedding(9, 4, trainable_ids=range(1, 4), mask_zero=True)
    assert K.int_shape(layer(keras.layers.Input((None,)))) == (None, None, 4)
    assert K.int_shape(layer(keras.layers.Input((7,)))) == (None, 7, 4)
    again = PTuningEmbedding.from_config(layer.get_config())
    assert again.trainable_ids == [1, 2, 3] and again.mask_zero


@pytest.mark.parametrize(
    "ids, words",
    [([], "at least one"), ([1, 1], r"wrong: \[1\]"), ([9], r"from 0 to 8.*wrong: \[9\]"), ([-1], "wrong")],
)
def test_errors_of_the_ids(ids, words):
    with pytest.raises(ValueError, match=words):
        PTuningEmbedding(9, 4, trainable_ids=ids)


def test_errors_of_the_table():
    layer = PTuningEmbedding(9, 4, trainable_ids=IDS)
    with pytest.raises(ValueError, match="has no weights yet"):
        layer.set_table(np.zeros((9, 4)))
    layer(keras.layers.Input((None,)))
    with pytest.raises(ValueError, match=r"must have the shape \(9, 4\), but has \(4, 9\)"):
        layer.set_table(np.zeros((4, 9)))
