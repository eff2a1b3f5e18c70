"""Walks over the operations of a graph: what tensors are computed from, where a value comes from, who reads it."""

# Ops that draw other numbers each time they run: their own counter is their state.
STATEFUL_RANDOM = {
    "RandomUniform",
    "RandomUniformInt",
    "RandomStandardNormal",
    "TruncatedNormal",
    "ParameterizedTruncatedNormal",
    "Multinomial",
    "RandomGamma",
    "RandomPoissonV2",
    "RandomShuffle",
}


def depth_first(starts, before, *, enter=None):
    """All that is reached from some starts, each after what it comes from (as far as there is no circle).

    Args:
        starts: iterable of nodes, hashable things of any kind.
        before: function of a node -> the nodes that it comes from.
        enter: function of a node, whether to look at it and beyond; by default all are.

    Returns:
        list of nodes, each once.

    >>> from kexue_keras.backend.graph import depth_first
    >>> depth_first("d", {"d": "bc", "b": "a", "c": "a", "a": ""}.get)
    ['a', 'c', 'b', 'd']
    """
    done, order, stack = {}, [], list(starts)
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            if not done[node]:
                done[node] = True
                order.append(node)
        elif enter is not None and not enter(node):
            done[node] = True
            stack.pop()
        else:
            done[node] = False
            stack.extend(other for other in before(node) if other not in done)
    return order


def reached(tensors, *, stop=(), enter=None, controls=True):
    """The ops that some tensors are computed from, inputs first.

    Args:
        tensors: list of tensors.
        stop: tensors behind which the search stops.
        enter: function of an op, whether to look at it and beyond.
        controls: whether control dependencies are followed too.

    Returns:
        list of operations. In a tf.while_loop, which is a cycle, an op may come before one of its inputs.

    >>> from kexue_keras.backend.graph import reached
    >>> x = tf.constant(3.)
    >>> [op.type for op in reached([tf.sqrt(tf.exp(x))], stop=[x])]
    ['Exp', 'Sqrt']
    """
    stop = {t.name for t in stop}

    def before(op):
        sources = [t.op for t in op.inputs if t.name not in stop]
        return sources + list(op.control_inputs) if controls else sources

    return depth_first([t.op for t in tensors if t.name not in stop], before, enter=enter)


def origin(tensor, through=("Identity",)):
    """Where the value of a tensor comes from: itself, or the first input of the ops that pass it on.

    Args:
        tensor: graph tensor; anything without an op is returned as it is.
        through: types of the ops that are looked through.

    >>> from kexue_keras.backend.graph import origin
    >>> x = tf.constant(3.)
    >>> origin(tf.identity(tf.identity(x))) is x
    True
    """
    while hasattr(tensor, "op") and tensor.op.type in through and len(tensor.op.inputs):
        tensor = tensor.op.inputs[0]
    return tensor


def readers(tensors, through=()):
    """Who reads some tensors, forwards in the graph.

    Args:
        tensors: list of tensors.
        through: types of the ops that are looked through: they are no readers, but who reads their outputs is.

    Returns:
        list of pairs (tensor that is read, op), each once.

    >>> from kexue_keras.backend.graph import readers
    >>> x = tf.constant(3.)
    >>> y = tf.exp(tf.identity(x))
    >>> [op.type for _, op in readers([x], through=["Identity"])]
    ['Exp']
    """
    found, seen, waiting = {}, set(), list(tensors)
    while waiting:
        tensor = waiting.pop()
        if tensor.name in seen:
            continue
        seen.add(tensor.name)
        for op in tensor.consumers():
            if op.type in through:
                waiting.extend(op.outputs)
            else:
                found[tensor.name, op.name] = tensor, op
    return list(found.values())
