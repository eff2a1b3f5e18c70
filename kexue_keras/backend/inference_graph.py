"""A model as a graph of constants for prediction alone: no dropout, no learning phase, no mask spread out beforehand.

It computes what `predict` of the model does, from whole numbers, with fewer ops and none that stand for training.
"""

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef

from kexue_keras.backend.stack import K, get_session, tf1

OUTPUT = "output"
_PASSING = ("Identity", "Placeholder", "PlaceholderWithDefault")


def inference_graph(inputs, output, names, *, plain_gelus=True):
    """GraphDef of a model with placeholders of its own.

    Args:
        inputs: list of the model's input tensors, each `[B, n]`.
        output: tensor to compute.
        names: of the placeholders, int32 `[B, n]`, one for each input.
        plain_gelus: whether each GELU is written with the error function, which others than TensorFlow know. Otherwise
            it is what the model computes: where TensorFlow's error function is slow, another that is as exact.

    Returns:
        GraphDef; the tensor `output` is its node "output".
    """
    session = get_session()
    frozen = tf1.graph_util.convert_variables_to_constants(
        session, session.graph.as_graph_def(), [output.op.name], variable_names_blacklist=None
    )
    simple = _without_ones(_broadcasting_selects(_plain_divisions(_without_training(frozen))))
    simple = _plain_gelus(simple) if plain_gelus else simple
    simple = tf1.graph_util.extract_sub_graph(simple, [output.op.name])
    with tf.Graph().as_default() as graph:
        given = {}
        for name, tensor in zip(names, inputs):
            ids = tf1.placeholder("int32", [None, None], name=name)
            given[tensor.name] = tf.cast(ids, tensor.dtype)
        (found,) = tf1.import_graph_def(simple, input_map=given, return_elements=[output.name], name="model")
        tf.identity(found, name=OUTPUT)
        return tf1.graph_util.extract_sub_graph(graph.as_graph_def(), [OUTPUT])


def _name(reference):
    """('node', output number) of an input as a GraphDef names it."""
    name, _, number = reference.lstrip("^").partition(":")
    return name, int(number or 0)


def _without_training(graph_def):
    """The learning phase is 0; of what depends on it only the branch of prediction stays."""
    nodes = {node.name: node for node in graph_def.node}
    phase = K.learning_phase()
    phase = None if isinstance(phase, int) else phase.op.name

    def is_phase(reference):
        node = nodes[_name(reference)[0]]
        while node.op == "Identity" and node.input:
            node = nodes[_name(node.input[0])[0]]
        return node.name == phase

    dead, passed = set(), {}  # references whose value never comes; reference -> the one that it equals
    for node in _in_order(graph_def, nodes):
        if node.op == "Switch" and is_phase(node.input[1]):
            dead.add((node.name, 1))
            passed[node.name, 0] = node.input[0]
        elif node.op == "Merge":
            alive = [one for one in node.input if _name(one) not in dead]
            if len(alive) == 1:
                passed[node.name, 0] = alive[0]
        elif any(_name(one) in dead for one in node.input):
            dead.update((node.name, i) for i in range(8))

    def real(reference):
        while _name(reference) in passed:
            reference = passed[_name(reference)]
        return reference

    made = GraphDef(versions=graph_def.versions)
    for node in graph_def.node:
        if (node.name, 0) in passed or (node.name, 0) in dead:
            continue
        new = made.node.add()
        new.CopyFrom(node)
        # Control inputs only order what is gone or has no side effects.
        new.input[:] = [real(one) for one in node.input if not one.startswith("^")]
    return made


def _in_order(graph_def, nodes):
    """The nodes, each after its inputs."""
    done, order = set(), []
    for start in graph_def.node:
        stack = [start.name]
        while stack:
            name = stack[-1]
            waiting = [one for one in {_name(i)[0] for i in nodes[name].input} if one not in done]
            if name in done or not waiting:
                stack.pop()
                if name not in done:
                    done.add(name)
                    order.append(nodes[name])
            else:
                stack.extend(waiting)
    return order


