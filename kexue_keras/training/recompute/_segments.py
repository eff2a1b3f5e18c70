"""A piece of the graph that is run again in the backward pass instead of being kept (the engine of `recompute`).

节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367. Paper: Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.

TensorFlow keeps a tensor of the forward pass for as long as an op of the backward pass needs it. `checkpoint` passes
tensors on through an identity with its own gradient. That gradient copies the ops which made them, in the graph,
op by op, and differentiates the copies; so nothing needs the originals any more, and TensorFlow frees them. Why
copies of ops, and not a second call of the Python function: a tensor that comes in several times is one tensor, masks
and closures are seen as what they are, and what happens once (updates, losses, counters of layers) still happens once.
"""

import tensorflow as tf

from kexue_keras.backend import refuse_eager
from kexue_keras.backend.graph import (
    STATEFUL_RANDOM,
    control_flow_contexts,
    copy_op,
    depth_first,
    gradient_number,
    identity_with_gradient,
    reached,
)

GRADIENT = "KexueRecompute"

# Not to be repeated although they have no state: what is fed would not reach the copy.
_INPUTS = {"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"}

# What a dropout does to its random numbers until they are a mask of one byte each.
_SHRINKING = {"Mul", "Add", "AddV2", "Sub", "Floor", "Identity", "GreaterEqual", "Greater", "Less", "LessEqual"}

_PRODUCTS = {"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"}

_FINAL = "final"


class Segment(object):
    """What is repeated for one checkpoint: ops of the graph, where they begin, and in which order.

    Attributes:
        outputs: floating tensors that were passed on.
        ops: list of operations that are repeated, inputs first.
        boundaries: tensors from outside that these ops read; they stay in memory.
        kept: tensors from inside that stay in memory as well, so that what made them does not run again.
        level: int; a checkpoint of a higher level repeats those of lower levels inside it.
    """

    def __init__(self, outputs, ops, boundaries, kept, level):
        self.outputs, self.ops, self.boundaries, self.kept, self.level = outputs, ops, boundaries, kept, level
        self.points, self.stages = _stages(outputs, ops, kept)


class _Segments(object):
    """All checkpoints of one graph; lives in the graph, so that it goes when the graph goes."""

    def __init__(self):
        self.list, self.level_of = [], {}

    def add(self, segment):
        self.list.append(segment)
        for op in segment.ops:
            self.level_of[op] = max(segment.level, self.level_of.get(op, segment.level))
        return len(self.list) - 1

    @classmethod
    def of(cls, graph):
        if not hasattr(graph, "kexue_recompute"):
            graph.kexue_recompute = cls()
        return graph.kexue_recompute


def segments(graph):
    """List of the `Segment`s of a graph, in the order in which they were made."""
    return list(_Segments.of(graph).list)


@tf.autograph.experimental.do_not_convert
def checkpoint(tensors, *, inside=None, keep=None, level=0):
    """Pass tensors on so that in the backward pass the ops that made them run again.

    Ops with a state are never repeated: what they gave (the value of a variable, a looked-up embedding, the mask of a
    random op) is kept and used again. The same holds for loops.

    Args:
        tensors: list of tensors; those that are not floating come back as they are.
        inside: function of an op, whether it may be repeated. By default all that no earlier checkpoint of at least
            this level repeats already.
        keep: function of an op, whether its outputs are to stay in memory.
        level: int, see `Segment`.

    Returns:
        list of tensors, with the values of `tensors`.
    """
    refuse_eager("recompute")
    floating = [t for t in tensors if t.dtype.is_floating]
    if not floating:
        return list(tensors)
    known = _Segments.of(floating[0].graph)
    base = control_flow_contexts(floating[0].op)
    if inside is None:

        def inside(op):
            number = gradient_number(op) if op.type == "IdentityN" else None
            if number is not None:
                return known.list[number].level < level
            return known.level_of.get(op, -1) < level

    segment = _find(floating, inside, keep or _nothing, level, base)
    if not segment.ops:
        return list(tensors)
    number = known.add(segment)
    handed = identity_with_gradient(segment.outputs + segment.boundaries + segment.kept, GRADIENT, number)
    new = {_key(old): tensor for old, tensor in zip(segment.outputs, handed)}
    for old in segment.outputs:
        new[_key(old)].set_shape(old.shape)
        if hasattr(old, "_uses_learning_phase"):
            new[_key(old)]._uses_learning_phase = old._uses_learning_phase
    return [new.get(_key(t), t) for t in tensors]


