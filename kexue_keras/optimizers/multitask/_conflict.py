r"""How much of each task's gradient goes into the step, found from the Gram matrix of the gradients alone.

Articles: 多任务学习漫谈（二）：行梯度之事 (kexue.fm/archives/8896), 多任务学习漫谈（三）：分主次之序
(kexue.fm/archives/8907). Papers: MGDA (arXiv 1810.04650), PCGrad (arXiv 2001.06782).

Every method gives u = sum_i w_i g_i with w a function of K_ij = <g_i, g_j>, so that nothing of the size of the
parameters is touched before w is known. MGDA and the rule for main and auxiliary tasks are one problem:

    min_w w' K w,  w >= 0,  sum of w over the main tasks = 1

(all tasks main: MGDA; one main task: its w is 1 and the others are the multipliers of <u, g_i> >= 0). Divided by the
sum over the main tasks, the solution of the non-negative least squares problem min w' K w + (sum_main w - 1)^2 solves
it, which is a plain NNLS. The coordinate rule printed in 8907 is not used: it never takes back a multiplier that has
become superfluous, and stalls away from the optimum in about a sixth of random problems.
"""

import itertools

import numpy as np
import tensorflow as tf

# Up to here all supports are tried in one batch of small linear systems: exact, also for dependent gradients.
ENUMERATED = 8
# Relative to a unit diagonal; keeps the solver from raising on singular supports, whose answer is never the best.
_RIDGE = 1e-13


def normalised_weights(gram):
    """w_i = 1 / |g_i|, 0 for g_i = 0.

    Args:
        gram: float64 [..., n, n].

    Returns:
        float64 [..., n].
    """
    squares = tf.linalg.diag_part(gram)
    return tf.math.divide_no_nan(tf.ones_like(squares), tf.sqrt(tf.maximum(squares, 0.0)))


def pcgrad_weights(gram, order):
    """Weights of the sum of all g_i after projection: g_i -= <g_i, g_j> / |g_j|^2 g_j where the product is negative.

    Args:
        gram: float64 [..., n, n].
        order: int [n, n]; row i is a permutation of the tasks, in which g_i meets the original g_j.

    Returns:
        float64 [..., n].
    """
    n = int(gram.shape[-1])
    squares = tf.linalg.diag_part(gram)
    rows = tf.eye(n, dtype=gram.dtype) + tf.zeros_like(gram)
    for k in range(n):
        met = tf.one_hot(order[:, k], n, dtype=gram.dtype)
        others = met * (1.0 - tf.eye(n, dtype=gram.dtype))
        product = tf.reduce_sum(tf.matmul(rows, gram) * others, axis=-1)
        square = tf.reduce_sum(squares[..., None, :] * others, axis=-1)
        rows += others * tf.math.divide_no_nan(tf.nn.relu(-product), square)[..., None]
    return tf.reduce_sum(rows, axis=-2)


def min_norm_weights(gram, main):
    """argmin_w w' K w with w >= 0 and w summing to 1 over the main tasks.

    Tasks with g_i = 0 (no labels in this batch) are left out; if no main task has a gradient, the result is 0 / 1.

    Args:
        gram: float64 [..., n, n], n known.
        main: list of indices of the main tasks.

    Returns:
        float64 [..., n].
    """
    n = int(gram.shape[-1])
    # NaN gradients stay NaN under any weights; the solver must not see them.
    good = tf.reduce_all(tf.math.is_finite(gram), axis=[-2, -1], keepdims=True)
    gram = tf.where(tf.broadcast_to(good, tf.shape(gram)), gram, tf.eye(n, dtype=gram.dtype) + tf.zeros_like(gram))
    is_main = np.zeros(n)
    is_main[list(main)] = 1.0
    norms = tf.sqrt(tf.maximum(tf.linalg.diag_part(gram), 0.0))
    present = tf.cast(norms > 0, gram.dtype)
    # Tasks may differ in norm by many orders; unit gradients keep the systems well conditioned.
    unit = tf.where(norms > 0, 1.0 / tf.where(norms > 0, norms, tf.ones_like(norms)), tf.ones_like(norms))
    matrix = gram * unit[..., :, None] * unit[..., None, :]
    target = present * is_main * unit
    target = tf.math.divide_no_nan(target, tf.reduce_max(target, axis=-1, keepdims=True))
    if n <= ENUMERATED:
        return _best_support(gram, matrix, target, unit, present * is_main, is_main)
    return _active_set(matrix, target, unit, present * is_main, is_main)


