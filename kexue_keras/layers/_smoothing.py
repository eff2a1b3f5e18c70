"""Smooth versions of functions with kinks and jumps: the convolution with a kernel that tends to a Dirac delta.

Reference: "用狄拉克函数来构造非光滑函数的光滑近似", kexue.fm/archives/8718.
"""

import math
from typing import Any, Optional, Sequence, Union

import tensorflow as tf
from bert4keras.layers import Layer

from kexue_keras import checks
from kexue_keras.backend import keras, register, widen
from kexue_keras.layers._kernels import KERNELS, scaled
from kexue_keras.layers._masking import joined_mask
from kexue_keras.numerics import softplus, softplus_inverse
from kexue_keras.types import Config, Mask, Shape, Shapes, Tensor, TensorLike, Tensors


def _floor(x, kernel, cells):
    centre = tf.stop_gradient(tf.round(x))
    rest = x - centre
    # The tails of the infinite sum are integrals by the midpoint rule with its first correction (Euler-Maclaurin), so
    # that few cells are enough for slow tails too.
    right, left = rest - cells - 0.5, -rest - cells - 0.5
    tails = kernel.ramp(right) - kernel.ramp(left) - (kernel.density(right) - kernel.density(left)) / 24
    near = tf.reduce_sum(kernel.step(tf.expand_dims(rest, -1) - tf.range(-cells, cells + 1.0, dtype=x.dtype)), axis=-1)
    return centre + near - (cells + 1) + tails


def _max(pair, ramp):
    a, b = pair
    high, low = tf.where(a < b, b, a), tf.where(a < b, a, b)
    # -inf takes an element out; -inf - (-inf) would be NaN.
    nothing = tf.equal(low, -math.inf)
    return high + ramp(tf.where(nothing, low, low - high))


# fn -> (x, kernel of the wanted width, parameters) -> smooth value. All but the gated ReLU are convolutions.
FUNCTIONS = {
    "relu": lambda x, k, p: k.ramp(x),
    "gated_relu": lambda x, k, p: x * k.step(x),
    "leaky_relu": lambda x, k, p: p["slope"] * x + (1 - p["slope"]) * k.ramp(x),
    "sign": lambda x, k, p: 2 * k.step(x) - 1,
    "abs": lambda x, k, p: 2 * k.ramp(x) - x,
    "step": lambda x, k, p: k.step(x),
    "floor": lambda x, k, p: _floor(x, k, p["cells"]),
    # ceil is floor + 1 but at whole numbers, and a convolution does not see single points.
    "ceil": lambda x, k, p: _floor(x, k, p["cells"]) + 1,
    "round": lambda x, k, p: _floor(x + 0.5, k, p["cells"]),
    "clip": lambda x, k, p: p["low"] + k.ramp(x - p["low"]) - k.ramp(x - p["high"]),
    "max": lambda x, k, p: _max(x, k.ramp),
}
# What grows as fast as |x| has no convolution with the Cauchy kernel. For "clip" and the steps what grows cancels.
NEEDS_CONVERGENCE = ("relu", "leaky_relu", "abs", "max")


def check_smooth(fn, kernel, width, slope, low, high, cells, layer="smooth"):
    """Raise ValueError, naming what to do, if the parameters of `smooth` do not make a function."""
    checks.choice(fn, FUNCTIONS, "fn", layer)
    checks.choice(kernel, KERNELS, "kernel", layer)
    if not KERNELS[kernel].ramp_converges and fn in NEEDS_CONVERGENCE:
        raise ValueError(
            "%s: the convolution of %r with the %r kernel diverges; use 'gauss', 'logistic' or 'square'"
            % (layer, fn, kernel)
        )
    if not tf.is_tensor(width):
        checks.number(width, "width", layer, above=0)
    if not tf.is_tensor(slope):
        checks.number(slope, "slope", layer)
    checks.number(high, "high", layer, above=checks.number(low, "low", layer))
    checks.whole_number(cells, "cells", layer, least=1)


