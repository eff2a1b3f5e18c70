"""Constants that half precision cannot hold are found, with their layer; others are not."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.models import build_transformer_model
from helpers import tiny_config
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras.backend import K, keras, tf1
from kexue_keras.losses import CoSENT, InfoNCE, MultilabelCrossentropy, RDropCrossentropy
from kexue_keras.optimizers import AdamW
from kexue_keras.training.precision import fp16_lint, layer_norm_epsilon, mask_value
from kexue_keras.training.precision._fp16_lint import half_problem


def bert():
    return build_transformer_model(config_path=None, model="bert", **dict(tiny_config(), num_hidden_layers=1))


def model_of(function, name="odd", before=False, after=False):
    x = keras.layers.Input((4,))
    y = keras.layers.Dense(4, name="before")(x) if before else x
    y = keras.layers.Lambda(function, name=name)(y)
    return keras.models.Model(x, keras.layers.Dense(2, name="after")(y) if after else y)


def test_layer_norm_of_bert4keras_is_a_hit_and_the_mend_mends_it():
    found = fp16_lint(bert())
    assert [f.problem for f in found] == ["underflow"] * 3
    assert {f.layer for f in found} == {
        "Embedding-Norm",
        "Transformer-0-MultiHeadSelfAttention-Norm",
        "Transformer-0-FeedForward-Norm",
    }
    # TensorFlow 1.15's own lists keep the normalisation in float32.
    assert not any(f.half for f in found)
    assert "layer_norm_epsilon(1e-5)" in found[0].mend
    line = str(found[0])
    assert "1e-12, in half precision 0" in line and "stays float32" in line and "Embedding-Norm/" in line
    with layer_norm_epsilon(1e-5):
        assert fp16_lint(bert()) == []


def test_masks_infinities_and_coarse_epsilons():
    mask = keras.layers.Lambda(lambda x: K.cast(x > 0, K.floatx()))
    cases = {
        "mask": (lambda x: x - (1 - mask(x)) * 1e12, "overflow", 1e12),
        "added": (lambda x: x + K.constant([0.0, 0.0, -1e6, 0.0]), "overflow", -1e6),
        "coarse": (lambda x: x / (K.sqrt(K.sum(x * x)) + 1e-7), "coarse", 1e-7),
        "product": (lambda x: x * K.constant([1.0, 1.0, np.inf, 1.0]), "infinite", np.inf),
    }
    for name, (function, problem, value) in cases.items():
        found = [f for f in fp16_lint(model_of(function, name), rewrite=False) if f.layer == name]
        assert [f.problem for f in found] == [problem], name
        assert abs(found[0].value) == pytest.approx(abs(value)) and found[0].half is None, name
    assert "mask_value()" in found[0].mend


def test_what_is_harmless_is_not_reported():
    for function in (
        lambda x: tf.where(x > 0, x, tf.fill(tf.shape(x), -np.inf)),
        lambda x: x / (K.sum(x) + 1e-5),
        lambda x: x + mask_value("float16"),
        lambda x: K.maximum(x, -np.inf),
        lambda x: K.cast(K.shape(x)[0], "float32") * x * 60000.0,
    ):
        assert fp16_lint(model_of(function)) == []


def test_whether_a_constant_turns_half_is_what_the_rewriting_does():
    # Between two matrix products an addition turns half as well, and so does a constant matrix.
    between = fp16_lint(model_of(lambda x: K.relu(x + 1e6), before=True, after=True))
    assert [(f.layer, f.problem, f.half) for f in between] == [("odd", "overflow", True)]
    assert "CAST TO FLOAT16" in str(between[0])
    matrix = fp16_lint(model_of(lambda x: K.dot(x, K.constant(np.full((4, 4), 1e-9))), after=True))
    assert [(f.problem, f.half) for f in matrix] == [("underflow", True)]
    # Behind an exponential it stays where it is.
    kept = fp16_lint(model_of(lambda x: tf.exp(x) + 1e6))
    assert [f.half for f in kept] == [False]
    # What turns half comes first.
    both = fp16_lint(model_of(lambda x: tf.exp(K.dot(x, K.constant(np.full((4, 4), 1e-9)))) + 1e6))
    assert [f.half for f in both] == [True, False]


def test_losses_of_ours_keep_what_half_cannot_hold_in_float32():
    cases = [
        (None, InfoNCE(layout="two_view")),
        (None, CoSENT()),
        (5, MultilabelCrossentropy()),
        (3, RDropCrossentropy(from_logits=True)),
    ]
    for classes, loss in cases:
        x = keras.layers.Input((8,))
        model = keras.models.Model(x, keras.layers.Dense(classes or 16)(keras.layers.Dense(16)(x)))
        model.compile(AdamW(1e-3), loss)
        found = fp16_lint(model)
        assert [str(f) for f in found if f.half] == [], loss


def test_a_comparison_with_a_large_constant_does_no_harm():
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder("float32", (None,), name="x")
        tf.where(tf.less_equal(x, -1e7), x, tf.zeros_like(x))
    assert fp16_lint(graph) == []
    with graph.as_default():
        tf.maximum(x, -1e7)
    assert [found.problem for found in fp16_lint(graph)] == ["overflow"]


def test_the_optimizers_epsilon_is_not_the_models():
    model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(4,))])
    model.compile(AdamW(1e-3, epsilon=1e-12), "mse")
    assert fp16_lint(model) == []


def test_a_graph_is_searched_whole():
    with tf.Graph().as_default() as graph:
        tf.add(tf1.placeholder("float32", (), name="x"), 1e9, name="scope/sum")
    (found,) = fp16_lint(graph)
    assert (found.layer, found.problem, found.half) == ("scope", "overflow", None)
    assert found.used_by in (("Add",), ("AddV2",))
    with pytest.raises(TypeError, match="no Keras model"):
        fp16_lint([1, 2])


@given(st.lists(st.floats(allow_nan=False, width=32), min_size=1, max_size=5))
def test_problems_agree_with_numpys_half(values):
    problem, worst = half_problem(values)
    finite = np.array([v for v in values if np.isfinite(v)], "float64")
    with np.errstate(all="ignore"):
        half = finite.astype("float16").astype("float64")
    if np.isinf(half).any():
        assert problem == "overflow" and abs(worst) == np.abs(finite).max()
    elif ((half == 0) & (finite != 0)).any():
        assert problem == "underflow" and abs(worst) == np.abs(finite[finite != 0]).min()
    elif len(finite) < len(values):
        assert problem == "infinite"
    else:
        error = np.abs(half - finite)
        assert (problem == "coarse") == bool((error > 0.05 * np.abs(finite)).any())
