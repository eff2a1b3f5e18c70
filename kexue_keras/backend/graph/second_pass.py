"""Another pass of a part of the graph, in which some tensors have other values.

What the loss would be if the embeddings were others is asked of the graph itself: the ops between them and the loss are
copied, everything else is shared. So it is the same loss, whatever it is made of (several outputs, sample weights,
regularizers, masks, `add_loss`), with the same dropout, and no variable is ever written. A second call of the Python
functions would give a loss without the compiled targets and weights, and count every `add_loss` twice.
"""

import itertools

import tensorflow as tf

from kexue_keras.backend.graph.loop_copy import LoopCopy, loop_of
from kexue_keras.backend.graph.ops import copy_op, gradient_function, other_conditions
from kexue_keras.backend.graph.walk import STATEFUL_RANDOM, reached

_numbers = itertools.count()


class SecondPass(object):
    """Tensors as they would be if some others were replaced.

    Args:
        replace: function(list of ops, inputs first) -> dict from the name of an output of one of them to the tensor
            that takes its place. It is asked once about every op that is met.
        name: scope of the copies.

    Raises:
        NotImplementedError: when called, if the replacement reaches into a loop or condition within a tf.while_loop.

    >>> x = tf.constant(3.)
    >>> y = tf.square(x) + 1.
    >>> second = SecondPass(lambda ops: {x.name: tf.constant(5.)}, name="second")
    >>> [float(K.eval(t)) for t in [y] + second([y])]
    [10.0, 26.0]
    """

    def __init__(self, replace, *, name):
        self.replace, self.name = replace, name
        self._tensors, self._copies, self._seen = {}, {}, set()

    def __call__(self, tensors, *, stop=()):
        """The tensors of this pass, in the same order; one that nothing changes for is returned itself."""
        tensors = list(tensors)
        if tensors:
            with tensors[0].graph.as_default(), tf.name_scope(self.name):
                self._copy(reached(tensors, stop=stop))
        return [self._tensors.get(t.name, t) for t in tensors]

    def has_copied(self, tensor):
        """Whether the tensor has another value in this pass."""
        return tensor.name in self._tensors

    def _copy(self, ops):
        new = [op for op in ops if op not in self._seen]
        self._seen.update(new)
        self._tensors.update(self.replace(new))
        moved = self._dependent(ops)
        known = set(moved)
        for op in moved:
            self._copy_any(op, ops, known)

    def _copy_any(self, op, ops, moved):
        if op in self._copies:
            return
        loop = loop_of(op)
        if loop is None:
            self._copy_op(op)
            return
        copy = LoopCopy(loop, ops)
        # What a loop reads may stand behind it, as going round it has no first op.
        for source in reached(copy.sources):
            if source in moved:
                self._copy_any(source, ops, moved)
        with tf.control_dependencies(None):
            for old, new in copy.build(lambda t: self._tensors.get(t.name, t)):
                self._tensors[old.name] = new
        self._copies.update((inner, inner) for inner in copy.inside)

    def _dependent(self, ops):
        """Those ops that have to be copied: they are computed from what is replaced."""
        moved, loops = set(), set()
        # Once more round, as long as loops bring something new.
        while True:
            before = len(moved)
            for op in ops:
                if op not in moved and op not in self._copies and self._is_dependent(op, moved, loops):
                    moved.add(op)
                    loops.add(loop_of(op))
            if len(moved) == before:
                return [op for op in ops if op in moved]

    def _is_dependent(self, op, moved, loops):
        if op.type in STATEFUL_RANDOM:
            # Random numbers are the same in all passes. An op that draws them depends on a shape at most.
            return False
        if op.type == "TensorArrayV3":
            # Each of its places can be written once, and read once.
            return any(user in moved for user in op.outputs[0].consumers())
        if any(t.name in self._tensors or t.op in moved for t in op.inputs):
            return True
        if any(c in moved or c in self._copies for c in op.control_inputs):
            return True
        # A loop is copied as a whole.
        loop = loop_of(op)
        return loop is not None and loop in loops

    def _copy_op(self, op):
        controls = [self._copies.get(c, c) for c in op.control_inputs]
        inputs = [self._tensors.get(t.name, t) for t in op.inputs]
        with tf.control_dependencies(None), tf.control_dependencies(controls):
            with op.graph.gradient_override_map(self._gradient(op)), other_conditions(self._tensors):
                copy = copy_op(op, inputs)
        self._copies[op] = copy
        for old, new in zip(op.outputs, copy.outputs):
            # What Python code knew of the shape is not known to the op.
            new.set_shape(old.shape)
            # An output that is replaced keeps what it is replaced by.
            self._tensors.setdefault(old.name, new)

    def _gradient(self, op):
        """Override for the copy of an op whose gradient is overridden itself (`tf.custom_gradient`, recompute): such a
        function may know tensors of the first pass, and copy ops by their conditions."""
        try:
            op.get_attr("_gradient_op_type")
        except ValueError:
            return {}
        name = "KexueSecondPass%d" % next(_numbers)

        @tf.RegisterGradient(name)
        def gradient(copy, *upstream):
            with other_conditions(self._tensors):
                found = gradient_function(op)(copy, *upstream)
            found = list(found) if isinstance(found, (list, tuple)) else [found]
            # What comes from the copy belongs to this pass already.
            own = [g for g in upstream if g is not None] + list(copy.inputs) + list(copy.outputs)
            parts = [part for g in found if g is not None for part in _parts(g)]
            parts = iter(self(parts, stop=own))
            return [None if g is None else _rebuilt(g, parts) for g in found]

        return {op.type: name}


def _parts(gradient):
    return [gradient.values, gradient.indices] if isinstance(gradient, tf.IndexedSlices) else [gradient]


def _rebuilt(gradient, parts):
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(next(parts), next(parts), gradient.dense_shape)
    return next(parts)
