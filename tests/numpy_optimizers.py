"""float64 numpy optimizers, written from the papers, and a small graph that hands an optimizer any gradients.

Each function is a factory: it takes hyper-parameters and returns step(params, gradients), which updates lists of
float64 arrays in place. They are independent of the package.
"""

import numpy as np
import tensorflow as tf

from kexue_keras.backend import K, is_tf_keras, tf1


def sgd(lr, momentum=0.0, nesterov=False):
    velocity = {}

    def step(params, gradients):
        for i, (p, g) in enumerate(zip(params, gradients)):
            velocity[i] = momentum * velocity.get(i, 0.0) - lr * g
            p += momentum * velocity[i] - lr * g if nesterov else velocity[i]

    return step


def rmsprop(lr, rho=0.9, epsilon=1e-7):
    mean = {}

    def step(params, gradients):
        for i, (p, g) in enumerate(zip(params, gradients)):
            mean[i] = rho * mean.get(i, 0.0) + (1 - rho) * g * g
            p -= lr * g / (np.sqrt(mean[i]) + epsilon)

    return step


def adagrad(lr, epsilon=1e-7):
    total = {}

    def step(params, gradients):
        for i, (p, g) in enumerate(zip(params, gradients)):
            # tf.keras begins at 0.1, Keras 2.3.1 at 0
            total[i] = total.get(i, 0.1 if is_tf_keras else 0.0) + g * g
            p -= lr * g / (np.sqrt(total[i]) + epsilon)

    return step


def adam(lr, beta_1=0.9, beta_2=0.999, epsilon=1e-6, weight_decay=(), lamb=False, hat=False, square_of_mean=True):
    """`weight_decay`: one number per parameter; `hat`: Keras' place of epsilon, outside the bias correction."""
    m, v, t = {}, {}, [0]

    def step(params, gradients):
        t[0] += 1
        first, second = 1 - beta_1 ** t[0], 1 - beta_2 ** t[0]
        for i, (p, g) in enumerate(zip(params, gradients)):
            m[i] = beta_1 * m.get(i, 0.0) + (1 - beta_1) * g
            v[i] = beta_2 * v.get(i, 0.0) + (1 - beta_2) * g * g
            e = epsilon / np.sqrt(second) if hat else epsilon
            r = m[i] / first / (np.sqrt(v[i] / second) + e)
            r = r + (weight_decay[i] if len(weight_decay) else 0.0) * p
            ratio = np.linalg.norm(p) / np.linalg.norm(r) if lamb else 1.0
            p -= lr * ratio * r

    return step


def adafactor(lr, epsilon1=1e-30, epsilon2=1e-3, threshold=1.0):
    """AdaFactor without momentum on unfactored shapes, as bert4keras runs it with small matrices."""
    v, t = {}, [0]

    def rms(x):
        return np.sqrt(np.mean(x * x))

    def step(params, gradients):
        t[0] += 1
        beta = 1.0 - t[0] ** -0.8
        for i, (p, g) in enumerate(zip(params, gradients)):
            v[i] = beta * v.get(i, 0.0) + (1 - beta) * (g * g + epsilon1)
            u = g / np.sqrt(v[i] + epsilon1)
            u = u / max(1.0, rms(u) / threshold)
            p -= lr * u * max(rms(p), epsilon2)

    return step


def clip_by_stack_norm(gradients, limit):
    """`clipnorm` as the stack means it."""
    if is_tf_keras:
        return [g * limit / max(np.linalg.norm(g), limit) for g in gradients]
    norm = np.sqrt(sum(np.sum(g * g) for g in gradients))
    return [g * limit / max(norm, limit) for g in gradients]


class Toy:
    """A matrix, a bias and an embedding table whose gradients are fed; the table's comes as IndexedSlices.

    loss = sum(kernel * A) + sum(bias * b) + sum(table[ids] * C), so the gradients are A, b and C summed by row.

    Args:
        optimizer: instance under test.
        rng: draws the initial weights.
    """

    names = ("kernel", "bias", "table")

    def __init__(self, optimizer, rng, constraint=None):
        self.optimizer = optimizer
        self.initial = [rng.randn(3, 2), rng.randn(2), rng.randn(6, 2)]
        self.params = [
            K.variable(w, name=n, constraint=constraint if n == "kernel" else None)
            for w, n in zip(self.initial, self.names)
        ]
        self.feeds = [tf1.placeholder("float32", s) for s in ((3, 2), (2,), (None, 2))]
        self.ids = tf1.placeholder("int32", (None,))
        kernel, bias, table = self.params
        rows = K.gather(table, self.ids)
        self.loss = sum(tf.reduce_sum(x * y) for x, y in zip((kernel, bias, rows), self.feeds))
        self.op = tf.group(*optimizer.get_updates(loss=self.loss, params=self.params))
        K.batch_get_value(self.params)
        self.session = tf1.keras.backend.get_session()

    def batch(self, rng, scale=1.0):
        """Random micro batch: (A, b, C, ids), ids with repetitions."""
        return (
            scale * rng.randn(3, 2),
            scale * rng.randn(2),
            scale * rng.randn(5, 2),
            np.concatenate([rng.randint(0, 6, 3), [1, 1]]),
        )

    @staticmethod
    def gradients(batch):
        """Dense float64 gradients of a micro batch."""
        table = np.zeros((6, 2))
        np.add.at(table, batch[3], np.float32(batch[2]).astype("float64"))
        return [np.float32(batch[0]).astype("float64"), np.float32(batch[1]).astype("float64"), table]

    def train(self, batch, extra=None):
        feed = dict(zip(self.feeds, batch[:3]))
        feed[self.ids] = batch[3]
        feed.update(extra or {})
        self.session.run(self.op, feed)

    def values(self):
        return self.session.run(self.params)

    def start(self):
        """The initial weights as float64 arrays of their float32 values."""
        return [np.float32(w).astype("float64") for w in self.initial]


def difference(a, b):
    """Largest absolute difference of two lists of arrays."""
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in zip(a, b))
