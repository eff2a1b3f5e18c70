"""The random generators that all share: Python's, numpy's and the seed of TensorFlow's graph."""

import contextlib
import random

import numpy as np

from kexue_keras.backend.stack import K, keras, tf1


def set_seed(seed):
    """Seed Python, numpy and TensorFlow's graph-level generator.

    Args:
        seed: int.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    tf1.set_random_seed(seed)


class TruncatedNormal(keras.initializers.Initializer):
    """Keras' initializer of this name, with a new seed from numpy at each call; it is saved as Keras' own.

    That of tf.keras 1.15 takes the number of operations that the graph has so far, so that a model would start with
    other weights in a notebook than in a process of its own.

    >>> set_seed(1)
    >>> K.eval(TruncatedNormal(stddev=.02)((2, 2))).shape
    (2, 2)
    """

    def __init__(self, mean=0.0, stddev=0.05, seed=None):
        self.mean, self.stddev, self.seed = mean, stddev, seed

    def __call__(self, shape, dtype=None, **kwargs):
        seed = np.random.randint(10**7) if self.seed is None else self.seed
        return K.truncated_normal(shape, self.mean, self.stddev, dtype=dtype, seed=seed)

    def get_config(self):
        return {"mean": self.mean, "stddev": self.stddev, "seed": self.seed}


@contextlib.contextmanager
def preserved_random_state():
    """Context, and decorator, after which the generators that all share are as they were.

    A function that trains seeds them for what has no generator of its own (Keras' initializers, TensorFlow's ops); a
    caller who draws random numbers must not get the same ones after each call.

    >>> np.random.seed(1)
    >>> with preserved_random_state():
    ...     set_seed(5)
    >>> np.random.randint(100)
    37
    """
    graph = tf1.get_default_graph()
    python, numpy, seed = random.getstate(), np.random.get_state(), graph.seed
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        graph.seed = seed
