"""What the token mixers share: inputs, masks, causal forms, and sums over tokens with a matrix.

Padding is zeroed before tokens are mixed, so that it changes nothing; who sees whom comes from `causal` or from a
second input, the boolean matrix that bert4keras makes for language models and UniLM.
"""

from typing import Any, Optional, Sequence, Union

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, keras, widen
from kexue_keras.layers._masking import bias_visibility, first_shape, last_dimension, padding_mask
from kexue_keras.types import Config, Initializer, Mask, Shape, Shapes, Tensor, Tensors, Variable


class Tokens(object):
    """The input of a mixer.

    Attributes:
        x: `[b, n, d]`, float32 or wider, zeros where there is padding.
        mask: bool `[b, n]`, True for tokens, or None.
        allowed: bool `[1, n, n]` or `[b, n, n]`, who may see whom (padding not counted), or None for all.
        dtype: dtype of the input.
    """

    def __init__(self, x, mask, allowed, dtype):
        self.x, self.mask, self.allowed, self.dtype = x, mask, allowed, dtype

    @property
    def length(self):
        return tf.shape(self.x)[1]

    def visible(self):
        """bool that broadcasts to `[b, n, n]`: who sees whom, padding hidden; None for all."""
        if self.mask is None:
            return self.allowed
        mask = self.mask[:, None]
        return mask if self.allowed is None else tf.logical_and(self.allowed, mask)

    def zero_padding(self, y):
        """`y [b, n, d]` with zeros where there is padding."""
        if self.mask is None:
            return y
        return y * tf.cast(self.mask, y.dtype)[..., None]

    def counts(self):
        """Number of tokens that each token sees, at least 1, `[b or 1, n or 1, 1]`."""
        visible = self.visible()
        if visible is None:
            return tf.cast(tf.reshape(self.length, [1, 1, 1]), self.x.dtype)
        return tf.maximum(tf.reduce_sum(tf.cast(visible, self.x.dtype), axis=-1, keepdims=True), 1)

    def sum(self, matrix, y):
        """`sum_j matrix[i, j] y[b, j]` over the j that i sees; `matrix [n, n]`, `y [b, n, d]` with zero padding."""
        matrix = tf.cast(matrix, y.dtype)
        if self.allowed is None:
            return tf.einsum("ij,bjd->bid", matrix, y)
        if K.int_shape(self.allowed)[0] == 1:
            return tf.einsum("ij,bjd->bid", matrix * tf.cast(self.allowed[0], y.dtype), y)
        return tf.einsum("bij,bjd->bid", matrix[None] * tf.cast(self.allowed, y.dtype), y)


