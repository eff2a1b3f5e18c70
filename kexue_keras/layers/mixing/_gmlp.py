"""gMLP and aMLP: gates over the tokens.

Article: 也来盘点一些最近的非Transformer工作 (kexue.fm/archives/8431). Paper: arXiv 2105.08050.
"""

from typing import Any, Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import keras, register
from kexue_keras.layers._masking import HIDDEN, first_shape
from kexue_keras.layers.mixing._base import MatrixMixer, Tokens, normalize, project
from kexue_keras.types import Activation, Config, Initializer, Shape, Shapes, Tensor


class _Gate(MatrixMixer):
    """Base of the layers with a spatial gating unit; see `SpatialGatingUnit`."""

    def __init__(
        self, max_length: int, *, epsilon: float = 1e-6, spatial_initializer: Initializer = "zeros", **kwargs: Any
    ) -> None:
        super(_Gate, self).__init__(max_length, **kwargs)
        self.epsilon = checks.number(epsilon, "epsilon", self.name, least=0)
        self.spatial_initializer = keras.initializers.get(spatial_initializer)

    def build_gate(self, size: int) -> None:
        """Weights of the gate on `size` features."""
        self.weight("gate_gamma", (size,), "ones")
        self.weight("gate_beta", (size,), "zeros")
        self.weight("spatial_kernel", (self.max_length, self.max_length), self.spatial_initializer)
        self.weight("spatial_bias", (self.max_length,), "ones")

    def gate(self, tokens: Tokens, z: Tensor, extra: Optional[Tensor] = None) -> Tensor:
        """u * (W LN(v) + b [+ extra]) of `z = [u, v]`."""
        u, v = tf.split(z, 2, axis=-1)
        v = tokens.zero_padding(normalize(v, self.epsilon, self.gate_gamma, self.gate_beta))
        mixed = self.token_sum(tokens, self.spatial_kernel, v)
        mixed += tf.cast(self.spatial_bias[: tokens.length, None], mixed.dtype)
        return u * (mixed if extra is None else mixed + extra)

    def get_config(self) -> Config:
        return dict(
            super(_Gate, self).get_config(),
            epsilon=self.epsilon,
            spatial_initializer=keras.initializers.serialize(self.spatial_initializer),
        )


