"""What the ranks tell each other within a graph, with gradients.

The ranks together minimise L = (1/R) sum_r L_r, of which each takes the gradient of its own L_r and `Distributed` the
mean. Where L_r looks at tensors of other ranks, the part that belongs to those has to go back to them: the gradient of
gathering is a sum over the ranks, of which each takes its own rows. Then the mean is the gradient of L, whatever the
L_r.
"""

from typing import Tuple

import tensorflow as tf

from kexue_keras.distributed._ranks import check_begun, engine
from kexue_keras.types import Tensor, TensorLike


def all_reduce(x: TensorLike, *, average: bool = False, name: str = "kexue_all_reduce") -> Tensor:
    """Sum, or mean, of a tensor of one shape over all ranks; differentiable, again and again.

    Args:
        x: float or int tensor.
        average: bool.
        name: of the op; the same on all ranks, as by it they know what belongs together.

    Returns:
        tensor like `x`, the same on all ranks.

    >>> K.eval(kexue_keras.distributed.all_reduce(K.constant([1., 2.])))
    array([1., 2.], dtype=float32)
    """
    check_begun("all_reduce")
    x = tf.convert_to_tensor(x)
    if engine().size == 1:
        return tf.identity(x)

    @tf.custom_gradient
    def reduced(x):
        total = engine().sum(x, name)
        total.set_shape(x.shape)
        return total, lambda dy: all_reduce(dy, name=name + "_gradient")

    total = reduced(x)
    return total / tf.cast(engine().size, total.dtype) if average else total


def all_gather(x: TensorLike, *, name: str = "kexue_all_gather") -> Tensor:
    """The rows of all ranks, in the order of the ranks; differentiable.

    Args:
        x: tensor [rows, ...]; ranks may have different numbers of rows.
        name: of the op, the same on all ranks.

    Returns:
        tensor [sum of rows, ...], the same on all ranks. Its gradient on a rank is that of the losses of all ranks
        together, so that the mean of the ranks' gradients is that of the mean of their losses.

    >>> K.eval(kexue_keras.distributed.all_gather(K.constant([[1.], [2.]]))).shape
    (2, 1)
    """
    return gathered(x, name=name)[0]


def gathered(x: TensorLike, *, name: str = "kexue_all_gather") -> Tuple[Tensor, Tensor]:
    """(What `all_gather` gives, number of the row in it with which those of this rank begin)."""
    check_begun("all_gather")
    x = tf.convert_to_tensor(x)
    if engine().size == 1:
        return tf.identity(x), tf.constant(0)
    rows = tf.shape(x)[0]
    counts = engine().gather(rows[None], name + "_rows")
    counts.set_shape([engine().size])
    first = tf.reduce_sum(counts[: engine().rank])

    @tf.custom_gradient
    def joined(x):
        together = engine().gather(x, name)
        together.set_shape([None] + x.shape.as_list()[1:])

        def gradient(dy):
            return all_reduce(dy, name=name + "_gradient")[first : first + rows]

        return together, gradient

    return joined(x), first


def share_of(rows: TensorLike) -> Tensor:
    """What the loss of this rank counts in the mean over the ranks: its rows over the mean number of rows of a rank.

    Where batches are of different sizes (a short last batch), the loss of the batch as a whole is the mean of
    share * loss over the ranks; that of equal batches is 1. For `optimizers.Distributed(..., share=...)`.

    Args:
        rows: number, or scalar tensor: `tf.shape(model.inputs[0])[0]`.

    Returns:
        float32 scalar.

    >>> float(K.eval(kexue_keras.distributed.share_of(16)))
    1.0
    """
    rows = tf.cast(rows, tf.float32)
    if engine().size == 1:
        return tf.ones_like(rows)
    # TensorFlow makes one of equal ops, so that none may wait for what waits for another.
    with tf.control_dependencies(None):
        total = all_reduce(tf.stop_gradient(rows), name="kexue_rows")
    return tf.math.divide_no_nan(rows * float(engine().size), total)


def averaged(gradient: TensorLike, *, name: str = "kexue_gradient") -> Tensor:
    """Mean over the ranks of a gradient, dense or `tf.IndexedSlices`, whose rows are gathered.

    Args:
        gradient: tensor or IndexedSlices.
        name: of the op, the same on all ranks.

    Returns:
        the same kind. Rows that several ranks name stand there several times, as a gradient's rows may.
    """
    if engine().size == 1:
        return gradient
    if not isinstance(gradient, tf.IndexedSlices):
        return all_reduce(gradient, average=True, name=name)
    values = gradient.values / tf.cast(engine().size, gradient.values.dtype)
    return tf.IndexedSlices(
        all_gather(values, name=name + "_values"),
        all_gather(gradient.indices, name=name + "_indices"),
        gradient.dense_shape,
    )


def all_agree(good: Tensor, *, name: str = "kexue_agree") -> Tensor:
    """Scalar bool: whether a scalar bool is true on all ranks."""
    if engine().size == 1:
        return good
    bad = all_reduce(tf.cast(tf.logical_not(good), tf.int32), name=name)
    return tf.equal(bad, 0)
