"""ResMLP's mixing: one matrix over the tokens, and an affine map instead of layer normalisation.

Article: 也来盘点一些最近的非Transformer工作 (kexue.fm/archives/8431). Paper: arXiv 2105.03404.
"""

from typing import Any

import tensorflow as tf

from kexue_keras.backend import keras, register
from kexue_keras.layers._masking import last_dimension
from kexue_keras.layers.mixing._base import MatrixMixer, Tokens
from kexue_keras.types import Config, Shape, Shapes, Tensor


@register
class LinearTokenMixing(MatrixMixer):
    r"""$y_i = \sum_j W_{ij} x_j + b_i$: the token mixing of ResMLP.

    Args:
        max_length, causal, rescale, kernel_initializer: see `MatrixMixer`.
        use_bias: whether there is b.

    Inputs: `[b, n, d]`, mask `[b, n]`; or `[x, allowed]`.

    Returns:
        `[b, n, d]`.

    Raises:
        ValueError: a sequence longer than max_length, a mask of the wrong rank, an unknown rescale.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.03404

    >>> K.int_shape(kexue_keras.layers.mixing.LinearTokenMixing(64)(keras.layers.Input((None, 16))))
    (None, None, 16)
    """

    def __init__(self, max_length: int, *, use_bias: bool = True, **kwargs: Any) -> None:
        super(LinearTokenMixing, self).__init__(max_length, **kwargs)
        self.use_bias = use_bias

    def build(self, input_shape: Shapes) -> None:
        self.weight("kernel", (self.max_length, self.max_length))
        if self.use_bias:
            self.weight("bias", (self.max_length,), "zeros")
        super(LinearTokenMixing, self).build(input_shape)

    def mix(self, tokens: Tokens) -> Tensor:
        y = self.token_sum(tokens, self.kernel, tokens.x)
        return y + tf.cast(self.bias[: tokens.length, None], y.dtype) if self.use_bias else y

    def get_config(self) -> Config:
        return dict(super(LinearTokenMixing, self).get_config(), use_bias=self.use_bias)


@register
class Affine(keras.layers.Layer):
    """`a x + b` with a and b for each feature: ResMLP's stand-in for normalisation, and its LayerScale.

    Args:
        scale: where a starts; 1 before a mixer, small after it (0.1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond).

    Reference:
        arXiv 2105.03404

    >>> K.eval(kexue_keras.layers.mixing.Affine(scale=0.5)(K.constant([[2.0, 4.0]]))).tolist()
    [[1.0, 2.0]]
    """

    def __init__(self, *, scale: float = 1.0, **kwargs: Any) -> None:
        super(Affine, self).__init__(**kwargs)
        self.supports_masking = True
        self.scale = float(scale)

    def build(self, input_shape: Shape) -> None:
        shape = (last_dimension(input_shape, self.name),)
        constant = keras.initializers.Constant(self.scale)
        self.a = self.add_weight(name="a", shape=shape, initializer=constant)
        self.b = self.add_weight(name="b", shape=shape, initializer="zeros")
        super(Affine, self).build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        return self.a * inputs + self.b

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> Config:
        return dict(super(Affine, self).get_config(), scale=self.scale)
