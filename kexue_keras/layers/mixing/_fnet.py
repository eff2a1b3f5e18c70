"""FNet: the Fourier transform instead of attention.

Article: 也来盘点一些最近的非Transformer工作 (kexue.fm/archives/8431). Paper: arXiv 2105.03824. Padding changes the original
(google-research issue 1270); the masked form is derived here.
"""

import math
from typing import Any

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, register
from kexue_keras.layers.mixing._base import TokenMixer, Tokens
from kexue_keras.types import Config, Mask, Tensor, Tensors


def dft_matrices(j, k, n, dtype):
    """cos and sin of 2 pi j k / n for integer tensors that broadcast."""
    # The remainder is taken in integers: j k / n in float32 would lose the fraction that matters.
    angle = tf.cast(tf.math.floormod(j * k, n), dtype) * (2 * math.pi) / tf.cast(n, dtype)
    return tf.cos(angle), tf.sin(angle)


@register
class FNet(TokenMixer):
    r"""$\mathrm{Re}(\mathcal F_n \mathcal F_d\,x)$: a discrete Fourier transform over features and tokens; no weights.

    Args:
        mode: 'padded', as in the paper: padding takes part, so always pad to one length; or 'masked_dft': each
            sample is transformed at its own length, so that padding changes nothing (a matrix product, O(n^2)).
        method: of 'padded': 'matmul' (faster on CPUs, any length), 'fft', or 'auto': fft where a GPU is there.

    Inputs: `[b, n, d]`, mask `[b, n]`. Padding rows of 'masked_dft' are 0.

    Returns:
        `[b, n, d]`.

    Raises:
        ValueError: unknown mode or method, a causal or UniLM matrix (no such form exists), a mask of the wrong rank.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.03824

    >>> x = K.constant([[[0., 1.], [2., 3.], [4., 5.]]])
    >>> (K.eval(kexue_keras.layers.mixing.FNet()(x)).round(4) + 0.0).tolist()
    [[[15.0, -3.0], [-6.0, 0.0], [-6.0, 0.0]]]
    """

    directed = False

    def __init__(self, *, mode: str = "masked_dft", method: str = "auto", **kwargs: Any) -> None:
        kwargs.pop("max_length", None)
        super(FNet, self).__init__(**kwargs)
        self.mode = checks.choice(mode, ("padded", "masked_dft"), "mode", self.name)
        self.method = checks.choice(method, ("auto", "matmul", "fft"), "method", self.name)

    def call(self, inputs: Tensors, mask: Mask = None) -> Tensor:
        tokens = self.tokens(inputs, mask)
        if self.mode == "padded":
            # The paper's network sees the embeddings of padding, too.
            tokens.x = tf.cast(inputs, tokens.x.dtype)
        return tf.cast(self.mix(tokens), tokens.dtype)

    def mix(self, tokens: Tokens) -> Tensor:
        x, n = tokens.x, tokens.length
        method = self.method
        if method == "auto":
            method = "fft" if tf.test.is_built_with_cuda() else "matmul"
        if self.mode == "padded" and method == "fft":
            complex_x = tf.cast(x, tf.complex64 if x.dtype == tf.float32 else tf.complex128)
            return tf.math.real(tf.signal.fft2d(complex_x))
        if self.mode == "padded" or tokens.mask is None:
            steps = tf.range(n)
            cos_n, sin_n = dft_matrices(steps[:, None], steps[None, :], n, x.dtype)
            equation = "kj,bjd->bkd"
        else:
            present = tf.cast(tokens.mask, tf.int32)
            # The place of a token among the tokens, so that padding may be anywhere.
            place = tf.maximum(tf.cumsum(present, axis=1) - 1, 0)
            lengths = tf.maximum(tf.reduce_sum(present, axis=1), 1)[:, None, None]
            cos_n, sin_n = dft_matrices(place[:, :, None], place[:, None, :], lengths, x.dtype)
            equation = "bkj,bjd->bkd"
        size = tf.range(K.int_shape(x)[-1])
        cos_d, sin_d = dft_matrices(size[:, None], size[None, :], K.int_shape(x)[-1], x.dtype)
        y = tf.einsum(equation, cos_n, K.dot(x, cos_d)) - tf.einsum(equation, sin_n, K.dot(x, sin_d))
        return y if self.mode == "padded" else tokens.zero_padding(y)

    def get_config(self) -> Config:
        config = dict(super(FNet, self).get_config(), mode=self.mode, method=self.method)
        for name in ("max_length", "causal", "kernel_initializer"):
            config.pop(name)
        return config
