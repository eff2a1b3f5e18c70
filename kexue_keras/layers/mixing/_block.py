"""A whole layer of a network without attention: token mixing and channel mixing, each with norm and residual.

Article: 也来盘点一些最近的非Transformer工作 (kexue.fm/archives/8431).
"""

from typing import Any, Dict, Optional

import tensorflow as tf
from bert4keras.layers import FeedForward, LayerNormalization

from kexue_keras import checks
from kexue_keras.backend import keras, register
from kexue_keras.layers._masking import first_shape, last_dimension
from kexue_keras.layers.mixing._aft import AFT
from kexue_keras.layers.mixing._conv import ConvMixer1D
from kexue_keras.layers.mixing._external import ExternalAttention
from kexue_keras.layers.mixing._fnet import FNet
from kexue_keras.layers.mixing._gmlp import AMLP, GMLP
from kexue_keras.layers.mixing._resmlp import Affine, LinearTokenMixing
from kexue_keras.layers.mixing._token_mlp import FFStack, TokenMixingMLP
from kexue_keras.types import Activation, Config, Layer, Mask, Shape, Shapes, Tensor, Tensors

MIXERS = {
    "mlp": TokenMixingMLP,
    "ffstack": FFStack,
    "resmlp": LinearTokenMixing,
    "gmlp": GMLP,
    "amlp": AMLP,
    "external": ExternalAttention,
    "fnet": FNet,
    "aft": AFT,
    "conv": ConvMixer1D,
}
# These mix channels themselves.
WITHOUT_FEED_FORWARD = ("gmlp", "amlp")


def make_mixer(
    mixer: str, *, max_length: Optional[int], ffn_units: int, name: Optional[str] = None, **options: Any
) -> Layer:
    """The layer of a mixer's name with what it needs of `max_length` and `ffn_units`; more options as in its class.

    Raises:
        ValueError: unknown name.
    """
    cls = MIXERS[checks.choice(mixer, tuple(sorted(MIXERS)), "mixer", name or "make_mixer")]
    if mixer not in ("external", "fnet", "conv"):
        if max_length is None:
            raise ValueError("the mixer %r has weights for each position; give max_length" % mixer)
        options.setdefault("max_length", max_length)
    if mixer == "mlp":
        options.setdefault("token_units", options["max_length"])
    if mixer in WITHOUT_FEED_FORWARD:
        options.setdefault("ffn_units", ffn_units)
    return cls(name=name, **options)


