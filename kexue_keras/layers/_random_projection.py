"""Random projections that keep distances (Johnson-Lindenstrauss), and SimHash codes that keep angles.

Reference: "让人惊叹的Johnson-Lindenstrauss引理：理论篇", kexue.fm/archives/8679, and its sequel on applications,
kexue.fm/archives/8706; Achlioptas 2003 for the "sign" and "sparse" distributions.
"""

import math
from typing import Any, Optional, Union

import numpy as np
import tensorflow as tf
from bert4keras.layers import Layer

from kexue_keras import checks
from kexue_keras.backend import register, widen
from kexue_keras.types import Array, ArrayLike, Config, Shape, Tensor

DISTRIBUTIONS = ("gaussian", "sign", "sparse")


def projection_matrix(rows: int, columns: int, distribution: str = "gaussian", seed: int = 0) -> Array:
    """A random [rows, columns] matrix A with E |v A|^2 = |v|^2; numpy, the same for the same seed everywhere.

    Args:
        rows: int, the dimension that is projected.
        columns: int, the dimension that it is projected to.
        distribution: "gaussian" N(0, 1/columns); "sign" +-1/sqrt(columns); "sparse" +-sqrt(3/columns) with probability
            1/6 each, else 0.
        seed: int.

    Returns:
        float32 array.

    Raises:
        ValueError: unknown distribution.

    >>> kexue_keras.layers.projection_matrix(4, 3, "sign", seed=1).shape
    (4, 3)
    """
    checks.choice(distribution, DISTRIBUTIONS, "distribution", "projection_matrix")
    rng = np.random.RandomState(seed)
    if distribution == "gaussian":
        matrix = rng.standard_normal((rows, columns))
    elif distribution == "sign":
        matrix = rng.randint(0, 2, (rows, columns)) * 2.0 - 1
    else:
        matrix = math.sqrt(3) * rng.choice([-1.0, 0.0, 1.0], (rows, columns), p=[1 / 6, 2 / 3, 1 / 6])
    return (matrix / math.sqrt(columns)).astype("float32")


@register
class RandomProjection(Layer):
    """x A with a fixed random matrix A: squared lengths and distances are kept within 1 +- eps.

    For N vectors 24 log(N) / eps^2 dimensions are enough with probability (N - 1) / N. The matrix is a weight that is
    not trained: it is saved with the model and not drawn again on loading.

    Args:
        units: int, the dimension to project to.
        distribution: "gaussian", "sign" or "sparse", see `projection_matrix`.
        seed: int, or None for one drawn now; either way `get_config` has it, and it decides the matrix.

    Call arguments:
        float tensor [..., m] with known m. Half precision is multiplied in float32.

    Returns:
        tensor [..., units]; the mask is passed on.

    Raises:
        ValueError: units not a whole number > 0, unknown distribution, unknown last axis.

    Reference: kexue.fm/archives/8679, 8706.

    >>> layer = kexue_keras.layers.RandomProjection(256, seed=3)
    >>> x = np.random.RandomState(0).randn(1, 1000)
    >>> bool(0.7 < np.sum(K.eval(layer(K.constant(x))) ** 2) / np.sum(x**2) < 1.3)
    True
    """

    def __init__(
        self, units: int, *, distribution: str = "gaussian", seed: Optional[int] = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.units = checks.whole_number(units, "units", type(self).__name__, least=1)
        self.distribution = checks.choice(distribution, DISTRIBUTIONS, "distribution", type(self).__name__)
        self.seed = (
            int(np.random.randint(2**31 - 1))
            if seed is None
            else checks.whole_number(seed, "seed", type(self).__name__, least=0)
        )

    def build(self, input_shape: Shape) -> None:
        size = tf.compat.dimension_value(tf.TensorShape(input_shape)[-1])
        if size is None:
            raise ValueError("%s: the last axis must be known, but the shape is %s" % (self.name, input_shape))
        matrix = projection_matrix(size, self.units, self.distribution, self.seed)
        self.matrix = self.add_weight(
            name="matrix",
            shape=matrix.shape,
            initializer=lambda shape, dtype=None, **kwargs: tf.constant(matrix, dtype or "float32"),
            trainable=False,
        )
        super().build(input_shape)

    def project(self, inputs: Tensor) -> Tensor:
        """x A, in float32 at least."""
        wide = widen(inputs)
        return tf.tensordot(wide, tf.cast(self.matrix, wide.dtype), [[-1], [0]])

    def call(self, inputs: Tensor) -> Tensor:
        return tf.cast(self.project(inputs), inputs.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)[:-1] + (self.units,)

    def get_config(self) -> Config:
        return dict(super().get_config(), units=self.units, distribution=self.distribution, seed=self.seed)


@register
class SimHash(RandomProjection):
    """Codes of +-1: the signs of a random projection. Two codes give the angle between their vectors.

    Two bits agree with probability 1 - theta / pi, so theta = pi (1 - s) / 2 with s the mean of the products of the
    bits. The article takes s itself as the cosine; at theta = pi/3 that gives 1/3 instead of 1/2.

    Args:
        bits: int; the error of theta is about pi sqrt(p (1 - p) / bits), p = theta / pi. May exceed the dimension.
        distribution, seed: as in `RandomProjection`.

    Call arguments:
        float tensor [..., m] with known m.

    Returns:
        tensor [..., bits] of +1 and -1 (0 counts as positive); no gradient flows through it.

    Raises:
        ValueError: as in `RandomProjection`.

    Reference: kexue.fm/archives/8706; Charikar 2002.

    >>> codes = K.eval(kexue_keras.layers.SimHash(4096, seed=1)(K.constant([[1.0, 0.0], [0.5, 0.75**0.5]])))
    >>> bool(abs(kexue_keras.layers.SimHash.cosine(codes[0], codes[1]) - 0.5) < 0.05)
    True
    """

    def __init__(self, bits: int, *, distribution: str = "gaussian", seed: Optional[int] = None, **kwargs: Any) -> None:
        super().__init__(bits, distribution=distribution, seed=seed, **kwargs)

    def call(self, inputs: Tensor) -> Tensor:
        positive = self.project(inputs) >= 0
        return tf.cast(
            tf.where(positive, tf.ones_like(positive, "float32"), -tf.ones_like(positive, "float32")), inputs.dtype
        )

    @staticmethod
    def cosine(a: Union[Tensor, ArrayLike], b: Union[Tensor, ArrayLike]) -> Union[Tensor, Array]:
        """The cosine of the angle between the vectors behind two codes.

        Args:
            a, b: codes [..., bits], both arrays or both tensors; they broadcast.

        Returns:
            array or tensor [...]: cos(pi (1 - s) / 2), s the mean of a b.
        """
        if tf.is_tensor(a) or tf.is_tensor(b):
            agreement = tf.reduce_mean(widen(a) * widen(b), axis=-1)
            return tf.cos(math.pi / 2 * (1 - agreement))
        return np.cos(np.pi / 2 * (1 - np.mean(np.asarray(a, "float64") * np.asarray(b), axis=-1)))

    def get_config(self) -> Config:
        config = super().get_config()
        config["bits"] = config.pop("units")
        return config
