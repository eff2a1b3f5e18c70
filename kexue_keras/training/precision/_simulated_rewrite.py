"""What TensorFlow's mixed-precision rewriting casts to float16 on a GPU, in a build of TensorFlow without GPUs.

Article: 在bert4keras中使用混合精度和XLA加速训练 (kexue.fm/archives/9059). The rewriting casts only
operations that have a float16 kernel, and a CPU build has next to no GPU kernels: run there, it casts the matrix
products and skips the additions and activations between them, which do become half on a GPU. So its rule is
reproduced here, with the lists of the TensorFlow in use, assuming that every kernel exists.

The rule: operations on the white list become half, those on the black list do not, nor what follows them through
the gray and the clear list; what is between white ones becomes half; so do clear ones next to it.
"""

from collections import namedtuple

import tensorflow as tf

from kexue_keras import backend
from kexue_keras.backend.graph import depth_first, op_definitions

FLOAT = tf.float32.as_datatype_enum
HALF = tf.float16.as_datatype_enum

Rewrite = namedtuple("Rewrite", "half casts casts_back cast_nodes")


def turned_half(graph_def, fetches, *, as_built=None):
    """Which nodes are cast to float16: by TensorFlow's own rewriting if it is built for GPUs, else by its rule.

    Args:
        graph_def: `GraphDef`.
        fetches: names of the nodes that are asked for.
        as_built: True takes TensorFlow's own rewriting in any case, False the rule; None decides by the build.

    Returns:
        `Rewrite(half, casts, casts_back, cast_nodes)`: names of the nodes in half precision; number of tensors
        that are cast to half and back; names of the nodes whose values are cast to half.
    """
    if as_built is None:
        as_built = tf.test.is_built_with_cuda()
    if not as_built:
        return simulated_rewrite(graph_def, fetches)
    half, casts, back, cast_nodes = set(), 0, 0, set()
    for node in backend.rewritten_to_half(graph_def, fetches).node:
        if node.op != "Cast":
            if any(HALF == a.type or HALF in a.list.type for a in node.attr.values()):
                half.add(node.name)
        elif node.attr["DstT"].type == HALF and node.attr["SrcT"].type == FLOAT:
            casts += 1
            cast_nodes.add(node.input[0].split(":")[0])
        elif node.attr["SrcT"].type == HALF:
            back += 1
    return Rewrite(half, casts, back, cast_nodes)


def allowed(node, key, definition):
    """Whether an operation is defined for half precision in its type attribute `key`."""
    for attribute in definition.attr:
        if attribute.name == key[0]:
            values = attribute.allowed_values.list.type
            return not values or HALF in values
    return False


def simulated_rewrite(graph_def, fetches, *, has_kernel=allowed):
    """Which nodes are cast to float16 by the rule.

    Args:
        graph_def, fetches: as for `turned_half`.
        has_kernel: function of (node, (attribute name, position in it), `OpDef`): whether the node may be half.

    Returns:
        `Rewrite`.
    """
    return _Rule(graph_def, fetches, has_kernel).run()


class _Rule(object):
    # The items of the rule are pairs (number of a node, type attribute), since a node may have several types.

    def __init__(self, graph_def, fetches, has_kernel):
        self.nodes = list(graph_def.node)
        self.lists = _lists()
        self.definitions = op_definitions()
        self.kept = {i for i, node in enumerate(self.nodes) if node.name in set(fetches)}
        self.has_kernel = has_kernel
        self.follow, self.precede, self.tensors, self.items = {}, {}, {}, set()
        self._connect()

    def _connect(self):
        ports = {}
        for i, node in enumerate(self.nodes):
            definition = self.definitions.get(node.op)
            if definition is not None:
                ports[i] = (_keys(node, definition.input_arg), _keys(node, definition.output_arg))
                self.items.update((i, key) for side in ports[i] for key in side if key is not None)
        number = {node.name: i for i, node in enumerate(self.nodes)}
        for i, node in enumerate(self.nodes):
            for port, text in enumerate(text for text in node.input if not text.startswith("^")):
                name, _, output = text.partition(":")
                source, output = number[name], int(output or 0)
                if i not in ports or source not in ports:
                    continue
                inputs, outputs = ports[i][0], ports[source][1]
                if port >= len(inputs) or output >= len(outputs) or None in (inputs[port], outputs[output]):
                    continue
                start, end = (source, outputs[output]), (i, inputs[port])
                self.follow.setdefault(start, set()).add(end)
                self.precede.setdefault(end, set()).add(start)
                self.tensors.setdefault((start, output), set()).add(end)

    def _in(self, item, *names):
        return any(self.nodes[item[0]].op in self.lists[name] for name in names)

    def _may(self, item):
        i, key = item
        node = self.nodes[i]
        if i in self.kept or _type(node, key) != FLOAT:
            return False
        definition = self.definitions.get(node.op)
        return definition is not None and self.has_kernel(node, key, definition)

    @staticmethod
    def _reach(roots, edges, enters):
        """The roots and all that is reached from them through items that `enters` lets in."""

        def beside(item):
            return [other for graph in edges for other in graph.get(item, ()) if enters(other)]

        return set(depth_first(roots, beside))

    def run(self):
        white = {item for item in self.items if self._in(item, "white") and item[0] not in self.kept}
        dark = [item for item in self.items if self._in(item, "black", "gray")]
        above = self._reach(dark, [self.precede], lambda item: self._in(item, "clear"))
        blacks = [item for item in self.items if self._in(item, "black")]
        black = self._reach(blacks, [self.follow], lambda item: item in above)
        light = {item for item in self.items if self._in(item, "clear", "gray") and self._may(item)} - black
        below = self._reach(white, [self.follow], lambda item: item in light)
        white = self._reach(white, [self.precede], lambda item: item in below)
        clear = {item for item in light if self._in(item, "clear")}
        white = self._reach(white, [self.follow, self.precede], lambda item: item in clear)
        return self._result({item for item in white if _type(self.nodes[item[0]], item[1]) == FLOAT})

    def _result(self, white):
        casts, back, cast_nodes = 0, 0, set()
        for (start, _), ends in self.tensors.items():
            if _type(self.nodes[start[0]], start[1]) != FLOAT:
                continue
            if start in white:
                back += any(end not in white for end in ends)
            elif any(end in white for end in ends):
                casts += 1
                cast_nodes.add(self.nodes[start[0]].name)
        return Rewrite({self.nodes[i].name for i, _ in white}, casts, back, cast_nodes)


def _keys(node, arguments):
    """The type attribute of each port of one side, None where the type is fixed."""
    keys = []
    for argument in arguments:
        if argument.type_list_attr:
            many = len(node.attr[argument.type_list_attr].list.type)
            keys += [(argument.type_list_attr, i) for i in range(many)]
        else:
            many = node.attr[argument.number_attr].i if argument.number_attr else 1
            keys += [(argument.type_attr, None) if argument.type_attr else None] * many
    return keys


def _type(node, key):
    name, position = key
    return node.attr[name].type if position is None else node.attr[name].list.type[position]


_known = {}


def _lists():
    # They depend on variables of the environment that are read at each rewriting, but nobody changes those half-way.
    if not _known:
        _known.update(backend.half_precision_lists())
    return _known