def _nothing(op):
    return False


def _key(tensor):
    return tensor.op, tensor.value_index


def _find(outputs, inside, keep, level, base):
    conditional = True
    while True:
        ops = _repeatable(outputs, inside, keep, base, conditional)
        known = set(ops)
        boundaries, blocked = {}, False
        for op in ops:
            for t in op.inputs:
                if t.op in known or (t.op.type == "Const" and (inside(t.op) or not t.dtype.is_floating)):
                    continue
                if _is_within(t.op, base):
                    boundaries[_key(t)] = t
                elif t.dtype.is_floating and not _is_random(t.op):
                    # It lives in one branch of a tf.cond, so it may be absent, and no gradient can be given for it
                    # to the identity outside. Then the result of the tf.cond is what is kept.
                    blocked = True
        if not blocked or not conditional:
            break
        conditional = False
    last = {t.op for t in outputs}
    sums = _last_products(last, known) if keep is not _nothing else set()
    kept = [
        t
        for op in ops
        if op not in last and (keep(op) or op in sums) and control_flow_contexts(op) == base
        for t in op.outputs
        if t.dtype.is_floating
    ]
    outputs = [t for t in {_key(t): t for t in outputs}.values() if t.op in known]
    return Segment(outputs, ops, list(boundaries.values()), kept, level)


def _last_products(last, inside):
    """The products of matrices that the results are sums of: in a transformer, what is added to the residual stream.

    If these are kept, the stream can be recomputed without the side branches.
    """

    def before(op):
        return [] if op.type in _PRODUCTS else [t.op for t in op.inputs]

    ops = depth_first(last, before, enter=inside.__contains__)
    return {op for op in ops if op.type in _PRODUCTS}


def _repeatable(outputs, inside, keep, base, conditional):
    """The ops that `outputs` depend on and that may run twice, inputs first."""

    def may_repeat(op):
        return not (
            op.type in _INPUTS
            or op.type == "Const"
            or _is_stateful(op)
            or _is_random(op)
            or (op.type == "Merge" and not conditional)
            or any(t.dtype != t.dtype.base_dtype for t in op.inputs)
            or _loops(op) != [c for c in base if c.IsWhileContext()]
            or _is_small(op)
            or (keep(op) and not any(t.dtype.is_floating for t in op.outputs))
            or not inside(op)
        )

    return reached(outputs, enter=may_repeat, controls=False)


def _is_small(op):
    """Shapes, positions, token ids, keys of random numbers: not worth a second time.

    Were they repeated, the shape of a result would need the result itself, at the wrong time.
    """
    return all(t.dtype.is_integer for t in op.outputs)


def _is_random(op):
    """Whether `op` is a random op with a state, or does no more to its numbers than turn them into a mask."""
    ops = depth_first([op], lambda op: [t.op for t in op.inputs] if op.type in _SHRINKING else [])
    sources = {op.type for op in ops} - _SHRINKING - {"Const"}
    return bool(sources) and sources <= STATEFUL_RANDOM


def _is_stateful(op):
    if op.type not in _stateful:
        _stateful[op.type] = op.op_def.is_stateful
    return _stateful[op.type]


_stateful = {}


def _loops(op):
    return [c for c in control_flow_contexts(op) if c.IsWhileContext()]


def _is_within(op, base):
    """Whether what `op` gives is there wherever the branches `base` are run."""
    contexts = control_flow_contexts(op)
    if contexts and op.type == "Exit":
        contexts = contexts[1:]
    return contexts == base[len(base) - len(contexts) :]


