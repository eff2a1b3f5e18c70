"""Checks of tensors: ranks, shapes, lengths, values, and probabilities where logits are meant.

What is known when the graph is built is checked then, with a ValueError; what is only known when data
arrives is checked by an assertion op whose message names the loss or layer.
"""

import warnings

import tensorflow as tf

from kexue_keras.backend import K, tf1
from kexue_keras.backend.graph import origin

# Ops that pass on the values they get (or some of them), so that what feeds them decides what they are.
_TRANSPARENT = (
    "Identity",
    "Reshape",
    "Cast",
    "Squeeze",
    "ExpandDims",
    "StopGradient",
    "CheckNumerics",
    "StridedSlice",
    "Transpose",
    "IdentityN",
)
_PROBABILITIES = ("Softmax", "Sigmoid")


def static_length(x, axis):
    """The length of an axis of tensor `x` if it is known when the graph is built, else None."""
    return tf.compat.dimension_value(x.shape[axis])


def warn_if_probabilities(y_pred, owner):
    """Warn if `y_pred` comes out of a softmax or a sigmoid, because `owner` takes logits.

    Args:
        y_pred: tensor; identities, casts, reshapes and slices after the activation are looked through.
        owner: str, the name of the loss or layer, for the message.
    """
    op = getattr(origin(y_pred, _TRANSPARENT), "op", None)
    if op is not None and op.type in _PROBABILITIES:
        warnings.warn(
            "%s takes logits, but y_pred is the output of the %s op %r, that is probabilities; "
            "remove the activation from the last layer (activation='linear')" % (owner, op.type.lower(), op.name),
            stacklevel=3,
        )


def require(condition, message, data=(), *, then):
    """Return `then` if `condition` holds.

    Args:
        condition: bool or boolean tensor of any shape (all its elements are meant). If its value is known
            when the graph is built, a failure is a ValueError now; otherwise it is an InvalidArgumentError of
            an assertion op when `then` is computed.
        message: str; it begins with the name of the loss or layer and says what to do.
        data: tensors that are printed after the message.
        then: a tensor, or a list or tuple of tensors, to be used in what follows.

    Returns:
        `then`, guarded by the assertion op where one is needed.

    Raises:
        ValueError: the condition is known to be false.
    """
    condition = tf.convert_to_tensor(condition)
    known = tf.get_static_value(condition)
    if known is not None:
        if known.all():
            return then
        values = [tf.get_static_value(tf.convert_to_tensor(d)) for d in data]
        raise ValueError(" ".join([message] + [str(v) for v in values if v is not None]))
    # TensorFlow prints a quote in such a message as a backslash and a quote.
    assertion = tf1.debugging.Assert(tf.reduce_all(condition), [message.replace("'", "`")] + list(data))
    with tf.control_dependencies([assertion] if assertion is not None else []):
        if isinstance(then, (list, tuple)):
            return type(then)(tf.identity(t) for t in then)
        return tf.identity(then)


def require_rank(x, rank, owner, name):
    """`x`, whose number of axes must be `rank`.

    Args:
        x: tensor.
        rank: int, or a tuple of the ints that are allowed.
        owner: str, the name of the loss or layer, for the message.
        name: str, what `x` is and which shape is wanted, for the message, such as "y_pred [batch, classes]".

    Returns:
        `x`; with a static rank, if only one is allowed.

    Raises:
        ValueError: the rank is known and is another one.
    """
    x = tf.convert_to_tensor(x)
    allowed = (rank,) if isinstance(rank, int) else tuple(rank)
    wanted = " or ".join(str(r) for r in allowed)
    if x.shape.rank is not None:
        if x.shape.rank not in allowed:
            raise ValueError(
                "%s: %s must have %s axes, but it has %d: shape %s" % (owner, name, wanted, x.shape.rank, x.shape)
            )
        return x
    x = require(
        tf.reduce_any(tf.equal(tf.rank(x), list(allowed))),
        "%s: %s must have %s axes, but its shape is" % (owner, name, wanted),
        [tf.shape(x)],
        then=x,
    )
    if len(allowed) == 1:
        x.set_shape([None] * allowed[0])
    return x


def require_same_shape(a, b, owner, names=("y_true", "y_pred")):
    """`(a, b)`, whose shapes must be equal; nothing is broadcast.

    Args:
        a: tensor.
        b: tensor.
        owner: str, the name of the loss or layer, for the message.
        names: two str, what `a` and `b` are, for the message.

    Returns:
        tuple `(a, b)`.

    Raises:
        ValueError: the shapes are known to differ.
    """
    a, b = tf.convert_to_tensor(a), tf.convert_to_tensor(b)
    message = "%s: %s and %s must have the same shape, but they have" % (owner, names[0], names[1])
    if not a.shape.is_compatible_with(b.shape):
        raise ValueError("%s %s and %s" % (message, a.shape, b.shape))
    if a.shape.is_fully_defined() and b.shape.is_fully_defined():
        return a, b
    shapes = tf.shape(a), tf.shape(b)
    if a.shape.rank is None or b.shape.rank is None:
        same = tf.cond(
            tf.equal(tf.rank(a), tf.rank(b)),
            lambda: tf.reduce_all(tf.equal(*shapes)),
            lambda: tf.constant(False),
        )
    else:
        same = tf.equal(*shapes)
    return require(same, message, shapes, then=(a, b))


def require_length(x, max_length, owner, axis=1):
    """`x`, whose axis must not be longer than `max_length`, the argument of a layer.

    Args:
        x: tensor.
        max_length: int.
        owner: str, the name of the layer, for the message.
        axis: int.

    Returns:
        `x`.

    Raises:
        ValueError: the length is known and larger.
    """
    length = K.int_shape(x)[axis]
    message = (
        "%s: a sequence must have at most max_length=%d tokens; build it with a larger max_length or cut it. "
        "Its length:"
    )
    return require(
        tf.shape(x)[axis] <= max_length if length is None else length <= max_length,
        message % (owner, max_length),
        [tf.shape(x)[axis] if length is None else length],
        then=x,
    )
