"""PerturbMax: the distribution of the argmax of noisy scores, as a replacement of softmax.

Reference: "从重参数的角度看离散概率分布的构建", kexue.fm/archives/9085.
"""

from typing import Any, Optional

import numpy as np
import tensorflow as tf
from bert4keras.layers import Layer

from kexue_keras import checks
from kexue_keras.backend import register, widen
from kexue_keras.layers._noise import NOISES, draw
from kexue_keras.types import Array, ArrayLike, Config, Shape, Tensor, TensorLike

NODES = ("midpoint", "article")


def _check(noise, num_nodes, nodes, scale, name):
    checks.choice(noise, NOISES, "noise", name)
    checks.whole_number(num_nodes, "num_nodes", name, least=1)
    checks.choice(nodes, NODES, "nodes", name)
    checks.number(scale, "scale", name, above=0)


def _quantiles(noise, num_nodes, nodes):
    k = np.arange(1, num_nodes + 1)
    return NOISES[noise].quantile((k - 0.5) / num_nodes if nodes == "midpoint" else k / (num_nodes + 1.0))


def perturb_max_np(
    mu: ArrayLike,
    noise: str = "normal",
    *,
    num_nodes: int = 100,
    nodes: str = "midpoint",
    scale: float = 1.0,
    renormalize: bool = True,
) -> Array:
    """`PerturbMax` in numpy, float64.

    Args:
        mu: array [..., n] of scores; -inf removes a class.
        noise, num_nodes, nodes, scale, renormalize: as in `PerturbMax`.

    Returns:
        float64 array [..., n]; zeros where all classes are removed.

    Raises:
        ValueError: as in `PerturbMax`.

    Reference: kexue.fm/archives/9085.

    >>> kexue_keras.layers.perturb_max_np([1.0, 0.0, -0.5, 0.3]).round(4).tolist()
    [0.5525, 0.1499, 0.0665, 0.2311]
    """
    _check(noise, num_nodes, nodes, scale, "perturb_max_np")
    mu = np.asarray(mu, "float64") / scale
    there = mu > -np.inf
    finite = np.where(there, mu, 0)
    total = np.zeros_like(finite)
    others = ~np.eye(mu.shape[-1], dtype=bool) & there[..., None, :]
    gaps = finite[..., :, None] - finite[..., None, :]
    for quantile in _quantiles(noise, num_nodes, nodes):
        total += np.prod(np.where(others, NOISES[noise].cdf(gaps + quantile), 1.0), axis=-1)
    p = np.where(there, total / num_nodes, 0)
    if renormalize:
        sums = p.sum(-1, keepdims=True)
        p = p / np.where(sums > 0, sums, 1)
    return p


@register
def perturb_max(
    mu: TensorLike,
    noise: str = "normal",
    *,
    num_nodes: int = 100,
    nodes: str = "midpoint",
    scale: float = 1.0,
    renormalize: bool = True,
    chunk_size: int = 20,
) -> Tensor:
    """p_i = P[argmax(mu + scale eps) = i], eps independent: `PerturbMax` as a function of a tensor.

    Args:
        mu: float tensor [..., n].
        noise, num_nodes, nodes, scale, renormalize, chunk_size: as in `PerturbMax`.

    Returns:
        tensor [..., n] of the dtype of `mu`.

    Raises:
        ValueError: as in `PerturbMax`.

    Reference: kexue.fm/archives/9085.

    >>> p = kexue_keras.layers.perturb_max(K.constant([[1.0, 0.0, -0.5, 0.3]]), "gumbel", num_nodes=400)
    >>> [round(float(v), 3) for v in K.eval(p)[0]]  # softmax
    [0.479, 0.176, 0.107, 0.238]
    """
    _check(noise, num_nodes, nodes, scale, "perturb_max")
    checks.whole_number(chunk_size, "chunk_size", "perturb_max", least=1)
    mu = tf.convert_to_tensor(mu)
    if mu.shape.rank == 0:
        raise ValueError("perturb_max: mu must have an axis of classes, [..., n], but it is a scalar")
    wide = widen(mu)
    there = wide > float("-inf")
    finite = tf.where(there, wide, tf.zeros_like(wide)) / scale
    gaps = tf.expand_dims(finite, -1) - tf.expand_dims(finite, -2)
    # 1 for each other class that is there; a factor of 1 is a logarithm of 0.
    others = tf.cast(tf.expand_dims(there, -2), wide.dtype) * (1 - tf.eye(tf.shape(mu)[-1], dtype=wide.dtype))
    total = 0.0
    quantiles = _quantiles(noise, num_nodes, nodes)
    for start in range(0, num_nodes, chunk_size):
        nodes_now = tf.constant(quantiles[start : start + chunk_size], wide.dtype)
        logs = NOISES[noise].log_cdf(tf.expand_dims(gaps, -1) + nodes_now)
        total += tf.reduce_sum(tf.exp(tf.reduce_sum(logs * tf.expand_dims(others, -1), axis=-2)), axis=-1)
    p = tf.cast(there, wide.dtype) * total / num_nodes
    if renormalize:
        p = tf.math.divide_no_nan(p, tf.reduce_sum(p, axis=-1, keepdims=True))
    return tf.cast(p, mu.dtype)


