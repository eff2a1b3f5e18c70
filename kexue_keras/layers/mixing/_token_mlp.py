"""MLP over the tokens: MLP-Mixer's, and the stack of feed-forward layers; causal and UniLM forms derived here.

Article: 也来盘点一些最近的非Transformer工作 (kexue.fm/archives/8431). Papers: arXiv 2105.01601, 2105.02723.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, keras, register
from kexue_keras.layers.mixing._base import MatrixMixer, Tokens
from kexue_keras.types import Activation, Config, Shapes, Tensor


@register
class TokenMixingMLP(MatrixMixer):
    r"""MLP-Mixer's token mixing: $(W_2\,act(W_1 x^\top + b_1) + b_2)^\top$, one MLP over the tokens of each channel.

    It is a `random` Synthesizer without softmax, with a nonlinearity between. Causal: hidden unit s stands at position
    p(s) = floor(s max_length / token_units), takes in what p(s) sees and gives to those that see p(s).

    Args:
        token_units: hidden units over the positions.
        max_length, causal, rescale, kernel_initializer: see `MatrixMixer`.
        activation: of the hidden units.

    Inputs: `[b, n, d]`, mask `[b, n]`; or `[x, allowed]`, allowed bool `[n, n]` or `[b, n, n]`.

    Returns:
        `[b, n, d]`; norm and residual are `MixerBlock`'s.

    Raises:
        ValueError: a sequence longer than max_length, a mask of the wrong rank, an unknown rescale.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.01601

    >>> x = keras.layers.Input((None, 16))
    >>> K.int_shape(kexue_keras.layers.mixing.TokenMixingMLP(32, max_length=64)(x))
    (None, None, 16)
    """

    def __init__(self, token_units: int, max_length: int, *, activation: Activation = "gelu", **kwargs: Any) -> None:
        super(TokenMixingMLP, self).__init__(max_length, **kwargs)
        self.token_units = checks.whole_number(token_units, "token_units", self.name, least=1)
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Shapes) -> None:
        self.weight("kernel_1", (self.max_length, self.token_units))
        self.weight("bias_1", (self.token_units,), "zeros")
        self.weight("kernel_2", (self.token_units, self.max_length))
        self.weight("bias_2", (self.max_length,), "zeros")
        super(TokenMixingMLP, self).build(input_shape)

    def mix(self, tokens: Tokens) -> Tensor:
        n, x = tokens.length, tokens.x
        w1, w2 = tf.cast(self.kernel_1[:n], x.dtype), tf.cast(self.kernel_2[:, :n], x.dtype)
        b1, b2 = tf.cast(self.bias_1, x.dtype), tf.cast(self.bias_2[:n], x.dtype)
        if tokens.allowed is None:
            hidden = tf.einsum("js,bjd->bsd", w1, x)
            counts = tokens.counts()
        else:
            places = tf.constant(np.arange(self.token_units) * self.max_length // self.token_units, tf.int32)
            there = places < n
            places = tf.minimum(places, n - 1)
            visible = tokens.visible()
            incoming = tf.cast(tf.gather(visible, places, axis=1), x.dtype)
            outgoing = tf.logical_and(tf.gather(visible, places, axis=2), there)
            counts = tf.maximum(tf.reduce_sum(incoming, axis=-1, keepdims=True), 1)
            if K.int_shape(visible)[0] == 1:
                hidden = tf.einsum("sj,bjd->bsd", tf.transpose(w1) * incoming[0], x)
            else:
                hidden = tf.einsum("bsj,bjd->bsd", tf.transpose(w1) * incoming, x)
        if self.rescale == "mean":
            hidden *= self.max_length / counts
        hidden = self.activation(hidden + b1[:, None])
        if tokens.allowed is None:
            return tf.einsum("si,bsd->bid", w2, hidden) + b2[:, None]
        weights = tf.transpose(w2) * tf.cast(outgoing, x.dtype)
        if K.int_shape(visible)[0] == 1:
            return tf.einsum("is,bsd->bid", weights[0], hidden) + b2[:, None]
        return tf.einsum("bis,bsd->bid", weights, hidden) + b2[:, None]

    def get_config(self) -> Config:
        return dict(
            super(TokenMixingMLP, self).get_config(),
            token_units=self.token_units,
            activation=keras.activations.serialize(self.activation),
        )


@register
class FFStack(TokenMixingMLP):
    r"""Token mixing of the stack of feed-forward layers: `TokenMixingMLP` with expansion * max_length hidden units.

    Args:
        max_length: most tokens.
        expansion: hidden units a position, 4 in the paper.
        activation, causal, rescale, kernel_initializer: see `TokenMixingMLP`.

    Raises:
        ValueError: as `TokenMixingMLP`.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.02723

    >>> layer = kexue_keras.layers.mixing.FFStack(8)
    >>> _ = layer(K.zeros((1, 8, 16)))
    >>> layer.count_params() == 2 * 8 * 32 + 32 + 8
    True
    """

    def __init__(self, max_length: int, *, expansion: int = 4, **kwargs: Any) -> None:
        self.expansion = checks.whole_number(expansion, "expansion", "FFStack", least=1)
        super(FFStack, self).__init__(
            self.expansion * checks.whole_number(max_length, "max_length", "FFStack", least=1), max_length, **kwargs
        )

    def get_config(self) -> Config:
        config = dict(super(FFStack, self).get_config(), expansion=self.expansion)
        config.pop("token_units")
        return config
