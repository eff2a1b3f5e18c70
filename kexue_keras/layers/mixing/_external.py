"""External Attention: every token looks at a small memory that all texts share.

Article: 也来盘点一些最近的非Transformer工作 (kexue.fm/archives/8431). Paper: arXiv 2105.02358. Causal form derived here.
"""

from typing import Any

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, register
from kexue_keras.layers._masking import HIDDEN
from kexue_keras.layers.mixing._base import TokenMixer, Tokens, project
from kexue_keras.types import Config, Shapes, Tensor


def cumulative_logsumexp(x):
    """log(sum_{j <= i} exp(x_j)) along axis 1 of `[b, n, s]`, by doubling; later values never touch earlier ones."""
    n = tf.shape(x)[1]

    def shifted_in(step, y):
        # The upper limit keeps the shift inside the tensor while the loop is built for a length yet unknown.
        padded = tf.pad(y[:, : n - step], [[0, 0], [step, 0], [0, 0]], constant_values=HIDDEN)
        top = tf.maximum(y, padded)
        return 2 * step, top + tf.math.log1p(tf.exp(-tf.abs(y - padded)))

    shapes = [tf.TensorShape([]), tf.TensorShape([None, None, x.shape[2]])]
    return tf.while_loop(lambda step, y: step < n, shifted_in, [tf.constant(1), x], shape_invariants=shapes)[1]


@register
class ExternalAttention(TokenMixer):
    r"""$A = X M_k^\top$, softmax over the tokens, then each token's row divided by its sum; $A M_v$.

    Each token is almost on its own: tokens meet only in the sums of the softmax. For text it needs another mixer.
    Who sees whom may be anything that grows along the sequence: causal, UniLM.

    Args:
        memory: number S of memory slots.
        causal, kernel_initializer: see `TokenMixer`; the softmax of a token then runs over what it sees.

    Inputs: `[b, n, d]`, mask `[b, n]`; or `[x, allowed]`.

    Returns:
        `[b, n, d]`.

    Raises:
        ValueError: memory < 1, a mask of the wrong rank.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.02358

    >>> K.int_shape(kexue_keras.layers.mixing.ExternalAttention(8)(keras.layers.Input((None, 16))))
    (None, None, 16)
    """

    def __init__(self, memory: int = 64, *, causal: bool = False, **kwargs: Any) -> None:
        kwargs.pop("max_length", None)
        super(ExternalAttention, self).__init__(causal=causal, **kwargs)
        self.memory = checks.whole_number(memory, "memory", self.name, least=1)

    def build(self, input_shape: Shapes) -> None:
        size = self.size(input_shape)
        self.weight("memory_key", (size, self.memory))
        self.weight("memory_value", (self.memory, size))
        super(ExternalAttention, self).build(input_shape)

    def mix(self, tokens: Tokens) -> Tensor:
        logits = project(tokens.x, self.memory_key)
        if tokens.mask is not None:
            logits += HIDDEN * tf.cast(tf.logical_not(tokens.mask), logits.dtype)[..., None]
        if tokens.allowed is None:
            normaliser = tf.reduce_logsumexp(logits, axis=1, keepdims=True)
        else:
            prefix = cumulative_logsumexp(logits)
            # What a token sees is a beginning of the sequence, so its normaliser stands at the last token of it.
            seen = tf.cast(tokens.allowed, tf.int32) * tf.range(1, tokens.length + 1)
            last = tf.maximum(tf.reduce_max(seen, axis=-1) - 1, 0)
            if K.int_shape(last)[0] == 1:
                normaliser = tf.gather(prefix, last[0], axis=1)
            else:
                normaliser = tf.gather(prefix, last, axis=1, batch_dims=1)
        # A row over its sum is a softmax over the memory of the logarithms, which cannot be 0 / 0.
        attention = tokens.zero_padding(tf.nn.softmax(logits - normaliser))
        return project(attention, self.memory_value)

    def get_config(self) -> Config:
        config = dict(super(ExternalAttention, self).get_config(), memory=self.memory)
        config.pop("max_length")
        return config
