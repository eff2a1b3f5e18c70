"""AFT-full: an attention-free Transformer, weights of positions times weights of tokens.

Paper: arXiv 2105.14103 (not in the article 也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431).
"""

from typing import Any, Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, keras, register
from kexue_keras.layers.mixing._base import TokenMixer, Tokens, project
from kexue_keras.types import Config, Shapes, Tensor


@register
class AFT(TokenMixer):
    r"""AFT-full: weights of positions times weights of tokens, then a projection.

    $$y_i = \sigma(q_i) \odot \frac{\sum_j e^{w_{ij} + k_j} \odot v_j}{\sum_j e^{w_{ij} + k_j}}$$

    Exponents are clipped instead of shifted by their maximum: a maximum over tokens that come later would leak.

    Args:
        max_length: most tokens, the size of w.
        units: features of q, k, v; None takes those of the input.
        limit: k and w are clipped to [-limit, limit].
        causal, kernel_initializer: see `TokenMixer`.

    Inputs: `[b, n, d]`, mask `[b, n]`; or `[x, allowed]`.

    Returns:
        `[b, n, d]`; before the projection, a token that sees nothing gives zeros.

    Raises:
        ValueError: a sequence longer than max_length, limit outside (0, 40], a mask of the wrong rank.

    Reference:
        arXiv 2105.14103

    >>> K.int_shape(kexue_keras.layers.mixing.AFT(32)(keras.layers.Input((None, 16))))
    (None, None, 16)
    """

    def __init__(self, max_length: int, *, units: Optional[int] = None, limit: float = 30.0, **kwargs: Any) -> None:
        super(AFT, self).__init__(max_length, **kwargs)
        self.units = None if units is None else checks.whole_number(units, "units", self.name, least=1)
        overflow = "above 40 the exponentials overflow in float32"
        self.limit = checks.number(limit, "limit", self.name, above=0, most=40, remedy=overflow)

    def build(self, input_shape: Shapes) -> None:
        size = self.size(input_shape)
        units = self.units or size
        self.weight("in_kernel", (size, 3 * units))
        self.weight("in_bias", (3 * units,), "zeros")
        self.weight("positions", (self.max_length, self.max_length), keras.initializers.TruncatedNormal(stddev=0.02))
        self.weight("out_kernel", (units, size))
        self.weight("out_bias", (size,), "zeros")
        super(AFT, self).build(input_shape)

    def mix(self, tokens: Tokens) -> Tensor:
        q, k, v = tf.split(project(tokens.x, self.in_kernel, self.in_bias), 3, axis=-1)
        return project(self.attend(tokens, q, k, v), self.out_kernel, self.out_bias)

    def attend(self, tokens: Tokens, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The formula, from `[b, n, units]` each."""
        n = tokens.length
        key_weights = tokens.zero_padding(tf.exp(K.clip(k, -self.limit, self.limit)))
        positions = tf.exp(K.clip(tf.cast(self.positions[:n, :n], k.dtype), -self.limit, self.limit))
        above, below = tokens.sum(positions, key_weights * v), tokens.sum(positions, key_weights)
        return tf.sigmoid(q) * tf.math.divide_no_nan(above, below)

    def get_config(self) -> Config:
        return dict(super(AFT, self).get_config(), units=self.units, limit=self.limit)