@register
class MixerBlock(keras.layers.Layer):
    r"""$z = x + \mathrm{mix}(\mathrm{LN}(x)),\ y = z + \mathrm{FFN}(\mathrm{LN}(z))$.

    gMLP and aMLP mix channels themselves: their block is the first half. ResMLP's (`mixer='resmlp'`) has an affine map
    for each LN and another, small one on each branch: z = x + Aff(W Aff(x)), y = z + Aff(FFN(Aff(z))).

    Args:
        mixer: 'mlp', 'ffstack', 'resmlp', 'gmlp', 'amlp', 'external', 'fnet', 'aft' or 'conv'.
        ffn_units: hidden units of the channel mixing.
        max_length: most tokens (not for 'external', 'fnet' and 'conv').
        activation: of the channel mixing.
        dropout_rate: rate after each of the two.
        scale: where ResMLP's maps on the branches start; 0.1 up to 18 layers, 1e-5 up to 24, 1e-6 beyond.
        options: dict of more arguments of the mixer's class, such as `{'causal': True}`.

    Inputs: `[b, n, d]`, mask `[b, n]`; or `[x, allowed]`.

    Returns:
        `[b, n, d]`.

    Raises:
        ValueError: unknown mixer, max_length missing; what the mixer raises.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431

    >>> x = keras.layers.Input((None, 16))
    >>> y = kexue_keras.layers.mixing.MixerBlock('gmlp', 64, max_length=32)(x)
    >>> y = kexue_keras.layers.mixing.MixerBlock('resmlp', 64, max_length=32)(y)
    >>> K.int_shape(y)
    (None, None, 16)
    """

    def __init__(
        self,
        mixer: str,
        ffn_units: int,
        *,
        max_length: Optional[int] = None,
        activation: Activation = "gelu",
        dropout_rate: float = 0.0,
        scale: float = 0.1,
        options: Optional[Dict[str, Any]] = None,
        **kwargs: Any,
    ) -> None:
        super(MixerBlock, self).__init__(**kwargs)
        self.supports_masking = True
        self.mixer, self.max_length, self.scale = mixer, max_length, scale
        self.ffn_units = checks.whole_number(ffn_units, "ffn_units", self.name, least=1)
        self.activation = keras.activations.get(activation)
        self.dropout_rate = checks.number(dropout_rate, "dropout_rate", self.name, least=0, below=1)
        self.options = dict(options or {})
        # Made here, so that a wrong name or option is reported at once.
        self.mixing = self._mixer()

    def _mixer(self):
        options = dict(self.options)
        if self.mixer in ("mlp", "ffstack") + WITHOUT_FEED_FORWARD:
            options.setdefault("activation", self.activation)
        return make_mixer(self.mixer, max_length=self.max_length, ffn_units=self.ffn_units, **options)

    def build(self, input_shape: Shapes) -> None:
        last_dimension(input_shape, self.name)
        self.norms, self.scales = [], []
        self.has_ffn = self.mixer not in WITHOUT_FEED_FORWARD
        for i in range(1 + self.has_ffn):
            if self.mixer == "resmlp":
                norm, scale = Affine(), Affine(scale=self.scale)
            else:
                norm, scale = LayerNormalization(epsilon=1e-6), None
            # Attributes one by one: Keras 2.3.1 does not find layers in lists.
            setattr(self, "norm_%d" % i, norm)
            setattr(self, "scale_%d" % i, scale)
        if self.has_ffn:
            self.ffn = FeedForward(self.ffn_units, activation=self.activation)
        if self.dropout_rate:
            self.drop = keras.layers.Dropout(self.dropout_rate)
        super(MixerBlock, self).build(input_shape)

    def call(self, inputs: Tensors, mask: Mask = None) -> Tensor:
        allowed = []
        if isinstance(inputs, (list, tuple)):
            inputs, allowed = inputs[0], [inputs[1]]
            mask = mask[0] if isinstance(mask, (list, tuple)) else mask
        normed = self.norm_0(inputs)
        mixed = self._mix([normed] + allowed if allowed else normed, mask)
        x = inputs + self._branch(mixed, 0)
        return x + self._branch(self.ffn(self.norm_1(x)), 1) if self.has_ffn else x

    def _mix(self, inputs, mask):
        if isinstance(inputs, list):
            return self.mixing(inputs, mask=[mask, None])
        return self.mixing(inputs, mask=mask)

    def _branch(self, y, i):
        scale = getattr(self, "scale_%d" % i)
        y = y if scale is None else scale(y)
        return self.drop(y) if self.dropout_rate else tf.identity(y)

    def compute_mask(self, inputs: Tensors, mask: Mask = None) -> Mask:
        return mask[0] if isinstance(mask, (list, tuple)) else mask

    def compute_output_shape(self, input_shape: Shapes) -> Shape:
        return tuple(first_shape(input_shape))

    def get_config(self) -> Config:
        return dict(
            super(MixerBlock, self).get_config(),
            mixer=self.mixer,
            ffn_units=self.ffn_units,
            max_length=self.max_length,
            activation=keras.activations.serialize(self.activation),
            dropout_rate=self.dropout_rate,
            scale=self.scale,
            options=self.options,
        )


@register
class ResMLP(MixerBlock):
    r"""A layer of ResMLP: z = x + Aff(W Aff(x)), y = z + Aff(MLP(Aff(z))).

    The outer maps start at `scale` and 0; with a scale of 0 the layer is the identity.

    Args:
        ffn_units: hidden units of the channel mixing.
        max_length, activation, dropout_rate, scale, options: see `MixerBlock`.

    Inputs: `[b, n, d]`, mask `[b, n]`; or `[x, allowed]`.

    Raises:
        ValueError: see `MixerBlock`.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431; arXiv 2105.03404

    >>> K.int_shape(kexue_keras.layers.mixing.ResMLP(64, max_length=32)(keras.layers.Input((None, 16))))
    (None, None, 16)
    """

    def __init__(self, ffn_units: int, *, max_length: int, **kwargs: Any) -> None:
        super(ResMLP, self).__init__("resmlp", ffn_units, max_length=max_length, **kwargs)

    def get_config(self) -> Config:
        config = super(ResMLP, self).get_config()
        config.pop("mixer")
        return config
