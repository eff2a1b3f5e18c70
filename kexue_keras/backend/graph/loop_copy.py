"""A tf.while_loop built once more with other inputs, from its ops in the graph (part of `SecondPass`).

Recurrent layers and CRFs are such loops. Their ops cannot be copied one by one, since a loop goes round, and since
TensorFlow differentiates a loop by what `tf.while_loop` has noted about it. So `tf.while_loop` is called again, and
its functions copy the ops of the condition and of the body.
"""

import tensorflow as tf

from kexue_keras.backend.graph.ops import control_flow_contexts, copy_op
from kexue_keras.backend.graph.walk import depth_first


def loop_of(op):
    """The outermost tf.while_loop that an operation belongs to (its context), or None."""
    loops = [c for c in control_flow_contexts(op) if c.IsWhileContext()]
    return loops[-1] if loops else None


class LoopCopy(object):
    """One loop that is to be built again.

    Args:
        loop: what `loop_of` returns.
        ops: the operations that are needed of the graph; of the loop's variables only those among them are built.

    Attributes:
        sources: tensors from outside that the loop reads.

    Raises:
        NotImplementedError: a tf.while_loop or tf.cond within the loop.
    """

    def __init__(self, loop, ops):
        self.loop = loop
        self.inside = {op for op in ops if loop_of(op) is loop}
        nested = [op for op in self.inside if control_flow_contexts(op)[0] is not loop]
        if nested:
            raise NotImplementedError(
                "%s would have to be repeated, but it belongs to a loop or condition within a tf.while_loop"
                % nested[0].name
            )
        merges = [op for op in ops if op in self.inside and op.type == "Merge"]
        self.variables = [_Variable(op) for op in merges]
        self.sources = [op.inputs[0] for op in self.inside if op.type == "Enter"]

    def build(self, value):
        """Build the loop.

        Args:
            value: function from a tensor outside the loop to the one that takes its place.

        Returns:
            list of pairs (tensor that the loop gave, what the new one gives).
        """
        starts = [value(v.start) for v in self.variables]
        condition = next(op for op in self.inside if op.type == "LoopCond").inputs[0]

        def go_on(*now):
            known = {v.before_condition.name: x for v, x in zip(self.variables, now)}
            return self._copy([condition], known, value)[0]

        def body(*now):
            known = {v.before_body.name: x for v, x in zip(self.variables, now)}
            return self._copy([v.after_body for v in self.variables], known, value)

        results = tf.while_loop(
            go_on,
            body,
            starts,
            shape_invariants=[v.before_condition.shape for v in self.variables],
            parallel_iterations=self.loop.parallel_iterations,
            back_prop=self.loop.back_prop,
            swap_memory=self.loop.swap_memory,
        )
        results = results if isinstance(results, (list, tuple)) else [results]
        return [(v.result, new) for v, new in zip(self.variables, results) if v.result is not None]

    def _copy(self, tensors, known, value):
        """Copies of what `tensors` need within the loop; the new loop makes its own control dependencies."""

        def found(tensor):
            if tensor.name in known:
                return known[tensor.name]
            return value(tensor) if tensor.op not in self.inside else None

        def before(op):
            return [] if op.type == "Enter" else [t.op for t in op.inputs if found(t) is None]

        for op in depth_first([t.op for t in tensors if found(t) is None], before):
            if op.type == "Enter":
                known[op.outputs[0].name] = value(op.inputs[0])
                continue
            copy = copy_op(op, [found(t) for t in op.inputs])
            for old, new in zip(op.outputs, copy.outputs):
                # A TensorArray does not know the shapes of what it holds.
                new.set_shape(old.shape)
                known[old.name] = new
        return [found(t) for t in tensors]


class _Variable(object):
    """One variable of a loop: where it begins, is looked at, is read and written by the body, and comes out."""

    def __init__(self, merge):
        switch = next(
            op for op in merge.outputs[0].consumers() if op.type == "Switch" and op.inputs[1].op.type == "LoopCond"
        )
        exits = [op for op in switch.outputs[0].consumers() if op.type == "Exit"]
        self.start = merge.inputs[0].op.inputs[0]
        self.before_condition = merge.outputs[0]
        self.before_body = switch.outputs[1]
        self.after_body = merge.inputs[1].op.inputs[0]
        self.result = exits[0].outputs[0] if exits else None
