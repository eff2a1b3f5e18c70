"""Which operations of a training step are cast to float16 under mixed precision, determined without a GPU.

Article: 在bert4keras中使用混合精度和XLA加速训练 (kexue.fm/archives/9059). A session without a GPU rewrites nothing; how it is
found out nevertheless is in `_simulated_rewrite.py`.
"""

import re
from collections import Counter, OrderedDict, namedtuple
from typing import Any, Optional

from kexue_keras import backend
from kexue_keras.backend import refuse_eager, tf1
from kexue_keras.backend.graph import depth_first
from kexue_keras.training.precision._simulated_rewrite import FLOAT, HALF, turned_half
from kexue_keras.types import Model

PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Conv1D", "Conv2D", "Conv3D", "Einsum")
# They have a type, but compute nothing of that type.
IDLE = {"Const", "Shape", "ShapeN", "Size", "Rank", "Placeholder", "PlaceholderWithDefault", "NoOp"}
IDLE |= {"VarHandleOp", "ReadVariableOp", "AssignVariableOp", "VarIsInitializedOp", "VariableV2"}

LayerRow = namedtuple("LayerRow", "layer half_products products half_nodes float_nodes")


class ModelGraph(namedtuple("ModelGraph", "graph_def fetches layers trains")):
    """The part of the graph that a training step (or, not compiled, a prediction) needs.

    Attributes:
        graph_def: `GraphDef`.
        fetches: names of the nodes that are asked for.
        layers: names of the model's layers, nested models included.
        trains: whether a training step is in it.
    """


def model_graph(model):
    """`ModelGraph` of a Keras model.

    Raises:
        TypeError: no Keras model.
        RuntimeError: a model that runs eagerly.
    """
    if not hasattr(model, "layers") or not hasattr(model, "outputs"):
        raise TypeError("%r is no Keras model with outputs" % (type(model).__name__,))
    compiled = getattr(model, "optimizer", None) is not None
    if not hasattr(model.outputs[0], "op"):
        raise RuntimeError(
            "the model has no graph (eager execution); call tf.compat.v1.disable_eager_execution() first"
        )
    fetches = backend.train_step_nodes(model) if compiled else [tensor.op.name for tensor in model.outputs]
    whole = model.outputs[0].graph.as_graph_def()
    needed = ancestors(whole.node, fetches)
    graph_def = tf1.GraphDef(library=whole.library, versions=whole.versions)
    graph_def.node.extend(node for node in whole.node if node.name in needed)
    return ModelGraph(graph_def, fetches, tuple(_layer_names(model)), compiled)


def source(text):
    """Name of the node that an input of a node (`name:1`, `^name`) comes from."""
    return text.lstrip("^").split(":")[0]


def ancestors(nodes, names):
    """Names of all nodes that the nodes `names` depend on, themselves included."""
    by_name = {node.name: node for node in nodes}
    starts = [name for name in names if name in by_name]
    return set(depth_first(starts, lambda name: [source(text) for text in by_name[name].input]))


def _layer_names(model):
    for layer in model.layers:
        yield layer.name
        if hasattr(layer, "layers"):
            for name in _layer_names(layer):
                yield name


def layer_of(node_name, layers):
    """The layer to which a node of the graph belongs: the first part of its name that is a layer's.

    Args:
        node_name: such as 'training/Adam/gradients/dense_1_2/MatMul_grad/MatMul'.
        layers: set, dict or list of the names of the layers.

    Returns:
        name of the layer; for nodes of none the first part of their own name ('loss', 'training').

    >>> layer_of('training/Adam/gradients/dense_1_2/MatMul_grad/MatMul', ['dense', 'dense_1'])
    'dense_1'
    """
    for part in node_name.split("/"):
        shorter = None
        # Keras numbers the scopes of a layer that is called again, and its own names too: dense_1_2 is dense_1.
        while shorter != part:
            if part in layers:
                return part
            part, shorter = re.sub(r"(_\d+|_grad)$", "", part), part
    return node_name.split("/")[0]


def types_of(node):
    """The data types among a node's attributes, as numbers."""
    return {attribute.type for attribute in node.attr.values() if attribute.type}


