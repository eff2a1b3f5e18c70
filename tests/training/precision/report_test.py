"""What turns half: TensorFlow's own rewriting on a virtual GPU, and its rule where its kernels are missing."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from bert4keras.models import build_transformer_model
from helpers import tiny_config

from kexue_keras import backend
from kexue_keras.backend import K, is_tf2, is_tf_keras, keras, tf1
from kexue_keras.optimizers import AdamW, GradientAccumulation
from kexue_keras.training.precision import LossScale, precision_report
from kexue_keras.training.precision._report import layer_of, model_graph
from kexue_keras.training.precision._simulated_rewrite import HALF, allowed, simulated_rewrite, turned_half


def tiny_bert(**options):
    bert = build_transformer_model(config_path=None, model="bert", **dict(tiny_config(), **options))
    first = keras.layers.Lambda(lambda x: x[:, 0])(bert.output)
    return keras.models.Model(bert.inputs, keras.layers.Dense(2, activation="softmax", name="answer")(first))


def registered(node, key, definition):
    """Whether this build has a GPU kernel for the node in half precision: what TensorFlow's rewriting asks."""
    from tensorflow.python.framework import kernels

    if not allowed(node, key, definition):
        return False
    for kernel in kernels.get_registered_kernels_for_op(node.op).kernel:
        types = {c.name: c.allowed_values.list.type for c in kernel.constraint}
        wanted = {name: HALF if name == key[0] else node.attr[name].type for name in types}
        if kernel.device_type in ("GPU", "DEFAULT") and all(wanted[name] in types[name] for name in types):
            return True
    return False


@pytest.mark.all_stacks
def test_all_matrix_products_of_bert_turn_half_and_nothing_delicate():
    model = tiny_bert()
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    graph = model_graph(model)
    own = turned_half(graph.graph_def, graph.fetches, as_built=True)
    ops = {node.name: node.op for node in graph.graph_def.node}
    counts = Counter(ops[name] for name in own.half)
    assert counts["MatMul"] == 39 and counts["BatchMatMulV2"] + counts["Einsum"] == 12
    report = precision_report(model)
    assert report.trains and report.half["MatMul"] == 39 and report.half["BatchMatMulV2"] + report.half["Einsum"] == 12
    for op in ("Sqrt", "Sum", "Mean", "ResourceApplyAdam", "Square", "Exp", "DivNoNan"):
        assert report.half[op] == 0, op
    for op in ("Sqrt", "Sum", "Mean"):
        assert report.kept[op] > 0, op
    if is_tf2:
        # Its lists differ: the softmax of the attention may turn half, that of the answer is in the loss.
        assert report.half["Softmax"] == 2 and report.half["Erf"] == 2
        assert report.casts in (55, 56)  # of TensorFlow 2.16 and 2.21
    else:
        counts_of_the_specification(graph, own, counts, report)
    rows = {row.layer: row for row in report.layers}
    # Four projections and two products of the attention, each with two gradients.
    attention = rows["Transformer-0-MultiHeadSelfAttention"]
    assert attention.half_products == attention.products == 18
    assert rows["Transformer-1-FeedForward"].products == 6 and rows["answer"].products == 3
    assert rows["Embedding-Norm"].half_nodes == 0
    text = str(report)
    assert "training step" in text and "100% of the matrix products are in float16" in text
    assert "Transformer-0-MultiHeadSelfAttention" in text and "18 of 18" in text


def counts_of_the_specification(graph, own, counts, report):
    """Of TensorFlow 1.15's own rewriting in a build for the CPU; conditions of the dropout come on top."""
    assert counts["BatchMatMulV2"] == report.half["BatchMatMulV2"] == 12
    if not tf.test.is_built_with_cuda():
        assert counts["Reshape"] == (90 if is_tf_keras else 106) and counts["BiasAdd"] == counts["Mul"] == 0
    # Our rule is TensorFlow's: with the kernels of this build it turns the very same nodes half, with as many casts.
    assert simulated_rewrite(graph.graph_def, graph.fetches, has_kernel=registered) == own
    # With all kernels the biases and the GELU between the products turn half as well: 4 + 1 biases a layer, ...
    assert report.half["AddV2"] + report.half["BiasAdd"] == 10 and report.half["Erf"] == 2
    assert report.half["Softmax"] == report.half["Select"] == 0 and report.kept["Softmax"] > 0
    assert report.casts == 52 and report.casts_back == 46


@pytest.mark.all_stacks
def test_a_model_that_is_not_compiled_is_a_prediction():
    x = keras.layers.Input((4,))
    hidden = keras.layers.Dense(4, activation="relu")(x)
    report = precision_report(keras.models.Model(x, keras.layers.Dense(2, activation=tf.exp)(hidden)))
    assert not report.trains and report.half["MatMul"] == 2 and report.half["Relu"] == 1
    # The last bias stands between a product and an exponential, which is none; TensorFlow 2.21 has it half.
    assert 1 <= report.half["BiasAdd"] + report.half["AddV2"] <= 1 + is_tf2 and report.kept["Exp"] == 1
    assert "prediction" in str(report)