def smooth_values(
    x: Union[Tensor, Sequence[Tensor]],
    fn: str = "relu",
    *,
    kernel: str = "gauss",
    width: Union[float, Tensor] = 1.0,
    slope: Union[float, Tensor] = 0.25,
    low: float = -1.0,
    high: float = 1.0,
    cells: int = 5,
) -> Tensor:
    """The smooth version of a function with kinks or jumps: g(x) = integral f(y) phi(x - y) dy, phi -> delta.

    `smooth` is the layer; this is the function behind it, for Lambda layers and activations of your own.

    Args:
        x: float tensor of any shape; for fn="max" a list of two tensors of one shape.
        fn, kernel, width, slope, low, high, cells: as in `smooth`; `width` and `slope` may be scalar tensors.

    Returns:
        tensor of the shape and dtype of `x`.

    Raises:
        ValueError: as in `smooth`.

    Reference: kexue.fm/archives/8718.

    >>> values = kexue_keras.layers.smooth_values(K.constant([-0.2, 0.7, 0.9]), "floor", kernel="logistic", width=0.05)
    >>> [round(float(v), 4) for v in K.eval(values)]
    [-0.982, 0.0025, 0.1192]
    """
    check_smooth(fn, kernel, width, slope, low, high, cells, "smooth_values")
    if fn == "max":
        if not isinstance(x, (list, tuple)) or len(x) != 2:
            raise ValueError("smooth: fn='max' takes a list of two tensors, but got %r" % (x,))
        x = [tf.convert_to_tensor(t) for t in x]
        if not x[0].shape.is_compatible_with(x[1].shape):
            raise ValueError(
                "smooth: the two tensors of fn='max' must have one shape, but have %s and %s" % (x[0].shape, x[1].shape)
            )
        dtype, wide = x[0].dtype, [widen(t) for t in x]
        number = wide[0].dtype
    else:
        if isinstance(x, (list, tuple)):
            raise ValueError("smooth: fn=%r takes one tensor, not a list of %d" % (fn, len(x)))
        x = tf.convert_to_tensor(x)
        dtype, wide = x.dtype, widen(x)
        number = wide.dtype
    # tf.cast alone would round a Python float to float32 on its way to float64.
    width, slope = [tf.cast(v, number) if tf.is_tensor(v) else tf.constant(v, number) for v in (width, slope)]
    parameters = {"slope": slope, "low": low, "high": high, "cells": cells}
    values = FUNCTIONS[fn](wide, scaled(KERNELS[kernel], width), parameters)
    return tf.cast(values, dtype)


@register
def gauss_relu(x: TensorLike) -> Tensor:
    """The ReLU convolved with the Gaussian of width 1: x Phi(x) + phi(x). Convex, and at least the ReLU.

    It is not GELU, which is x Phi(x): neither convex nor monotone, and below the ReLU (see `gelu_s`). As an
    activation its name is "gauss_relu", also as `hidden_act` of bert4keras.

    Args:
        x: float tensor.

    Returns:
        tensor of the shape and dtype of `x`.

    Reference: kexue.fm/archives/8718.

    >>> [round(float(v), 4) for v in K.eval(kexue_keras.layers.gauss_relu(K.constant([-1.0, 0.0, 1.0])))]
    [0.0833, 0.3989, 1.0833]
    """
    return smooth_values(x, "relu")


@register
def gelu_s(x: TensorLike, width: float = 1.0) -> Tensor:
    """GELU with a width: x Phi(x / width), the ReLU as x times a smooth step. Width 1 is GELU.

    Args:
        x: float tensor.
        width: number > 0.

    Returns:
        tensor of the shape and dtype of `x`.

    Raises:
        ValueError: width is not > 0.

    Reference: kexue.fm/archives/8718.

    >>> [round(float(v), 4) for v in K.eval(kexue_keras.layers.gelu_s(K.constant([-1.0, 0.0, 1.0])))]
    [-0.1587, 0.0, 0.8413]
    """
    return smooth_values(x, "gated_relu", width=width)


