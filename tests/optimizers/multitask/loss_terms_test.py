"""The terms of a loss, taken apart again in the graph."""

import tensorflow as tf

from kexue_keras.backend import tf1
from kexue_keras.optimizers.multitask._loss_terms import loss_terms


def test_the_sum_is_taken_apart_as_far_as_it_is_a_sum():
    a, b, c = (tf1.placeholder("float32", ()) for _ in range(3))
    product, ratio = 2.0 * a, a / b
    whole = tf.reduce_mean(tf.add_n([product, tf.identity(ratio + c), 0.0 + b]))
    assert [t.op.name for t in loss_terms(whole)] == [t.op.name for t in (product, ratio, c, b)]
    both = ratio + c
    assert loss_terms(product + both, [both])[1] is both