def test_our_optimizers_stay_float32():
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,)), keras.layers.Dense(1)])
    model.compile(LossScale(GradientAccumulation(AdamW(1e-3), 2)), "mse")
    report = precision_report(model)
    # Two products forward, two for the kernels, one for what lies between.
    assert report.half["MatMul"] == 5
    assert not [op for op in report.half if op.startswith(("Resource", "Assign", "IsFinite"))]
    # The graph looked at is the one that is trained.
    assert np.isfinite(model.train_on_batch(np.ones((2, 3)), np.ones((2, 1))))


def test_looking_leaves_no_trace():
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,))])
    before = model.outputs[0].graph.as_graph_def()
    sessions = backend.sessions_created()
    precision_report(model)
    assert model.outputs[0].graph.as_graph_def() == before
    assert backend.sessions_created() == sessions and not backend.is_mixed_precision_on()


@pytest.mark.skipif(not is_tf_keras, reason="Keras 2.3.1 makes a session when it builds a training step")
def test_a_report_does_not_come_in_the_way_of_enabling():
    K.clear_session()
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,))])
    model.compile(AdamW(1e-3), "mse")
    assert precision_report(model).half["MatMul"] == 2
    assert not backend.keras_has_session()


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="'str' is no Keras model"):
        precision_report("model.h5")


@pytest.mark.parametrize(
    "node, layer",
    [
        ("dense/MatMul", "dense"),
        ("dense_1/MatMul", "dense_1"),
        ("dense_1_2/MatMul", "dense_1"),
        ("training/Adam/gradients/dense_1/MatMul_grad/MatMul_1", "dense_1"),
        ("outer/dense_1/MatMul", "outer"),
        ("Transformer-0-FeedForward_3/add", "Transformer-0-FeedForward"),
        ("dense_7/MatMul", "dense"),
        ("loss/output_loss/mul", "loss"),
        ("densely/MatMul", "densely"),
    ],
)
def test_nodes_find_their_layer(node, layer):
    assert layer_of(node, {"dense", "dense_1", "outer", "Transformer-0-FeedForward"}) == layer


def half_between(function, **options):
    """Operations that turn half between two matrix products."""
    with tf.Graph().as_default() as graph:
        x, w = tf1.placeholder("float32", (None, 4)), tf1.placeholder("float32", (4, 4))
        tf.identity(tf.matmul(function(tf.matmul(x, w)), w), name="y")
    ops = {node.name: node.op for node in graph.as_graph_def().node}
    rewritten = turned_half(graph.as_graph_def(), ["y"], **options)
    return sorted({ops[name] for name in rewritten.half} - {"MatMul"}), rewritten.casts, rewritten.casts_back


def test_the_rule_on_small_graphs():
    one = np.ones(4, "float32")
    # x and the weights are cast, and the answer back; what stands between the products goes along.
    assert half_between(lambda x: tf.nn.relu(tf.nn.bias_add(x, one)) * one) == (["BiasAdd", "Mul", "Relu"], 4, 1)
    # A black operation, and what follows it, does not. (Softmax is one in TensorFlow 1.15, and grey in 2.21.)
    assert half_between(tf.exp) == ([], 3, 2)
    assert half_between(lambda x: tf.sqrt(tf.reduce_mean(x, 1, keepdims=True) + one)) == ([], 3, 2)
    # An operation in no list stops it on both sides; a clear one beside a product goes along.
    assert half_between(lambda x: tf.square(x) * one)[0] == []
    assert half_between(lambda x: tf.square(tf.reshape(x, (-1, 4))))[0] == ["Reshape"]
    # Lists of tensors, whose types are lists.
    assert "IdentityN" in half_between(lambda x: tf.identity_n([x, x + one])[1])[0]
    if not tf.test.is_built_with_cuda():
        assert half_between(lambda x: x * one, as_built=True) == ([], 3, 2)


def test_the_rewriting_itself_needs_no_gpu_and_no_environment(monkeypatch):
    monkeypatch.delenv("TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_IGNORE_PERFORMANCE", raising=False)
    with tf.Graph().as_default() as graph:
        x = tf1.placeholder("float32", (None, 4), name="x")
        tf.identity(tf.exp(tf.matmul(x, tf.ones((4, 4)))), name="y")
    rewritten = backend.rewritten_to_half(graph.as_graph_def(), ["y"])
    types = {node.name: node.attr["T"].type for node in rewritten.node}
    assert types["MatMul"] == 19 and types["Exp"] == 1
    assert any(node.op == "Cast" and node.attr["DstT"].type == 19 for node in rewritten.node)


def test_the_lists_are_those_of_this_tensorflow():
    lists = backend.half_precision_lists()
    assert {"MatMul", "BatchMatMulV2"} <= lists["white"] and {"Exp", "Sum", "Mean"} <= lists["black"]
    assert {"Add", "BiasAdd"} <= lists["gray"] and {"Reshape", "Transpose", "Relu"} <= lists["clear"]
    assert not lists["white"] & lists["black"]