@register
class SpatialGatingUnit(_Gate):
    r"""gMLP's gate: $u \odot (W\,\mathrm{LN}(v) + b)$, u and v the halves of the features, W over the tokens.

    W starts at 0 and b at 1, so that at first tokens are not mixed.

    Args:
        max_length, causal, rescale, kernel_initializer: see `MatrixMixer`.
        epsilon: of the layer normalisation.
        spatial_initializer: of W.

    Inputs: `[b, n, 2 e]`, mask `[b, n]`; or `[x, allowed]`.

    Returns:
        `[b, n, e]`.

    Raises:
        ValueError: an odd number of features, a sequence longer than max_length, a mask of the wrong rank.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.08050

    >>> K.int_shape(kexue_keras.layers.mixing.SpatialGatingUnit(64)(keras.layers.Input((None, 16))))
    (None, None, 8)
    """

    def build(self, input_shape: Shapes) -> None:
        size = self.size(input_shape)
        if size % 2:
            raise ValueError("%s: the features are split in two halves, but there are %d" % (self.name, size))
        self.build_gate(size // 2)
        super(SpatialGatingUnit, self).build(input_shape)

    def mix(self, tokens: Tokens) -> Tensor:
        return self.gate(tokens, tokens.x)

    def compute_output_shape(self, input_shape: Shapes) -> Shape:
        shape = tuple(first_shape(input_shape))
        return shape[:-1] + (self.size(input_shape) // 2,)


@register
class GMLP(_Gate):
    r"""gMLP: $U\,\mathrm{SGU}(act(x V))$, channel and token mixing in one; it needs no separate feed-forward layer.

    Args:
        ffn_units: features between V and U, even; half of them reach U.
        max_length, causal, rescale, epsilon, spatial_initializer: see `SpatialGatingUnit`.
        activation: after V.

    Inputs: `[b, n, d]`, mask `[b, n]`; or `[x, allowed]`.

    Returns:
        `[b, n, d]`; norm and residual are `MixerBlock`'s.

    Raises:
        ValueError: ffn_units odd, a sequence longer than max_length, a mask of the wrong rank.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.08050

    >>> K.int_shape(kexue_keras.layers.mixing.GMLP(64, max_length=32)(keras.layers.Input((None, 16))))
    (None, None, 16)
    """

    def __init__(self, ffn_units: int, max_length: int, *, activation: Activation = "gelu", **kwargs: Any) -> None:
        super(GMLP, self).__init__(max_length, **kwargs)
        self.ffn_units = checks.whole_number(ffn_units, "ffn_units", self.name, least=1)
        if ffn_units % 2:
            raise ValueError(
                "%s: ffn_units are split in two halves, so they must be even; got %r" % (self.name, ffn_units)
            )
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: Shapes) -> None:
        size = self.size(input_shape)
        self.weight("in_kernel", (size, self.ffn_units))
        self.weight("in_bias", (self.ffn_units,), "zeros")
        self.build_gate(self.ffn_units // 2)
        self.weight("out_kernel", (self.ffn_units // 2, size))
        self.weight("out_bias", (size,), "zeros")
        super(GMLP, self).build(input_shape)

    def mix(self, tokens: Tokens) -> Tensor:
        z = self.activation(project(tokens.x, self.in_kernel, self.in_bias))
        return project(self.gate(tokens, z, self.attention(tokens)), self.out_kernel, self.out_bias)

    def attention(self, tokens: Tokens) -> Optional[Tensor]:
        """What is added in the gate, or None."""
        return None

    def get_config(self) -> Config:
        return dict(
            super(GMLP, self).get_config(),
            ffn_units=self.ffn_units,
            activation=keras.activations.serialize(self.activation),
        )


@register
class AMLP(GMLP):
    r"""aMLP: gMLP with a small attention of one head in the gate, $u \odot (W\,\mathrm{LN}(v) + b + \mathrm{Att}(x))$.

    Args:
        ffn_units, max_length, activation, causal, rescale, epsilon, spatial_initializer: see `GMLP`.
        head_size: of the one head, 64 in the paper.

    Returns:
        `[b, n, d]`.

    Raises:
        ValueError: as `GMLP`; head_size < 1.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.08050

    >>> K.int_shape(kexue_keras.layers.mixing.AMLP(64, max_length=32, head_size=8)(keras.layers.Input((None, 16))))
    (None, None, 16)
    """

    def __init__(self, ffn_units: int, max_length: int, *, head_size: int = 64, **kwargs: Any) -> None:
        super(AMLP, self).__init__(ffn_units, max_length, **kwargs)
        self.head_size = checks.whole_number(head_size, "head_size", self.name, least=1)

    def build(self, input_shape: Shapes) -> None:
        self.weight("attention_in_kernel", (self.size(input_shape), 3 * self.head_size))
        self.weight("attention_in_bias", (3 * self.head_size,), "zeros")
        self.weight("attention_out_kernel", (self.head_size, self.ffn_units // 2))
        self.weight("attention_out_bias", (self.ffn_units // 2,), "zeros")
        super(AMLP, self).build(input_shape)

    def attention(self, tokens: Tokens) -> Tensor:
        q, k, v = tf.split(project(tokens.x, self.attention_in_kernel, self.attention_in_bias), 3, axis=-1)
        logits = tf.matmul(q, k, transpose_b=True) / self.head_size**0.5
        visible = tokens.visible()
        if visible is not None:
            logits += HIDDEN * tf.cast(tf.logical_not(visible), logits.dtype)
        output = tf.matmul(tf.nn.softmax(logits), v)
        if visible is not None:
            output *= tf.cast(tf.reduce_any(visible, axis=-1, keepdims=True), output.dtype)
        return project(output, self.attention_out_kernel, self.attention_out_bias)

    def get_config(self) -> Config:
        return dict(super(AMLP, self).get_config(), head_size=self.head_size)