def _stages(outputs, ops, kept):
    """Cut the ops where the backward pass can pause, so that each part is repeated only when its gradient is there.

    A point is an op with kept outputs, or one whose outputs several parts use; at a point all gradients are summed
    before they go further back.

    Returns:
        set of ops that are points; dict from each of them (and from _FINAL) to the ops of its part, inputs first.
    """
    kept_ops, last = {t.op for t in kept}, {t.op for t in outputs}
    position = {op: i for i, op in enumerate(ops)}
    position[_FINAL] = len(ops)
    users = {op: set() for op in ops}
    for op in last & set(users):
        users[op].add(_FINAL)
    points, part = set(), {}
    base = [control_flow_contexts(t.op) for t in outputs][:1]
    for op in reversed(ops):
        parts = users[op]
        divisible = any(t.dtype.is_floating for t in op.outputs) and [control_flow_contexts(op)] == base
        if op not in last and (op in kept_ops or (len(parts) > 1 and divisible)):
            points.add(op)
            part[op] = op
        else:
            part[op] = max(parts, key=position.get)
        for t in op.inputs:
            if t.op in users:
                users[t.op].add(part[op])
    stages = {point: [] for point in points | {_FINAL}}
    for op in ops:
        stages[part[op]].append(op)
    return points, stages


class _Repetition(object):
    """The copies that one gradient of a segment is computed from."""

    def __init__(self, segment, op):
        self.segment = segment
        inside = op.inputs[len(segment.outputs) :]
        self.given = {_key(t): actual for t, actual in zip(segment.boundaries + segment.kept, inside)}
        self.copies, self.leaves, self.sums = {}, {}, {}
        self.copied = set()

    def value(self, tensor):
        """What a copied op reads instead of `tensor`."""
        key = _key(tensor)
        if key in self.leaves:
            return self.leaves[key]
        if key in self.given:
            actual = self.given[key]
        elif tensor.op in self.copies:
            actual = self.copies[tensor.op].outputs[tensor.value_index]
        else:
            return tensor
        if (key in self.given or tensor.op in self.segment.points) and tensor.dtype.is_floating:
            # Gradients are summed here, and go no further through the graph that `actual` belongs to.
            actual = self.leaves[key] = tf.identity(actual)
        return actual

    def copy(self, stage):
        """Copy the ops of a stage, and before that of those stages whose results it needs and nobody kept."""
        if stage in self.copied:
            return
        self.copied.add(stage)
        for op in self.segment.stages[stage]:
            for t in op.inputs:
                if t.op in self.segment.points and _key(t) not in self.given:
                    self.copy(t.op)
        for op in self.segment.stages[stage]:
            self.copies[op] = copy_op(op, [self.value(t) for t in op.inputs])

    def push_back(self, stage, tensors, gradients):
        """Carry the gradients of `tensors`, which end `stage`, back to the leaves."""
        pairs = [(t, _dense(g)) for t, g in zip(tensors, gradients) if g is not None]
        if not pairs:
            return
        # Without this the copies would run at once, and what they give would be kept all the same.
        with tf.control_dependencies([g for _, g in pairs]):
            self.copy(stage)
        ends = [self.copies[t.op].outputs[t.value_index] for t, _ in pairs]
        keys = list(self.leaves)
        leaves = [self.leaves[k] for k in keys]
        found = tf.gradients(ends, leaves, grad_ys=[g for _, g in pairs], stop_gradients=leaves)
        for key, gradient in zip(keys, found):
            if gradient is not None:
                self.sums.setdefault(key, []).append(gradient)

    def total(self, tensor):
        """The gradient that has arrived at a leaf; None if there is none."""
        parts = self.sums.get(_key(tensor), [])
        if len(parts) < 2:
            return parts[0] if parts else None
        return tf.add_n([_dense(g) for g in parts])


def _dense(gradient):
    return tf.convert_to_tensor(gradient) if isinstance(gradient, tf.IndexedSlices) else gradient


@tf.RegisterGradient(GRADIENT)
def _gradient(op, *gradients):
    known, number = _Segments.of(op.graph), gradient_number(op)
    if number is None or number >= len(known.list):
        raise ValueError(
            "%s comes from a graph that was saved and read back; the ops that it repeats are known only where the "
            "model is built. Build the model again and load its weights" % op.name
        )
    segment = known.list[number]
    repetition = _Repetition(segment, op)
    with tf.name_scope("recompute"):
        repetition.push_back(_FINAL, segment.outputs, gradients)
        for point in reversed([o for o in segment.ops if o in segment.points]):
            repetition.push_back(point, point.outputs, [repetition.total(t) for t in point.outputs])
        result = [repetition.total(t) for t in segment.boundaries]
    return [None] * len(segment.outputs) + result + [None] * len(segment.kept)
