"""Constants that half precision cannot hold: where they are in the graph, and how to fix them.

Article: 在bert4keras中使用混合精度和XLA加速训练 (kexue.fm/archives/9059): NaN from the first step on means infinity 1e12
instead of 1e4, epsilon 1e-12 instead of 1e-5, or "other constants", which is what this finds.
"""

from collections import namedtuple
from typing import List, Union

import numpy as np
import tensorflow as tf

from kexue_keras.backend import refuse_eager
from kexue_keras.backend.graph import depth_first
from kexue_keras.training.precision._report import ancestors, layer_of, model_graph, source
from kexue_keras.training.precision._simulated_rewrite import FLOAT, HALF, turned_half
from kexue_keras.types import Model

LARGEST = float(np.finfo("float16").max)
# Half precision rounds a number in its ordinary range by 0.05% at most; 1e-5 by 0.1%, 1e-7 by 19%.
COARSE = 0.05
# They pass a constant on unchanged.
CARRIERS = {"Identity", "Reshape", "Fill", "ExpandDims", "Squeeze", "Tile", "BroadcastTo", "Pack", "ConcatV2", "Enter"}
CARRIERS |= {"Switch", "Merge", "Cast", "StopGradient", "Snapshot"}
# An infinity that these see does no harm.
CHOOSING = {"Select", "SelectV2", "Where", "Maximum", "Minimum", "Equal", "NotEqual", "Less", "LessEqual"}
CHOOSING |= {"Greater", "GreaterEqual", "IsFinite", "IsInf", "IsNan", "Shape", "ZerosLike", "OnesLike", "MatrixSetDiag"}
CHOOSING |= {"MatrixSetDiagV2", "MatrixSetDiagV3", "ResourceScatterUpdate", "Assert"}
# A number compared with one that is too large for half precision is below it, whether that has become infinite or not.
COMPARISONS = {"Less", "LessEqual", "Greater", "GreaterEqual", "NotEqual", "Equal"}


class Finding(namedtuple("Finding", "layer node value problem used_by half mend")):
    """A constant that half precision cannot hold; `str()` of it is a line for the screen.

    Attributes:
        layer: name of the layer, or first part of the node's name.
        node: name of the constant.
        value: the worst of its values.
        problem: 'overflow' (becomes infinity), 'underflow' (becomes 0), 'coarse' (changes by more than 5%), 'infinite'
            (is an infinity, and is added to or multiplied with something).
        used_by: operations that get it.
        half: whether this TensorFlow casts it or its user to float16; None if that was not asked.
        mend: what to do.
    """

    def __str__(self):
        turned = {True: "CAST TO FLOAT16", False: "stays float32 in this TensorFlow", None: "not asked"}[self.half]
        return "%s: %s (%s, used by %s): %s; %s. Fix: %s" % (
            self.layer,
            _shown(self.value, self.problem),
            self.node,
            ", ".join(self.used_by) or "nothing",
            self.problem,
            turned,
            self.mend,
        )


def _shown(value, problem):
    if problem == "infinite":
        return "%g" % value
    with np.errstate(over="ignore"):
        return "%g, in half precision %g" % (value, float(np.float16(value)))


def half_problem(values):
    """What is wrong with numbers in half precision.

    Args:
        values: number or array.

    Returns:
        (problem, worst value), (None, None) if nothing; problems as in `Finding`.

    >>> half_problem(1e-12), half_problem([1.0, -1e12]), half_problem(1e-5)
    (('underflow', 1e-12), ('overflow', -1000000000000.0), (None, None))
    """
    values = np.asarray(values, "float64").ravel()
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    signed = values[np.isfinite(values) & (values != 0)]
    with np.errstate(over="ignore", divide="ignore"):
        half = np.abs(signed.astype("float16").astype("float64"))
    if np.isinf(half).any():
        return "overflow", float(signed[sizes.argmax()])
    if (half == 0).any():
        return "underflow", float(signed[sizes.argmin()])
    if np.isinf(values).any():
        return "infinite", float(values[np.isinf(values)][0])
    wrong = np.abs(half - sizes) > COARSE * sizes
    if wrong.any():
        return "coarse", float(signed[wrong][sizes[wrong].argmin()])
    return None, None


