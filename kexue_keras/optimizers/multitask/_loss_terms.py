"""The terms of a model's loss: what Keras has added up, taken apart again in the graph.

Keras hands an optimizer one tensor, the weighted sum of the losses of all outputs, of everything given to `add_loss`,
and of the regularisers. The tasks of `MultiTask` are found in it, so that nothing but positions or names has to be
saved with a model.
"""

import re

from kexue_keras.backend.graph import reached

_SUMS = ("Add", "AddV2", "AddN")
# Keras 2.3.1 takes the mean of its scalar total, bert4keras and tf.keras tag tensors with identities.
_PASS = ("Identity", "Mean", "Sum", "Reshape", "Squeeze")
_DATA = ("Placeholder", "PlaceholderWithDefault", "IteratorGetNext", "OneShotIterator")


def loss_terms(loss, whole=()):
    """The scalars whose sum is `loss`, from left to right.

    Args:
        loss: scalar tensor.
        whole: tensors that are not taken apart.

    Returns:
        list of tensors, without constants.
    """
    if any(loss is tensor for tensor in whole):
        return [loss]
    operation = loss.op
    if operation.type == "Const":
        return []
    parts = ()
    if operation.type in _SUMS:
        parts = operation.inputs
    elif operation.type in _PASS and len(operation.inputs):
        parts = operation.inputs[:1]
    if not parts or not all(part.shape.rank == 0 for part in parts):
        return [loss]
    return [term for part in parts for term in loss_terms(part, whole)]


def depends_on_data(tensor):
    """Whether a placeholder or a data set stands anywhere above the tensor; a regulariser has none."""
    return any(op.type in _DATA and "learning_phase" not in op.name for op in reached([tensor], controls=False))


def reaches(loss, tensor):
    """Whether `loss` is computed from `tensor`, or from the same computation built a second time."""
    operations = reached([loss], controls=False)
    if tensor.op in operations:
        return True
    alike, known = [op for op in operations if op.type == tensor.op.type], {}
    return any(same_value(op.outputs[tensor.value_index], tensor, known) for op in alike)


def same_value(a, b, known=None):
    """Whether two tensors are the same computation of the same variables and data, built twice.

    Operations with a state of their own (variables, data, random numbers) are the same only if they are one.
    """
    known = {} if known is None else known
    if a is b:
        return True
    one, other = a.op, b.op
    if one is other or a.value_index != b.value_index:
        return False
    key = one.name, other.name
    if key not in known:
        # Until it is known, as a loop comes back to where it began.
        known[key] = True
        known[key] = (
            one.type == other.type
            and one.type not in _DATA
            and not (one.op_def is not None and one.op_def.is_stateful and one.type != "ReadVariableOp")
            and len(one.inputs) == len(other.inputs)
            and _attributes(one) == _attributes(other)
            and all(same_value(x, y, known) for x, y in zip(one.inputs, other.inputs))
        )
    return known[key]


def _attributes(op):
    return {key: value for key, value in op.node_def.attr.items() if not key.startswith("_")}


def scope_of(op):
    """The innermost scope of the name of an operation, the layer's name where a layer made it."""
    return op.name.split("/")[-2] if "/" in op.name else op.name


def named_term(terms, name):
    """Position of the term of the output or layer `name`.

    Raises:
        ValueError: none or several of that name.
    """
    for pattern in (r"%s(_loss)?", r"%s(_loss)?_\d+"):
        pattern = re.compile(pattern % re.escape(name))
        found = [i for i, term in enumerate(terms) if any(pattern.fullmatch(part) for part in _path(term))]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError("%d terms of the loss belong to %r; give their positions instead" % (len(found), name))
    raise ValueError(
        "no term of the loss belongs to %r; the terms are %s; give the name of an output, or a position"
        % (name, ", ".join("%d: %s" % (i, describe(term)) for i, term in enumerate(terms)))
    )


def describe(term):
    """The name of a term in error messages: the longest one among it and what it is multiplied from."""
    return max(_names(term), key=len)


def _names(term):
    # The product with the loss weight stands outside the scope of the output.
    sources = list(term.op.inputs) if term.op.type == "Mul" else []
    return [term.op.name] + [source.op.name for source in sources]


def _path(term):
    return [part for name in _names(term) for part in name.split("/")]