def _plain_divisions(graph_def):
    """x / sqrt(mean of squares + epsilon): no clipping below the root (Keras), no check for 0 (bert4keras)."""
    nodes = {node.name: node for node in graph_def.node}

    def above(reference):
        return nodes[_name(reference)[0]]

    def value(reference):
        node = above(reference)
        return tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None

    def is_positive(node):
        mean, epsilon = above(node.input[0]), value(node.input[1])
        squares = mean.op == "Mean" and above(mean.input[0]).op == "Square"
        return squares and epsilon is not None and bool(np.all(epsilon > 0))

    for node in graph_def.node:
        root = above(node.input[1]) if node.op == "DivNoNan" else None
        if root is None or root.op != "Sqrt":
            continue
        below = root.input[0]
        for clip, bounds in (("Maximum", (0.0,)), ("Minimum", (np.inf,))):
            if above(below).op == clip and value(above(below).input[1]) in bounds:
                below = above(below).input[0]
        if above(below).op in ("Add", "AddV2") and is_positive(above(below)):
            root.input[:], node.op = [below], "RealDiv"
    return graph_def


def _broadcasting_selects(graph_def):
    """`where` with a mask and values that were spread out by hand: the op does it itself, without copies.

    Scores that become -inf get 0 or -inf added, which is the same number, and a sum is faster than a choice.
    """
    nodes = {node.name: node for node in graph_def.node}
    for node in list(graph_def.node):
        if node.op not in ("Select", "SelectV2"):
            continue
        sources = [nodes[_name(one)[0]] for one in node.input]
        spread = [source.op == "BroadcastTo" for source in sources]
        # What was not spread out has the whole shape, since a `Select` takes three of one shape.
        if not spread[0] or all(spread):
            continue
        mask, x, y = (s.input[0] if is_spread else i for i, s, is_spread in zip(node.input, sources, spread))
        if spread == [True, False, True] and _is_lowest(nodes[_name(y)[0]]):
            zero = graph_def.node.add()
            zero.CopyFrom(nodes[_name(y)[0]])
            zero.name = node.name + "/kept"
            zero.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(0.0, tf.as_dtype(node.attr["T"].type)))
            added = graph_def.node.add()
            added.CopyFrom(node)
            added.name, added.op = node.name + "/added", "SelectV2"
            added.input[:] = [mask, zero.name, y]
            node.op = "AddV2"
            node.input[:] = [x, added.name]
        else:
            node.op = "SelectV2"
            node.input[:] = [mask, x, y]
    return graph_def


def _is_closed(node, gradient):
    return "_gradient_op_type" in node.attr and node.attr["_gradient_op_type"].s == gradient


def _without_ones(graph_def):
    """What dropout of `training.closed_forms` multiplies by 1 in prediction stays as it is."""
    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        if not _is_closed(node, b"KexueMultiply"):
            continue
        factor = nodes[_name(node.input[2])[0]]
        if factor.op == "Const" and bool(np.all(tf.make_ndarray(factor.attr["value"].tensor) == 1)):
            x, dtype = node.input[1], node.attr["T"].list.type[1]
            name = node.name
            node.Clear()
            node.name, node.op, node.input[:] = name, "Identity", [x]
            node.attr["T"].type = dtype
    return graph_def


def _plain_gelus(graph_def):
    """Every GELU of `training.closed_forms` as bert4keras writes it, (x / 2) (1 + erf(x / sqrt(2))).

    Others know the error function, and onnxruntime makes one op of this form.
    """

    def add(name, op, inputs, dtype):
        node = graph_def.node.add(name=name, op=op, input=inputs)
        node.attr["T"].type = dtype
        return name

    def constant(name, value, dtype):
        node = graph_def.node.add(name=name, op="Const")
        node.attr["dtype"].type = dtype
        node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value, tf.as_dtype(dtype)))
        return name

    for node in list(graph_def.node):
        if not _is_closed(node, b"KexueGelu"):
            continue
        name, x, dtype = node.name, node.input[1], node.attr["T"].list.type[1]
        half = add(name + "/half", "Mul", [x, constant(name + "/a_half", 0.5, dtype)], dtype)
        scaled = add(name + "/scaled", "RealDiv", [x, constant(name + "/root", np.sqrt(2.0), dtype)], dtype)
        erf = add(name + "/erf", "Erf", [scaled], dtype)
        twice = add(name + "/twice", "AddV2", [erf, constant(name + "/one", 1.0, dtype)], dtype)
        node.Clear()
        node.name, node.op, node.input[:] = name, "Mul", [half, twice]
        node.attr["T"].type = dtype
    return graph_def


def _is_lowest(node):
    return node.op == "Const" and bool(np.all(tf.make_ndarray(node.attr["value"].tensor) == -np.inf))