class PrecisionReport(object):
    """What half precision would do to a graph; print it.

    Attributes:
        half: dict operation -> number of nodes that compute in half precision.
        kept: dict operation -> number of nodes that keep computing in float32.
        casts: number of nodes that cast float32 to half precision.
        casts_back: number of nodes that cast half precision to float32.
        layers: list of `LayerRow(layer, half_products, products, half_nodes, float_nodes)`; products are
            matrix products and convolutions, forward and backward.
        nodes: number of nodes before.
        trains: whether it is a training step, else a prediction.
    """

    def __init__(self, graph: ModelGraph, rewritten: Any) -> None:
        self.nodes, self.trains = len(graph.graph_def.node), graph.trains
        self.casts, self.casts_back = rewritten.casts, rewritten.casts_back
        self.half, self.kept = Counter(), Counter()
        rows, ordered = OrderedDict(), {name: i for i, name in enumerate(graph.layers)}
        for node in graph.graph_def.node:
            is_half = node.name in rewritten.half or HALF in types_of(node)
            if node.op in IDLE or not (is_half or FLOAT in types_of(node)):
                continue
            (self.half if is_half else self.kept)[node.op] += 1
            row = rows.setdefault(layer_of(node.name, ordered), [0, 0, 0, 0])
            if node.op in PRODUCTS:
                row[0] += is_half
                row[1] += 1
            row[2 if is_half else 3] += 1
        names = sorted(rows, key=lambda name: ordered.get(name, len(ordered)))
        self.layers = [LayerRow(name, *rows[name]) for name in names]

    @property
    def half_nodes(self) -> int:
        """Number of nodes that compute in half precision."""
        return sum(self.half.values())

    @property
    def half_products(self) -> float:
        """Share of matrix products and convolutions in half precision, in [0, 1]; 0 if there are none."""
        products = sum(row.products for row in self.layers)
        return sum(row.half_products for row in self.layers) / products if products else 0.0

    def __str__(self):
        lines = [
            "%s: %d nodes; %d in float16, %d casts to float16, %d back; %.0f%% of the matrix products are in float16"
            % (
                "training step" if self.trains else "prediction",
                self.nodes,
                self.half_nodes,
                self.casts,
                self.casts_back,
                100 * self.half_products,
            ),
            "half:    %s" % _counts(self.half),
            "float32: %s" % _counts(self.kept, 12),
            "%-44s %15s %6s %8s" % ("layer", "products half", "half", "float32"),
        ]
        for row in self.layers:
            products = "%d of %d" % (row.half_products, row.products) if row.products else ""
            lines.append("%-44s %15s %6d %8d" % (row.layer, products, row.half_nodes, row.float_nodes))
        return "\n".join(lines)

    __repr__ = __str__


def _counts(counter, most=None):
    return ", ".join("%s %d" % pair for pair in counter.most_common(most)) or "nothing"


def precision_report(model: Model, *, as_built: Optional[bool] = None) -> PrecisionReport:
    """Which operations of a model are cast to float16 by `enable_mixed_precision`, on a GPU with tensor cores.

    In a TensorFlow that is built for GPUs its own rewriting runs on a virtual GPU of compute capability 8.0; no GPU
    needs to be there. In one built for the CPU its rule is followed with its own lists. This says what is computed in
    half precision, not how fast or how exactly. Lists differ between builds: run it in the image that you train in.

    Args:
        model: Keras model; compiled: the whole training step, with backward pass and update; else the prediction.
        as_built: True asks TensorFlow's own rewriting in any case. In a build for the CPU it leaves all in float32 that
            lacks a GPU kernel, nearly everything but the matrix products.

    Returns:
        `PrecisionReport`.

    Raises:
        TypeError: no Keras model.
        RuntimeError: a model that runs eagerly.

    Reference:
        在bert4keras中使用混合精度和XLA加速训练, kexue.fm/archives/9059

    >>> from kexue_keras.training.precision import precision_report
    >>> model = keras.models.Sequential([keras.layers.Dense(8, input_shape=(4,)), keras.layers.Dense(1)])
    >>> report = precision_report(model)
    >>> report.half['MatMul'], report.half_products
    (2, 1.0)
    """
    refuse_eager("precision_report")
    graph = model_graph(model)
    return PrecisionReport(graph, turned_half(graph.graph_def, graph.fetches, as_built=as_built))
