"""The gradient penalty on a model's outputs, which needs no labels: what noise on the embeddings does to the answer.

泛化性乱弹：从随机噪声、梯度惩罚到虚拟对抗训练, kexue.fm/archives/7466.
"""

import math

import tensorflow as tf

from kexue_keras.backend import widen
from kexue_keras.training._randomness import fold_in, uniform
from kexue_keras.training.adversarial._virtual_adversarial import by_output, output_masks, signal_of

DIVERGENCES = ("squared", "kl", "multilabel")


def rooted_outputs(model, divergence, from_logits):
    r"""Functions g of the outputs f, by $\nabla g_i=\sqrt{\lambda_i}\,\nabla f_i$.

    So $\sum_i\lambda_i\Vert\nabla f_i\Vert^2=\sum_i\Vert\nabla g_i\Vert^2$, averaged over the rows that no mask hides.

    Args:
        model: Keras model with symbolic outputs.
        divergence: "squared", lambda = 2; "kl", 1 / f (softmax); "multilabel", 1 / (f (1 - f)) (sigmoid); or a dict
            from output names to these, for some of the outputs.
        from_logits: whether the outputs are logits; None: as far as the last op tells.

    Returns:
        (list of tensors that signs may be put on, each with the function that makes g of it, a mask or None).
    """
    chosen = by_output(divergence, model, DIVERGENCES, "GradientPenalty")
    found = []
    for name, output, mask in zip(model.output_names, model.outputs, output_masks(model)):
        own = chosen.get(name)
        if own is not None:
            signal = output if own == "squared" else signal_of(output, own, from_logits, "GradientPenalty")[0]
            found.append((signal, _ROOTS[own], mask))
    return found


def signed_sum(values, mask, key):
    r"""$\frac1{\sqrt N}\sum_i s_i g_i$ with signs s_i = +-1 by chance.

    The square of its gradient is $\frac1N\sum_i\Vert\nabla g_i\Vert^2$ on average.

    Args:
        values: float tensor [rows, ...], the g.
        mask: tensor [rows, ...] (an axis less) or None; N counts the rows (and positions) that it shows.
        key: int64 tensor [2]; the signs depend on nothing else.

    Returns:
        scalar.
    """
    signs = tf.cast(2.0 * tf.floor(2.0 * uniform(tf.shape(values), key)) - 1.0, values.dtype)
    if mask is None or mask.shape.rank != values.shape.rank - 1:
        count = tf.cast(tf.size(values) / tf.shape(values)[-1], values.dtype)
    else:
        shown = tf.cast(mask, values.dtype)
        signs *= shown[..., None]
        count = tf.reduce_sum(shown)
    return tf.math.divide_no_nan(tf.reduce_sum(signs * values), tf.sqrt(count))


def signed_sums(found, signals, key, number):
    """One scalar for all outputs, with the signs of draw `number`."""
    keys = [fold_in(key, len(found) * number + i) for i in range(len(found))]
    sums = [signed_sum(root(widen(s)), m, k) for s, (_, root, m), k in zip(signals, found, keys)]
    widest = tf.float64 if any(s.dtype == tf.float64 for s in sums) else tf.float32
    return tf.add_n([tf.cast(s, widest) for s in sums])


def _gudermannian(z):
    """2 arctan(exp(z / 2)), whose slope is the root of sigmoid(z) (1 - sigmoid(z))."""
    above, zeros = z > 0, tf.zeros_like(z)
    over, under = tf.where(above, z, zeros), tf.where(above, zeros, z)
    return tf.where(above, math.pi - 2.0 * tf.atan(tf.exp(-0.5 * over)), 2.0 * tf.atan(tf.exp(0.5 * under)))


_ROOTS = {
    "squared": lambda f: math.sqrt(2.0) * f,
    # The slope of 2 sqrt(f) is 1 / sqrt(f); from the logits no probability is too small.
    "kl": lambda z: 2.0 * tf.exp(0.5 * tf.nn.log_softmax(z)),
    "multilabel": _gudermannian,
}