def fp16_lint(model: Union[Model, tf.Graph], *, rewrite: bool = True) -> List[Finding]:
    """Constants in a model's graph that half precision cannot hold.

    Looks at every float constant on the way from the inputs to outputs and loss: epsilons that become 0 (bert4keras'
    LayerNormalization has 1e-12), masks that become infinite (-1e12), infinities that are added or multiplied. Whether
    TensorFlow's rewriting casts them to float16 is found out by running it (`precision_report`), with the backward
    pass if the model is compiled. What stays float32 does no harm with this TensorFlow; other builds (NVIDIA's) may
    have other lists, and casting by hand has none.

    Args:
        model: Keras model, or a `tf.Graph` (all its constants; nothing is rewritten then).
        rewrite: False leaves the rewriting out, which takes seconds for large models; `half` is None then.

    Returns:
        list of `Finding(layer, node, value, problem, used_by, half, mend)`, those cast to float16 first; print them.

    Raises:
        TypeError: neither a Keras model nor a graph.

    Reference:
        在bert4keras中使用混合精度和XLA加速训练, kexue.fm/archives/9059

    >>> from kexue_keras.training.precision import fp16_lint
    >>> x = keras.layers.Input((4,))
    >>> masked = keras.layers.Lambda(lambda x: x - 1e12, name='masked')(x)
    >>> found = fp16_lint(keras.models.Model(x, masked))
    >>> [(f.layer, f.value, f.problem, f.half) for f in found]
    [('masked', 999999995904.0, 'overflow', False)]
    """
    if isinstance(model, tf.Graph):
        nodes, layers, half_names = list(model.as_graph_def().node), (), None
    else:
        refuse_eager("fp16_lint")
        graph = model_graph(model)
        layers = frozenset(graph.layers)
        forward = _forward(model, graph)
        nodes = [node for node in graph.graph_def.node if node.name in forward]
        rewritten = turned_half(graph.graph_def, graph.fetches) if rewrite else None
        half_names = rewritten.half | rewritten.cast_nodes if rewrite else None
    users = _users(nodes)
    found = []
    for node in nodes:
        if node.op != "Const" or node.attr["dtype"].type not in (FLOAT, HALF):
            continue
        problem, value = half_problem(tf.make_ndarray(node.attr["value"].tensor))
        if problem is None:
            continue
        carriers, consumers = _follow(node.name, users)
        ops = tuple(sorted({consumer.op for consumer in consumers}))
        if set(ops) <= {"infinite": CHOOSING, "overflow": COMPARISONS}.get(problem, set()):
            continue
        half = None
        if half_names is not None:
            half = any(name in half_names for name in carriers | {c.name for c in consumers})
        owner = layer_of(next(iter(consumers)).name if consumers else node.name, layers)
        if layers and owner not in layers:
            owner = layer_of(node.name, layers)
        found.append(Finding(owner, node.name, value, problem, ops, half, _mend(problem, owner, ops)))
    # The same constant of the same layer appears once for each call of it.
    unique = {}
    for finding in found:
        unique.setdefault((finding.layer, finding.value, finding.used_by, finding.half), finding)
    return sorted(unique.values(), key=lambda finding: not finding.half)


def _forward(model, graph):
    """Names of the nodes that outputs and loss depend on, without those of the backward pass and the update."""
    total = getattr(model, "total_loss", None) if graph.trains else None
    wanted = [tensor.op.name for tensor in model.outputs]
    wanted += [total.op.name] if total is not None and hasattr(total, "op") else []
    return ancestors(graph.graph_def.node, wanted)


def _users(nodes):
    users = {}
    for node in nodes:
        for text in node.input:
            if not text.startswith("^"):
                users.setdefault(source(text), []).append(node)
    return users


def _follow(name, users):
    """(names of the nodes that only hand the constant on, itself included; nodes that use it)."""

    def handed_to(name):
        return [node.name for node in users.get(name, ()) if node.op in CARRIERS]

    carriers = depth_first([name], handed_to)
    consumers = {node.name: node for name in carriers for node in users.get(name, ()) if node.op not in CARRIERS}
    return set(carriers), [consumers[key] for key in sorted(consumers)]


def _mend(problem, layer, ops):
    if problem == "infinite":
        return (
            "use kexue_keras.training.precision.mask_value(), which is finite, or tf.where instead of a product or sum"
        )
    if problem == "overflow":
        if {"Mul", "Add", "AddV2", "Sub", "Select", "SelectV2"} & set(ops):
            return "if it is a mask, use kexue_keras.training.precision.mask_value(), -1e4 under mixed precision"
        return "compute this part in float32 (tf.cast) or scale it down below 65504"
    if "Norm" in layer or "norm" in layer:
        return (
            "an epsilon of 1e-5: build the model inside "
            "`with kexue_keras.training.precision.layer_norm_epsilon(1e-5):`, or give the layer epsilon=1e-5"
        )
    return "if it is an epsilon, make it 1e-5; K.set_epsilon(1e-5) before the model is built sets Keras' own"
