"""Gradients as Keras hands them over, dense tensors or `tf.IndexedSlices`, and the few things optimizers do with them.

Everything here works on either stack and, apart from `dense`, keeps the gradient of an embedding sparse.
"""

import tensorflow as tf


def is_sparse(gradient):
    """True for the gradient of an embedding lookup (`tf.IndexedSlices`)."""
    return isinstance(gradient, tf.IndexedSlices)


def listed(params):
    """A list of the variables: Keras' `get_gradients` takes one variable, a list or a tuple."""
    return list(params) if isinstance(params, (list, tuple)) else [params]


def dense(gradient, param):
    """The gradient as a tensor of the shape of `param`; rows named twice are summed."""
    if not is_sparse(gradient):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, tf.shape(param)[0])


def unique(gradient):
    """The same sparse gradient with every row named once, as squares and norms need it."""
    rows, position = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)


def map_values(function, gradient):
    """Apply an elementwise function with f(0) = 0 to a dense or sparse gradient."""
    if not is_sparse(gradient):
        return function(gradient)
    return tf.IndexedSlices(function(gradient.values), gradient.indices, gradient.dense_shape)


def after_all(gradients):
    """Context in which every op waits until all gradients are there.

    An update that writes a parameter while a gradient still reads it (weight decay needs no gradient; recompute reads
    the weights a second time in the backward pass) would make that gradient wrong in some runs and not in others.
    """
    # One node in between: an edge from each op to each gradient would square the size of the graph.
    return tf.control_dependencies([tf.group(*[g.values if is_sparse(g) else g for g in gradients])])


def add_to(variable, gradient, scale=1.0):
    """Op: `variable += scale * gradient`, in place, a sparse gradient as a scatter-add.

    Args:
        variable: resource variable of the shape of the parameter.
        gradient: tensor or IndexedSlices.
        scale: float or scalar tensor.
    """
    plain = isinstance(scale, float) and scale == 1.0
    if is_sparse(gradient):
        values = gradient.values if plain else gradient.values * tf.cast(scale, gradient.values.dtype)
        return tf.raw_ops.ResourceScatterAdd(
            resource=variable.handle, indices=gradient.indices, updates=tf.cast(values, variable.dtype.base_dtype)
        )
    gradient = tf.cast(gradient, variable.dtype.base_dtype)
    if plain:
        return tf.raw_ops.AssignAddVariableOp(resource=variable.handle, value=gradient)
    # The kernel of plain gradient descent is the one public op that scales and adds without a temporary.
    return tf.raw_ops.ResourceApplyGradientDescent(
        var=variable.handle, alpha=-tf.cast(scale, gradient.dtype), delta=gradient, use_locking=True
    )


def all_finite(tensors):
    """Scalar bool: no NaN and no infinity in any of the tensors or variables."""
    return tf.reduce_all(tf.stack([tf.reduce_all(tf.math.is_finite(t)) for t in tensors]))


def global_norm(gradients):
    """Euclidean norm of all gradients together, float32."""
    squares = []
    for g in gradients:
        values = unique(g).values if is_sparse(g) else g
        squares.append(tf.reduce_sum(tf.square(tf.cast(values, tf.float32))))
    return tf.sqrt(tf.add_n(squares))


def clip_by_global_norm(gradients, limit):
    """Scale all gradients by one factor so that their common norm is at most `limit`."""
    factor = limit / tf.maximum(global_norm(gradients), limit)
    return [map_values(lambda x: x * tf.cast(factor, x.dtype), g) for g in gradients]


def clip_by_own_norm(gradients, limit):
    """Scale each gradient separately so that its norm is at most `limit`."""
    return [clip_by_global_norm([g], limit)[0] for g in gradients]


def clip_by_value(gradients, limit):
    """Cut every entry into [-limit, limit]; rows named twice are summed first."""
    summed = [unique(g) if is_sparse(g) else g for g in gradients]
    return [map_values(lambda x: tf.clip_by_value(x, -limit, limit), g) for g in summed]
