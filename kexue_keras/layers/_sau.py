"""SAU: the leaky ReLU convolved with a Gaussian.

Reference: "用狄拉克函数来构造非光滑函数的光滑近似", kexue.fm/archives/8718; Biswas et al., arXiv 2109.13210.
"""

from typing import Any

from bert4keras.layers import Layer

from kexue_keras import checks
from kexue_keras.backend import keras, register, widen
from kexue_keras.layers._smoothing import check_smooth, smooth_values
from kexue_keras.numerics import softplus, softplus_inverse
from kexue_keras.types import Config, Shape, Tensor


@register
class SAU(Layer):
    """SAU: f(x) = alpha x + (1 - alpha) (x Phi(x / sigma) + sigma phi(x / sigma)).

    Args:
        alpha: float, the slope far to the left.
        sigma: number > 0, the width of the Gaussian; sigma -> 0 gives the leaky ReLU.
        trainable_alpha: train alpha, without bounds.
        trainable_sigma: train sigma; what is trained is r with sigma = softplus(r), so that it stays positive.

    Call arguments:
        float tensor of any shape.

    Returns:
        tensor of that shape; the mask is passed on.

    Raises:
        ValueError: sigma not > 0, alpha not finite.

    Reference: kexue.fm/archives/8718; arXiv 2109.13210.

    >>> layer = kexue_keras.layers.SAU(0.25, sigma=0.5)
    >>> [round(float(v), 4) for v in K.eval(layer(K.constant([[-3.0, 0.0, 1.0]])))[0]]
    [-0.75, 0.1496, 1.0032]
    """

    def __init__(
        self,
        alpha: float = 0.25,
        sigma: float = 0.5,
        *,
        trainable_alpha: bool = False,
        trainable_sigma: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.alpha, self.sigma = float(alpha), checks.number(sigma, "sigma", "SAU", above=0)
        check_smooth("leaky_relu", "gauss", self.sigma, self.alpha, -1.0, 1.0, 1, "SAU")
        self.trainable_alpha, self.trainable_sigma = bool(trainable_alpha), bool(trainable_sigma)

    def build(self, input_shape: Shape) -> None:
        constant = keras.initializers.Constant
        if self.trainable_alpha:
            self.trained_alpha = self.add_weight(name="alpha", shape=(), initializer=constant(self.alpha))
        if self.trainable_sigma:
            raw = constant(softplus_inverse(self.sigma))
            self.raw_sigma = self.add_weight(name="raw_sigma", shape=(), initializer=raw)
        super().build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        alpha = widen(self.trained_alpha) if self.trainable_alpha else self.alpha
        sigma = softplus(widen(self.raw_sigma)) if self.trainable_sigma else self.sigma
        return smooth_values(inputs, "leaky_relu", width=sigma, slope=alpha)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        names = ("alpha", "sigma", "trainable_alpha", "trainable_sigma")
        return dict(super().get_config(), **{name: getattr(self, name) for name in names})