def _solve(matrix, target, mask):
    """Least squares on the coordinates of `mask`, 0 elsewhere."""
    a = (matrix + target[..., :, None] * target[..., None, :]) * mask[..., :, None] * mask[..., None, :]
    a = a + tf.linalg.diag(1.0 - mask + _RIDGE)
    return tf.linalg.solve(a, (target * mask)[..., None])[..., 0]


def _on_simplex(solution, unit, counted, is_main):
    """Back from unit gradients; cut below 0 and scaled to sum 1, so that it is feasible whatever the rounding."""
    w = tf.nn.relu(tf.where(tf.math.is_finite(solution), solution, tf.zeros_like(solution))) * unit
    total = tf.reduce_sum(w * counted, axis=-1, keepdims=True)
    some = tf.broadcast_to(total > 0, tf.shape(w))
    return tf.where(some, tf.math.divide_no_nan(w, total), is_main + tf.zeros_like(w)), total[..., 0] > 0


def _best_support(gram, matrix, target, unit, counted, is_main):
    n = len(is_main)
    supports = [s for s in itertools.product((0.0, 1.0), repeat=n) if np.dot(s, is_main) > 0]
    masks = tf.constant(supports, gram.dtype)
    # Some smallest support solves the problem and its system is regular; every candidate is feasible, so the one
    # of least norm is the answer however badly the singular ones came out.
    masks = masks + tf.zeros_like(target)[..., None, :]
    solution = _solve(matrix[..., None, :, :], target[..., None, :] + tf.zeros_like(masks), masks)
    w, valid = _on_simplex(solution, unit[..., None, :], counted[..., None, :], is_main)
    norm = tf.reduce_sum(tf.matmul(w, gram) * w, axis=-1)
    norm = tf.where(valid, norm, tf.fill(tf.shape(norm), tf.constant(np.inf, norm.dtype)))
    best = tf.one_hot(tf.argmin(norm, axis=-1), len(supports), dtype=gram.dtype)
    w = tf.reduce_sum(best[..., None] * w, axis=-2)
    absent = tf.reduce_all(tf.logical_not(valid), axis=-1, keepdims=True)
    return tf.where(tf.broadcast_to(absent, tf.shape(w)), is_main + tf.zeros_like(w), w)


def _active_set(matrix, target, unit, counted, is_main):
    """Lawson and Hanson's NNLS, one problem after the other."""
    n = len(is_main)
    problems = tf.reshape(matrix, [-1, n, n]), tf.reshape(target, [-1, n])
    solution = tf.map_fn(lambda problem: _lawson_hanson(*problem), problems, dtype=target.dtype, parallel_iterations=1)
    return _on_simplex(tf.reshape(solution, tf.shape(target)), unit, counted, is_main)[0]


def _lawson_hanson(matrix, target):
    n = int(matrix.shape[-1])
    zeros, ones = tf.zeros([n], matrix.dtype), tf.ones([n], matrix.dtype)

    def shrink(v, mask, z):
        step = tf.where(
            (mask > 0) & (z <= 0), v / tf.where(v > z, v - z, ones), tf.fill([n], tf.constant(2.0, v.dtype))
        )
        v = v + tf.reduce_min(step) * (z - v)
        mask = mask * (1.0 - tf.one_hot(tf.argmin(step), n, dtype=v.dtype)) * tf.cast(v > 0, v.dtype)
        return v * mask, mask, tf.constant(False)

    def grow(mask, z):
        slope = target - tf.linalg.matvec(matrix, z) - target * tf.reduce_sum(target * z)
        slope = tf.where(mask > 0, -ones, slope)
        done = tf.reduce_max(slope) <= 1e-12
        enter = tf.one_hot(tf.argmax(slope), n, dtype=z.dtype)
        return z, tf.where(done, mask, mask + enter), done

    def body(v, mask, done, count):
        z = _solve(matrix, target, mask) * mask
        bad = tf.reduce_any((mask > 0) & (z <= 0))
        v, mask, done = tf.cond(bad, lambda: shrink(v, mask, z), lambda: grow(mask, z))
        return v, mask, done, count + 1

    # Rounding can make a pair of dependent gradients enter and leave for ever, hence the limit.
    state = (zeros, zeros, tf.constant(False), tf.constant(0))
    return tf.while_loop(lambda v, m, done, i: tf.logical_not(done) & (i < 10 * n), body, state)[0]
