"""Operations of a graph: copied, differentiated otherwise, found in the branches of conditions and loops."""

import contextlib

import tensorflow as tf

from kexue_keras.backend.stack import tf1


def copy_op(op, inputs):
    """A second copy of a graph operation, on other inputs, in the scopes that are open now.

    Its gradient is that of `op`, also where that was overridden, and inside a tf.cond it belongs to the same branch
    (TensorFlow reads the branch from a private field when it differentiates).

    Args:
        op: tf.Operation.
        inputs: list of tensors, one for each input of `op`.
    """
    attributes = {k: v for k, v in op.node_def.attr.items() if k != "_class"}
    with tf1.device(op.device or None):
        copy = op.graph.create_op(
            op.type, inputs, [t.dtype for t in op.outputs], name=op.name, attrs=attributes, op_def=op.op_def
        )
    context = op._get_control_flow_context()
    if context is not None and context.IsCondContext() and not _has_other_condition(op):
        copy._set_control_flow_context(context)
    return copy


def control_flow_contexts(op):
    """The tf.cond and tf.while_loop branches that an operation lies in, the innermost first."""
    contexts, context = [], op._get_control_flow_context()
    while context is not None:
        contexts.append(context)
        context = context.outer_context
    return contexts


def identity_with_gradient(tensors, gradient, number=None):
    """tf.identity_n of `tensors` whose gradient is the function registered under the name `gradient`.

    Args:
        tensors: list of tensors.
        gradient: name given to `tf.RegisterGradient`.
        number: int or None; `gradient_number` reads it from the operation, also from a copy of it.
    """
    graph = tensors[0].graph
    tag = {} if number is None else {_NUMBER: tf1.AttrValue(i=number)}
    with graph.gradient_override_map({"IdentityN": gradient}), graph._attr_scope(tag):
        return tf.identity_n(tensors)


def gradient_number(op):
    """The number that `identity_with_gradient` gave to `op`; None if `op` comes from elsewhere."""
    try:
        return int(op.get_attr(_NUMBER))
    except ValueError:
        return None


_NUMBER = "_kexue_gradient_number"


def gradient_function(op):
    """The function (op, *gradients of its outputs) -> gradients of its inputs that TensorFlow would call for `op`.

    None for an op that has no gradient by nature (a shape, a comparison).

    Raises:
        LookupError: no such function is known.
    """
    from tensorflow.python.framework import ops

    return ops.get_gradient_function(op)


# Names of the tensors of each open `other_conditions`.
_other_conditions = []


@contextlib.contextmanager
def other_conditions(names):
    """While this context is open, `copy_op` takes copies out of the tf.cond branches of these conditions.

    TensorFlow differentiates an op in a branch by the condition that the branch was built with, which is not that of a
    copy with another one (another learning phase); an op in no branch it differentiates by its inputs.

    Args:
        names: container of names of tensors.
    """
    _other_conditions.append(names)
    try:
        yield
    finally:
        _other_conditions.pop()


def _has_other_condition(op):
    conditions = [c.pred.name for c in control_flow_contexts(op) if c.IsCondContext()]
    return any(name in names for names in _other_conditions for name in conditions)


def op_definitions():
    """Dict name -> `OpDef` of all operations, as far as this TensorFlow lists them."""
    from tensorflow.python.framework import op_def_registry

    if hasattr(op_def_registry, "get_registered_ops"):
        return op_def_registry.get_registered_ops()

    class Registry(dict):  # TensorFlow 2 looks them up one by one
        def __missing__(self, name):
            return op_def_registry.get(name)

    return Registry()
