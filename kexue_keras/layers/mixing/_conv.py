"""Convolutions instead of attention, between a gated linear unit and a projection.

Article: 也来盘点一些最近的非Transformer工作 (kexue.fm/archives/8431). Papers: Are Pre-trained Convolutions Better than
Pre-trained Transformers?, arXiv 2105.03322; light and dynamic convolutions, arXiv 1901.10430.
"""

from typing import Any, Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, keras, register
from kexue_keras.layers.mixing._base import TokenMixer, Tokens, project
from kexue_keras.types import Config, Shapes, Tensor

VARIANTS = ("light", "dynamic", "depthwise", "full")


@register
class ConvMixer1D(TokenMixer):
    r"""$U\,\mathrm{conv}(xV_1 \odot \sigma(xV_2))$: a convolution over the tokens after a gated linear unit.

    $y_{ic} = \sum_{j=1}^{k} w_j\,h_{i+o_j,c}$ with offsets $o_j = (j - 1 - \lfloor k/2 \rfloor) r$ for a dilation r, or
    $(j - k) r$ if causal. The weights $w_j$ are, for channel c of head a:

    - 'light': $\mathrm{softmax}_j W_{ja}$, the same for all channels of a head;
    - 'dynamic': $\mathrm{softmax}_j (h_i W)_{ja}$, made by the token;
    - 'depthwise': $W_{jc}$; with U behind it this is the depthwise separable convolution;
    - 'full': matrices $W_j$, every channel from all.

    The paper's dilated convolution is one with `dilation` > 1. No weight belongs to a position, so that inputs of any
    length may come, but a token sees no further than its window.

    Args:
        kernel_size: width k of the window.
        variant: 'light', 'dynamic', 'depthwise' or 'full'.
        heads: of 'light' and 'dynamic'; must divide the units.
        dilation: distance r of the window's tokens.
        units: features of h; None takes those of the input.
        causal: the window lies before the token. A matrix of who sees whom only hides what is in the window, and the
            weights of the rest stay as they are.
        kernel_initializer: see `TokenMixer`.

    Inputs: `[b, n, d]`, mask `[b, n]`; or `[x, allowed]`, allowed bool `[n, n]` or `[b, n, n]`.

    Returns:
        `[b, n, d]`; norm and residual are `MixerBlock`'s.

    Raises:
        ValueError: unknown variant, heads that do not divide the units, a number < 1, a mask of the wrong rank.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.03322, 1901.10430

    >>> x = keras.layers.Input((None, 16))
    >>> K.int_shape(kexue_keras.layers.mixing.ConvMixer1D(5, variant='dynamic', dilation=2)(x))
    (None, None, 16)
    """

    def __init__(
        self,
        kernel_size: int = 7,
        *,
        variant: str = "light",
        heads: int = 4,
        dilation: int = 1,
        units: Optional[int] = None,
        causal: bool = False,
        **kwargs: Any,
    ) -> None:
        kwargs.pop("max_length", None)
        super(ConvMixer1D, self).__init__(causal=causal, **kwargs)
        self.variant = checks.choice(variant, VARIANTS, "variant", self.name)
        self.kernel_size, self.heads, self.dilation = (
            checks.whole_number(value, name, self.name, least=1)
            for value, name in ((kernel_size, "kernel_size"), (heads, "heads"), (dilation, "dilation"))
        )
        self.units = None if units is None else checks.whole_number(units, "units", self.name, least=1)

    def build(self, input_shape: Shapes) -> None:
        size, k = self.size(input_shape), self.kernel_size
        units = self.units or size
        if self.variant in ("light", "dynamic") and units % self.heads:
            raise ValueError(
                "%s: heads=%d do not divide the %d units; channels of a head share their weights"
                % (self.name, self.heads, units)
            )
        self.weight("in_kernel", (size, 2 * units))
        self.weight("in_bias", (2 * units,), "zeros")
        shape = {
            "light": (k, self.heads),
            "dynamic": (units, k * self.heads),
            "depthwise": (k, units),
            "full": (k, units, units),
        }[self.variant]
        # Glorot's fans take the channels of a depthwise kernel for inputs, of which there are k.
        spread = keras.initializers.RandomNormal(stddev=k**-0.5)
        self.weight("kernel", shape, spread if self.variant == "depthwise" else None)
        self.weight("out_kernel", (units, size))
        self.weight("out_bias", (size,), "zeros")
        super(ConvMixer1D, self).build(input_shape)

    def mix(self, tokens: Tokens) -> Tensor:
        values, gates = tf.split(project(tokens.x, self.in_kernel, self.in_bias), 2, axis=-1)
        h = tokens.zero_padding(values * tf.sigmoid(gates))
        return project(self.convolve(tokens, h), self.out_kernel, self.out_bias)

    def convolve(self, tokens: Tokens, h: Tensor) -> Tensor:
        """The convolution of `h [b, n, units]`, zeros beyond the ends."""
        n, weights = tokens.length, self._weights(h)
        first = 1 - self.kernel_size if self.causal else -(self.kernel_size // 2)
        offsets = [self.dilation * (first + j) for j in range(self.kernel_size)]
        before, after = max(0, -offsets[0]), max(0, offsets[-1])
        around = tf.pad(h, [[0, 0], [before, after], [0, 0]])
        total = None
        for j, offset in enumerate(offsets):
            there = around[:, before + offset : before + offset + n]
            if tokens.allowed is not None:
                there *= self._seen(tokens, offset, h.dtype)
            term = tf.tensordot(there, weights[j], 1) if self.variant == "full" else there * weights[j]
            total = term if total is None else total + term
        return total

    def _weights(self, h):
        """One for each token of the window: `[units]`, `[b, n, units]` or `[units, units]`."""
        kernel = tf.cast(self.kernel, h.dtype)
        if self.variant in ("depthwise", "full"):
            return tf.unstack(kernel)
        width = K.int_shape(h)[-1] // self.heads
        if self.variant == "light":
            return tf.unstack(tf.repeat(tf.nn.softmax(kernel, axis=0), width, axis=1))
        shape = tf.concat([tf.shape(h)[:2], [self.kernel_size, self.heads]], axis=0)
        made = tf.nn.softmax(tf.reshape(project(h, kernel), shape), axis=2)
        return tf.unstack(tf.repeat(made, width, axis=3), num=self.kernel_size, axis=2)

    @staticmethod
    def _seen(tokens, offset, dtype):
        """`[b or 1, n, 1]`: 1 where the token so far away is seen."""
        n, allowed = tokens.length, tokens.allowed
        steps = tf.range(n)
        # Beyond the ends there are zeros already.
        flat = steps * n + tf.clip_by_value(steps + offset, 0, n - 1)
        return tf.cast(tf.gather(tf.reshape(allowed, [tf.shape(allowed)[0], n * n]), flat, axis=1), dtype)[..., None]

    def get_config(self) -> Config:
        config = dict(
            super(ConvMixer1D, self).get_config(),
            kernel_size=self.kernel_size,
            variant=self.variant,
            heads=self.heads,
            dilation=self.dilation,
            units=self.units,
        )
        config.pop("max_length")
        return config
