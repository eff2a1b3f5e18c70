"""Integer labels as losses need them: int32, in range, of a known shape. None of this is public.

Keras feeds targets as floats of the output's dtype, so labels come here as floats more often than as integers.
"""

import numpy as np
import tensorflow as tf

from kexue_keras.checks import require

# Integers above these are not exact in the dtype; Keras feeds targets in the dtype of the output.
_EXACT = {tf.float16: 2048, tf.bfloat16: 256}


def class_count(y_pred):
    """Number of classes: the last axis of `y_pred` as an int, or as a scalar tensor where it is not known."""
    static = tf.TensorShape(y_pred.shape).as_list()[-1]
    return tf.shape(y_pred)[-1] if static is None else static


def as_classes(y_true, classes, loss):
    """`y_true` as int32, checked.

    Args:
        y_true: tensor of any shape with whole numbers in [0, classes), of an integer or a float dtype.
        classes: int or scalar tensor.
        loss: str, the name of the loss, for the message.

    Returns:
        int32 tensor of the same shape.

    Raises:
        ValueError: a label known when the graph is built is out of range or not whole, or the dtype cannot hold
            all class numbers. Labels that are fed are checked by an assertion op.
    """
    y_true = tf.convert_to_tensor(y_true)
    exact = _EXACT.get(y_true.dtype)
    if exact and isinstance(classes, int) and classes > exact + 1:
        raise ValueError(
            "%s: labels of dtype %s cannot tell %d classes apart (whole numbers are exact up to %d); "
            "let the model's output be float32, since Keras feeds the labels in its dtype"
            % (loss, y_true.dtype.name, classes, exact)
        )
    labels = tf.cast(y_true, tf.int32)
    message = "%s: labels must be whole numbers in [0, classes). classes and labels:" % loss
    known = tf.get_static_value(y_true)
    if known is not None and isinstance(classes, int):
        good = bool(np.all((known >= 0) & (known < classes) & (known == np.floor(known))))
        return require(good, message, [classes, y_true], then=labels)
    good = tf.logical_and(labels >= 0, labels < classes)
    if y_true.dtype.is_floating:
        good = tf.logical_and(good, tf.equal(tf.cast(labels, y_true.dtype), y_true))
    return require(good, message, [classes, y_true], then=labels)


def one_class_each(y_true, y_pred, loss):
    """Labels of single-label classification, shape `y_pred.shape[:-1]`.

    Args:
        y_true: [...] or, as Keras feeds it, [..., 1]; whole numbers.
        y_pred: [..., classes].
        loss: str, the name of the loss, for the message.

    Returns:
        int32 tensor [...].

    Raises:
        ValueError: the shape does not fit, or see `as_classes`.
    """
    y_true, y_pred = tf.convert_to_tensor(y_true), tf.convert_to_tensor(y_pred)
    wanted = (
        "%s: sparse labels must have the shape of y_pred without its last axis, or with 1 there "
        "(for one-hot labels pass sparse=False). Shapes of y_true and y_pred:" % loss
    )
    if y_true.shape.rank is not None and y_true.shape.rank == y_pred.shape.rank:
        one = tf.TensorShape(y_true.shape).as_list()[-1]
        good = tf.equal(tf.shape(y_true)[-1], 1) if one is None else one == 1
        y_true = require(good, wanted, [tf.shape(y_true), tf.shape(y_pred)], then=y_true)
        y_true = tf.squeeze(y_true, -1)
    if not y_true.shape.is_compatible_with(y_pred.shape[:-1]):
        raise ValueError("%s %s and %s" % (wanted, y_true.shape, y_pred.shape))
    return as_classes(y_true, class_count(y_pred), loss)


def multi_hot(labels, classes, dtype):
    """[..., P] class numbers (already checked) as [..., classes] with ones; repeated ones count once."""
    shape = tf.shape(labels)
    rows = tf.reshape(labels, [-1, shape[-1]])
    hot = tf.tensor_scatter_nd_update(
        tf.zeros(tf.stack([tf.shape(rows)[0], classes]), dtype),
        row_and_column(rows),
        tf.ones(tf.shape(rows), dtype),
    )
    return tf.reshape(hot, tf.concat([shape[:-1], [classes]], 0))


def row_and_column(labels):
    """[B, P] class numbers as [B, P, 2] pairs (row, class) for gather_nd and the scatter ops."""
    rows = tf.broadcast_to(tf.range(tf.shape(labels)[0])[:, None], tf.shape(labels))
    return tf.stack([rows, labels], -1)
