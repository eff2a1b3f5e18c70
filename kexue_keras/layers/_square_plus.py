"""SquarePlus, the smooth ReLU that needs a square root and nothing else.

Reference: "SquarePlus：可能是运算最简单的ReLU光滑近似", kexue.fm/archives/8833; Barron, arXiv 2112.11687.
"""

from typing import Any, Union

import tensorflow as tf
from bert4keras.layers import Layer

from kexue_keras import checks
from kexue_keras.backend import keras, register, widen
from kexue_keras.numerics import softplus, softplus_inverse
from kexue_keras.types import Config, Shape, Tensor, TensorLike

# The b whose largest distance to SoftPlus is least, 0.0759314510 (recomputed; the article prints 1.52382103).
CLOSEST_TO_SOFTPLUS = 1.5238210492


@register
def squareplus(x: TensorLike, b: Union[float, Tensor] = CLOSEST_TO_SOFTPLUS) -> Tensor:
    """SquarePlus: f(x) = (x + sqrt(x^2 + b)) / 2.

    f'(x) = (1 + x / sqrt(x^2 + b)) / 2, f''(x) = b / (2 (x^2 + b)^1.5). It is the ReLU convolved with the second of
    these (see `smooth`), is at least the ReLU, and at least SoftPlus iff b >= 4 log(2)^2. As an activation its name
    is "squareplus", also as `hidden_act` of bert4keras.

    Args:
        x: float tensor of any shape; half precision is computed in float32.
        b: number > 0, or a tensor that broadcasts to `x`.

    Returns:
        tensor of the shape and dtype of `x`.

    Raises:
        ValueError: b is a number that is not > 0.

    Reference: kexue.fm/archives/8833.

    >>> values = K.eval(kexue_keras.layers.squareplus(K.constant([-3.0, 0.0, 3.0, -1e4]), b=1.0))
    >>> [round(float(v), 6) for v in values]
    [0.081139, 0.5, 3.081139, 2.5e-05]
    """
    x = tf.convert_to_tensor(x)
    wide = widen(x)
    if tf.is_tensor(b):
        # The gradient below is that of each number; summing it to the shape of b is the gradient of this.
        b = tf.cast(b, wide.dtype) + tf.zeros_like(wide)
    else:
        b = tf.constant(checks.number(b, "b", "squareplus", above=0), wide.dtype)
    return tf.cast(_squareplus(wide, b), x.dtype)


@tf.custom_gradient
def _squareplus(x, b):
    """f with f' = f / root and df/db = 1 / (4 root), which take what is there already; b has the shape of x or none."""
    root = tf.sqrt(tf.square(x) + b)
    # (x + root) / 2 for either sign of x, without a branch and without the cancellation that gives 0 for x = -1e4.
    y = tf.nn.relu(x) + b / 2 / (tf.abs(x) + root)

    # Not by the ops above, whose gradients are wrong at their kinks at x = 0.
    @tf.custom_gradient
    def slope(x, b):
        cube = 4 * root * root * root
        return y / root, lambda upstream: (2 * upstream * b / cube, _like(-upstream * x / cube, b))

    return y, lambda upstream: (upstream * slope(x, b), _like(upstream / (4 * root), b))


def _like(gradient, b):
    """The gradient of a b that is one number is a sum, and is left out by TensorFlow where b is a constant."""
    return tf.reduce_sum(gradient) if b.shape.rank == 0 else gradient


@register
class SquarePlus(Layer):
    """SquarePlus as a layer: f(x) = (x + sqrt(x^2 + b)) / 2, with b fixed or trained.

    Args:
        b: number > 0; the default is nearest to SoftPlus (largest distance 0.0759).
        trainable_b: train b. What is trained is r with b = softplus(r), so that b stays positive.
        per_channel: one b for each channel (the last axis); only with `trainable_b`.

    Call arguments:
        float tensor of any shape (for `per_channel` with a known last axis).

    Returns:
        tensor of that shape; the mask is passed on.

    Raises:
        ValueError: b not > 0, `per_channel` without `trainable_b`, or an unknown last axis.

    Reference: kexue.fm/archives/8833; arXiv 2112.11687.

    >>> layer = kexue_keras.layers.SquarePlus(1.0)
    >>> [round(float(v), 4) for v in K.eval(layer(K.constant([[-1.0, 0.0, 1.0]])))[0]]
    [0.2071, 0.5, 1.2071]
    """

    def __init__(
        self, b: float = CLOSEST_TO_SOFTPLUS, *, trainable_b: bool = False, per_channel: bool = False, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.b = checks.number(b, "b", "SquarePlus", above=0)
        if per_channel and not trainable_b:
            raise ValueError("SquarePlus: per_channel=True needs trainable_b=True; one fixed b is the same everywhere")
        self.trainable_b, self.per_channel = bool(trainable_b), bool(per_channel)

    def build(self, input_shape: Shape) -> None:
        if self.trainable_b:
            channels = tf.compat.dimension_value(tf.TensorShape(input_shape)[-1]) if self.per_channel else None
            if self.per_channel and channels is None:
                raise ValueError(
                    "SquarePlus: per_channel needs a known last axis, but the shape is %s" % (input_shape,)
                )
            self.raw_b = self.add_weight(
                name="raw_b",
                shape=(channels,) if self.per_channel else (),
                initializer=keras.initializers.Constant(softplus_inverse(self.b)),
            )
        super().build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        if self.trainable_b:
            return squareplus(inputs, softplus(widen(self.raw_b)))
        return squareplus(inputs, self.b)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        return dict(super().get_config(), b=self.b, trainable_b=self.trainable_b, per_channel=self.per_channel)