def sample_perturb_max(
    mu: TensorLike, noise: str = "normal", *, scale: float = 1.0, seed: Optional[int] = None
) -> Tensor:
    """A sample of the distribution that `PerturbMax` computes: argmax(mu + scale eps).

    Args:
        mu: float tensor [..., n]; -inf removes a class.
        noise: str, as in `PerturbMax`.
        scale: number > 0.
        seed: int or None.

    Returns:
        int64 tensor [...].

    Raises:
        ValueError: unknown noise, scale not > 0.

    Reference: kexue.fm/archives/9085.

    >>> int(K.eval(kexue_keras.layers.sample_perturb_max(K.constant([50.0, 0.0, -1.0]), "logistic")))
    0
    """
    _check(noise, 1, "midpoint", scale, "sample_perturb_max")
    wide = widen(mu)
    return tf.argmax(wide + scale * draw(noise, tf.shape(wide), wide.dtype, seed), axis=-1)


@register
class PerturbMax(Layer):
    """Probabilities by perturbing scores: p_i = P[argmax(mu + scale eps) = i] with independent noise eps.

    p_i = integral p(e) prod_{j != i} F(mu_i - mu_j + e) de, with F the noise's distribution function; as a sum over
    quantiles, (1/K) sum_k prod_{j != i} F(mu_i - mu_j + F^-1(t_k)). Gumbel noise gives softmax. All of them keep the
    order of the scores and ignore a constant added to all.

    Args:
        noise: "normal", "gumbel", "uniform", "exponential", "logistic" or "laplace". Bounded noise ("uniform") gives
            exact zeros.
        num_nodes: int, K. The work is O(n^2 K) for n classes: for output layers with few classes.
        nodes: "midpoint" t_k = (k - 1/2) / K, or "article" t_k = k / (K + 1), which is 5 to 100 times less accurate.
        scale: number > 0, of the noise; large makes the distribution even, small makes it one-hot.
        renormalize: divide by the sum, which is 1 only in the limit.
        chunk_size: int, how many quantiles are computed at once; less memory, more ops.

    Call arguments:
        float tensor [..., n] of scores; -inf removes a class. Half precision is computed in float32.

    Returns:
        tensor [..., n] of probabilities; zeros where all classes are removed. The mask is passed on.

    Raises:
        ValueError: unknown noise or nodes, num_nodes or scale not > 0.

    Reference: kexue.fm/archives/9085.

    >>> layer = kexue_keras.layers.PerturbMax("uniform", num_nodes=1000)
    >>> [round(float(v), 3) for v in K.eval(layer(K.constant([[1.0, 0.0, -0.5, 0.3]])))[0]]
    [0.955, 0.0, 0.0, 0.045]
    """

    def __init__(
        self,
        noise: str = "normal",
        *,
        num_nodes: int = 100,
        nodes: str = "midpoint",
        scale: float = 1.0,
        renormalize: bool = True,
        chunk_size: int = 20,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _check(noise, num_nodes, nodes, scale, "PerturbMax")
        self.noise, self.num_nodes, self.nodes = noise, int(num_nodes), nodes
        self.scale, self.renormalize = float(scale), bool(renormalize)
        self.chunk_size = checks.whole_number(chunk_size, "chunk_size", "PerturbMax", least=1)

    def call(self, inputs: Tensor) -> Tensor:
        parameters = {key: getattr(self, key) for key in ("num_nodes", "nodes", "scale", "renormalize", "chunk_size")}
        return perturb_max(inputs, self.noise, **parameters)

    def sample(self, mu: TensorLike, seed: Optional[int] = None) -> Tensor:
        """int64 tensor [...]: classes drawn from the distribution, by adding noise and taking the largest."""
        return sample_perturb_max(mu, self.noise, scale=self.scale, seed=seed)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        names = ("noise", "num_nodes", "nodes", "scale", "renormalize", "chunk_size")
        return dict(super().get_config(), **{name: getattr(self, name) for name in names})