class TokenMixer(keras.layers.Layer):
    """Base of the layers that mix tokens: `[b, n, d]`, or `[x, allowed]` with a matrix of who sees whom.

    Args:
        max_length: most tokens, or None if no weight depends on the length.
        causal: whether a token sees only itself and what comes before it.
        kernel_initializer: of the matrices that have no start of their own. In a model with norms behind the residuals
            it decides whether a token is still to be told from its neighbours after the first layer: small numbers
            (BERT's .02) keep it.
    """

    # Whether there is a form in which a token sees only some of the others.
    directed = True

    def __init__(
        self,
        max_length: Optional[int] = None,
        *,
        causal: bool = False,
        kernel_initializer: Initializer = "glorot_uniform",
        **kwargs: Any,
    ) -> None:
        super(TokenMixer, self).__init__(**kwargs)
        self.supports_masking = True
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.max_length = (
            max_length if max_length is None else checks.whole_number(max_length, "max_length", self.name, least=1)
        )
        self.causal = bool(causal)
        if causal and not self.directed:
            raise ValueError("%s: there is no causal form, every output holds every token" % self.name)

    def tokens(self, inputs: Tensors, mask: Mask) -> Tokens:
        """The inputs of `call` as `Tokens`, checked."""
        allowed = None
        if isinstance(inputs, (list, tuple)):
            inputs, allowed = inputs
            mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        mask = padding_mask(mask, self.name)
        dtype = inputs.dtype
        if self.max_length is not None:
            inputs = checks.require_length(inputs, self.max_length, self.name)
        if allowed is not None:
            if not self.directed:
                raise ValueError(
                    "%s mixes all tokens with all; it takes no attention mask, so it cannot be used in a language model"
                    % self.name
                )
            allowed = bias_visibility(allowed, self.name)
            if K.ndim(allowed) not in (2, 3):
                raise ValueError(
                    "%s: who sees whom must be [tokens, tokens] or [batch, tokens, tokens], but it has %s axes"
                    % (self.name, K.ndim(allowed))
                )
            allowed = allowed[None] if K.ndim(allowed) == 2 else allowed
        if self.causal:
            steps = tf.range(tf.shape(inputs)[1])
            lower = (steps[None, :] <= steps[:, None])[None]
            allowed = lower if allowed is None else tf.logical_and(lower, allowed)
        tokens = Tokens(widen(inputs), mask, allowed, dtype)
        tokens.x = tokens.zero_padding(tokens.x)
        return tokens

    def call(self, inputs: Tensors, mask: Mask = None) -> Tensor:
        tokens = self.tokens(inputs, mask)
        return tf.cast(self.mix(tokens), tokens.dtype)

    def mix(self, tokens: Tokens) -> Tensor:
        """`[b, n, d]` from `Tokens`."""
        raise NotImplementedError

    def weight(self, name: str, shape: Sequence[int], initializer: Optional[Initializer] = None) -> None:
        """A trainable weight under an attribute of its name; None: from the kernel initializer."""
        start = self.kernel_initializer if initializer is None else initializer
        value = self.add_weight(name=name, shape=shape, initializer=start, trainable=True)
        setattr(self, name, value)

    def size(self, input_shape: Shapes) -> int:
        """Features of the input."""
        return last_dimension(input_shape, self.name)

    def compute_mask(self, inputs: Tensors, mask: Mask = None) -> Mask:
        return mask[0] if isinstance(mask, (list, tuple)) else mask

    def compute_output_shape(self, input_shape: Shapes) -> Shape:
        return tuple(first_shape(input_shape))

    def get_config(self) -> Config:
        return dict(
            super(TokenMixer, self).get_config(),
            max_length=self.max_length,
            causal=self.causal,
            kernel_initializer=keras.initializers.serialize(self.kernel_initializer),
        )


class MatrixMixer(TokenMixer):
    """Base of the mixers whose weights multiply positions: they need `max_length`, and can correct for short inputs.

    Args:
        max_length: most tokens; shorter inputs use the upper left part of the matrix.
        causal, kernel_initializer: as in `TokenMixer`.
        rescale: 'none', or 'mean': sums over tokens are multiplied by max_length / (number of tokens seen), so that
            they do not shrink with the length.
    """

    def __init__(self, max_length: int, *, causal: bool = False, rescale: str = "none", **kwargs: Any) -> None:
        super(MatrixMixer, self).__init__(max_length, causal=causal, **kwargs)
        self.rescale = checks.choice(rescale, ("none", "mean"), "rescale", self.name)

    def token_sum(self, tokens: Tokens, matrix: Union[Tensor, Variable], y: Tensor) -> Tensor:
        """`Tokens.sum` with `matrix [max_length, max_length]` cut to the length and, if asked for, rescaled."""
        n = tokens.length
        total = tokens.sum(matrix[:n, :n], y)
        return total * (self.max_length / tokens.counts()) if self.rescale == "mean" else total

    def get_config(self) -> Config:
        return dict(super(MatrixMixer, self).get_config(), rescale=self.rescale)


def normalize(x, epsilon, gamma=None, beta=None):
    """Layer normalisation over the last axis, in the type of `x`."""
    centred = x - tf.reduce_mean(x, axis=-1, keepdims=True)
    variance = tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True)
    y = (
        tf.math.divide_no_nan(centred, tf.sqrt(variance + epsilon))
        if epsilon == 0
        else centred / tf.sqrt(variance + epsilon)
    )
    if gamma is not None:
        y = y * tf.cast(gamma, y.dtype) + tf.cast(beta, y.dtype)
    return y


def project(x, kernel, bias=None):
    """`x kernel + bias` over the last axis."""
    y = K.dot(x, tf.cast(kernel, x.dtype))
    return y if bias is None else y + tf.cast(bias, x.dtype)
