"""The graph of prediction gives what the model predicts, and has no op of training in it."""

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.models import BERT, build_transformer_model

from kexue_keras.backend import erf_is_slow, keras, tf1
from kexue_keras.backend.inference_graph import OUTPUT, inference_graph
from kexue_keras.models import extend_with_fused
from kexue_keras.similarity import sentence_vector

NAMES = ("token_ids", "segment_ids")
GONE = {"BroadcastTo", "BroadcastArgs", "DivNoNan", "Switch", "Merge", "RandomUniform"}


def arrays():
    """Two rows of different lengths, and one of padding alone but for a token."""
    ids = np.random.RandomState(0).randint(1, 20, (3, 9)).astype("int32")
    ids[1, 5:] = ids[2, 1:] = 0
    return [ids, (np.arange(27).reshape(3, 9) % 2).astype("int32")]


@pytest.mark.dear
@pytest.mark.all_stacks
@pytest.mark.parametrize("kind", ["bert", "roformer", "fused"])
def test_it_predicts_what_the_model_predicts(kind):
    transformer = build_transformer_model(
        None,
        model=extend_with_fused(BERT) if kind == "fused" else kind,
        return_keras_model=False,
        vocab_size=20,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_act="gelu",
        max_position=16,
        dropout_rate=0.3,
        attention_dropout_rate=0.3,
        **{"embedding_size": 16} if kind == "roformer" else {},
    )
    model = sentence_vector(transformer, "mean")
    expected = model.predict(arrays())
    assert np.isfinite(expected).all()
    graph_def = inference_graph(model.inputs, model.output, NAMES)
    assert not GONE & {node.op for node in graph_def.node}
    assert sum(node.op == "Erf" for node in graph_def.node) == 2 and not any(n.op == "Sigmoid" for n in graph_def.node)
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.import_graph_def(graph_def, name="")
        found = session.run(OUTPUT + ":0", dict(zip(("token_ids:0", "segment_ids:0"), arrays())))
    assert np.allclose(found, expected, atol=1e-6)


@pytest.mark.all_stacks
def test_the_fused_model_has_no_trace_of_dropout_and_the_gelu_that_is_wanted():
    sizes = dict(vocab_size=20, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=24)
    bert = build_transformer_model(model=extend_with_fused(BERT), hidden_act="gelu", dropout_rate=0.3, **sizes)
    for plain in (True, False):
        graph_def = inference_graph(bert.inputs, bert.output, NAMES, plain_gelus=plain)
        types = [node.op for node in graph_def.node]
        assert not GONE & set(types)
        assert ("Erf" in types) == (plain or not erf_is_slow()) and ("Sigmoid" in types) != ("Erf" in types)
        closed = [node.attr["_gradient_op_type"].s for node in graph_def.node if "_gradient_op_type" in node.attr]
        assert closed.count(b"KexueMultiply") == 2, "only the weights and the bias of the queries are scaled"
        with tf.Graph().as_default(), tf1.Session() as session:
            tf1.import_graph_def(graph_def, name="")
            found = session.run(OUTPUT + ":0", dict(zip(("token_ids:0", "segment_ids:0"), arrays())))
        assert np.allclose(found, bert.predict(arrays()), atol=1e-5)


def test_the_learning_phase_is_that_of_prediction_whatever_the_session_feeds():
    x = keras.layers.Input((None,))
    y = keras.layers.Lambda(lambda x: x[:, :1])(keras.layers.Dropout(0.9)(x))
    model = keras.models.Model(x, y)
    graph_def = inference_graph(model.inputs, model.output, ("ids",))
    with tf.Graph().as_default(), tf1.Session() as session:
        tf1.import_graph_def(graph_def, name="")
        assert session.run(OUTPUT + ":0", {"ids:0": [[3], [4]]}).tolist() == [[3], [4]]