@register
class Smooth(Layer):
    """The layer that `smooth` makes; all its parameters are explained there.

    Reference: kexue.fm/archives/8718.
    """

    def __init__(
        self,
        fn: str = "relu",
        *,
        kernel: str = "gauss",
        width: float = 1.0,
        trainable_width: bool = False,
        slope: float = 0.25,
        low: float = -1.0,
        high: float = 1.0,
        cells: int = 5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_smooth(fn, kernel, width, slope, low, high, cells)
        self.fn, self.kernel, self.width, self.trainable_width = fn, kernel, float(width), bool(trainable_width)
        self.slope, self.low, self.high, self.cells = float(slope), float(low), float(high), int(cells)

    def build(self, input_shape: Shapes) -> None:
        if self.trainable_width:
            self.raw_width = self.add_weight(
                name="raw_width",
                shape=(),
                initializer=keras.initializers.Constant(softplus_inverse(self.width)),
            )
        super().build(input_shape)

    def call(self, inputs: Tensors) -> Tensor:
        return smooth_values(
            inputs,
            self.fn,
            kernel=self.kernel,
            width=softplus(widen(self.raw_width)) if self.trainable_width else self.width,
            slope=self.slope,
            low=self.low,
            high=self.high,
            cells=self.cells,
        )

    def compute_mask(self, inputs: Tensors, mask: Mask = None) -> Mask:
        return joined_mask(mask) if isinstance(mask, list) else mask

    def compute_output_shape(self, input_shape: Shapes) -> Shape:
        return input_shape[0] if self.fn == "max" else input_shape

    def get_config(self) -> Config:
        names = ("fn", "kernel", "width", "trainable_width", "slope", "low", "high", "cells")
        return dict(super().get_config(), **{name: getattr(self, name) for name in names})


def smooth(
    fn: str = "relu",
    kernel: str = "gauss",
    width: float = 1.0,
    trainable: bool = False,
    *,
    slope: float = 0.25,
    low: float = -1.0,
    high: float = 1.0,
    cells: int = 5,
    name: Optional[str] = None,
) -> Smooth:
    """A layer that computes the smooth version of a function with kinks or jumps.

    g(x) = integral f(y) phi(x - y) dy, where phi is a kernel of the given width; g -> f as width -> 0. With P the
    kernel's smooth step and R its ramp (R' = P, the smooth ReLU):

    - "relu" R(x); "gated_relu" x P(x), no convolution: Swish with "logistic", GELU with "gauss", `gelu_s`;
    - "leaky_relu" slope x + (1 - slope) R(x), SAU; "sign" 2 P(x) - 1; "abs" 2 R(x) - x; "step" P(x);
    - "floor" the sum of P(x - n) over n >= 1 and of P(x - n) - 1 over n <= 0; "ceil" that plus 1; "round" that at
      x + 1/2;
    - "clip" low + R(x - low) - R(x - high); "max" of a list of two tensors: b + R(a - b).

    Args:
        fn: str, one of these.
        kernel: "gauss" exp(-x^2 / (2 w^2)); "logistic", whose step is sigmoid(x / w) (the article's t is 1 / w);
            "cauchy" w / (pi (x^2 + w^2)); "square" b / (2 (x^2 + b)^1.5), b = w^2, which makes SquarePlus.
        width: number > 0, w.
        trainable: train the width, which stays positive (w = softplus of what is trained).
        slope: float, of the leaky ReLU on the left.
        low, high: floats, the bounds of "clip".
        cells: int >= 1, how many steps on either side of x "floor" and its kin sum; beyond them the sum is an integral.
        name: str, name of the layer.

    Returns:
        a `Smooth` layer; it takes float tensors of any shape and passes the mask on. Half precision is computed in
        float32. In a list of "max", -inf is an element that is not there.

    Raises:
        ValueError: an unknown fn or kernel, width <= 0, bounds out of order; or "cauchy" with something that grows
            like |x| ("relu", "leaky_relu", "abs", "max"), for the integral diverges.

    Reference: kexue.fm/archives/8718.

    >>> layer = kexue_keras.layers.smooth("clip", "logistic", width=0.2)
    >>> [round(float(v), 4) for v in K.eval(layer(K.constant([[-3.0, -1.0, 0.0, 0.5]])))[0]]
    [-1.0, -0.8614, 0.0, 0.4843]
    """
    parameters = {"kernel": kernel, "width": width, "slope": slope, "low": low, "high": high, "cells": cells}
    return Smooth(fn, trainable_width=trainable, name=name, **parameters)
