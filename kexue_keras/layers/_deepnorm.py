"""DeepNorm: residuals x <- LN(alpha x + F(x)), or x <- x + F(LN(x)), with small initial F, for a thousand layers.

Reference: "训练1000层的Transformer究竟有什么困难？", kexue.fm/archives/8978; Wang et al., arXiv 2203.00555.
"""

from collections import namedtuple
from typing import Any, List, Optional, Sequence, Union

from bert4keras.layers import Layer, MultiHeadAttention

from kexue_keras import checks
from kexue_keras.backend import keras, register
from kexue_keras.layers._masking import joined_mask
from kexue_keras.types import Config, Initializer, Mask, Shape, Tensor

DeepNormConstants = namedtuple("DeepNormConstants", "alpha beta")
EncoderDecoderConstants = namedtuple("EncoderDecoderConstants", "encoder decoder")
RULES = ("paper", "sgd", "adam", "lamb")
NORMS = ("post", "pre")


def deepnorm_constants(
    num_hidden_layers: int,
    architecture: str = "encoder",
    num_decoder_layers: Optional[int] = None,
    rule: str = "paper",
    norm: str = "post",
    stream: float = 1.0,
) -> Union[DeepNormConstants, EncoderDecoderConstants]:
    """The two constants of DeepNorm: alpha scales the residual stream, beta the initial V, O and FFN kernels.

    With N layers (2N residual branches), "paper" alpha = (2N)^1/4, beta = (8N)^-1/4. The article's own derivation
    requires that the change of the loss in one step does not grow with N, which depends on the optimizer: "sgd"
    alpha = (2N)^1/4, beta = (2N)^-1/4; "adam" (a step that does not depend on the gradient's size) (2N)^1/2,
    (2N)^-1/2; "lamb" (a step relative to the weight's size, also AdaFactor) 1, (2N)^-1/2.

    Pre-norm models have no LayerNormalization that would normalise a factor away, so alpha is 1, and the
    same conditions give beta = (2N)^-1/2 for "sgd" and "lamb", (2N)^-1 for "adam", if a stream of size 1 enters the
    first layer. With a size s instead of alpha they give s (2N)^-1/2, (s / 2N)^1/2 and s (2N)^-1. The paper has
    no rule for them.

    Args:
        num_hidden_layers: int, N; with shared weights (ALBERT) the number of applications.
        architecture: "encoder", "decoder" (without cross-attention: the same as an encoder), or "encdec".
        num_decoder_layers: int, M, for "encdec".
        rule: "paper", "sgd", "adam" or "lamb". In post-norm models only the paper treats "encdec".
        norm: "post" or "pre".
        stream: number > 0, s, root mean square of what enters the first layer of a pre-norm model.

    Returns:
        namedtuple (alpha, beta); for "encdec" namedtuple (encoder, decoder) of two of them:
        0.81 (N^4 M)^1/16, 0.87 (N^4 M)^-1/16 and (3M)^1/4, (12M)^-1/4; in pre-norm the rule counts the 2N branches of
        the encoder and the 3M of the decoder, each for itself.

    Raises:
        ValueError: numbers of layers not > 0, unknown architecture, rule or norm, "encdec" of post-norm with another
            rule than "paper", that rule for pre-norm, `stream` for post-norm, or `num_decoder_layers` missing or
            superfluous.

    Reference: kexue.fm/archives/8978; arXiv 2203.00555.

    >>> [round(c, 4) for c in kexue_keras.layers.deepnorm_constants(1000)]
    [6.6874, 0.1057]
    >>> [round(c, 4) for c in kexue_keras.layers.deepnorm_constants(12, rule="adam")]
    [4.899, 0.2041]
    >>> [round(c, 4) for c in kexue_keras.layers.deepnorm_constants(12, rule="adam", norm="pre")]
    [1.0, 0.0417]
    """
    name = "deepnorm_constants"
    n = checks.whole_number(num_hidden_layers, "num_hidden_layers", name, least=1)
    checks.choice(architecture, ("encoder", "decoder", "encdec"), "architecture", name)
    checks.choice(rule, RULES, "rule", name)
    checks.choice(norm, NORMS, "norm", name)
    stream = checks.number(stream, "stream", name, above=0)
    if norm == "post" and stream != 1:
        raise ValueError("%s: stream=%r is for norm='pre'; post-norm models normalise it away" % (name, stream))
    if norm == "pre" and rule == "paper":
        raise ValueError("%s: rule='paper' is for post-norm models; give rule='adam', 'sgd' or 'lamb'" % name)
    if architecture == "encdec":
        if num_decoder_layers is None:
            raise ValueError("%s: architecture='encdec' needs num_decoder_layers" % name)
        m = checks.whole_number(num_decoder_layers, "num_decoder_layers", name, least=1)
        if norm == "pre":
            return EncoderDecoderConstants(_pre_norm(rule, 2.0 * n, stream), _pre_norm(rule, 3.0 * m, stream))
        if rule != "paper":
            raise ValueError("%s: only rule='paper' knows architecture='encdec', not rule=%r" % (name, rule))
        size = (n**4 * m) ** (1 / 16)
        return EncoderDecoderConstants(
            DeepNormConstants(0.81 * size, 0.87 / size), DeepNormConstants((3 * m) ** 0.25, (12 * m) ** -0.25)
        )
    if num_decoder_layers is not None:
        raise ValueError(
            "%s: num_decoder_layers=%r is for architecture='encdec', not %r" % (name, num_decoder_layers, architecture)
        )
    branches = 2.0 * n
    return _pre_norm(rule, branches, stream) if norm == "pre" else _post_norm(rule, branches)


def _post_norm(rule, branches):
    return DeepNormConstants(
        *{
            "paper": (branches**0.25, (4 * branches) ** -0.25),
            "sgd": (branches**0.25, branches**-0.25),
            "adam": (branches**0.5, branches**-0.5),
            "lamb": (1.0, branches**-0.5),
        }[rule]
    )


def _pre_norm(rule, branches, stream):
    betas = {"sgd": stream * branches**-0.5, "adam": stream / branches, "lamb": (stream / branches) ** 0.5}
    return DeepNormConstants(1.0, betas[rule])


@register
class DeepNormAdd(Layer):
    """The residual connection of DeepNorm: alpha x + F, instead of `Add`, before the LayerNormalization.

    Args:
        alpha: number >= 0; 1 is the ordinary residual, exactly.

    Call arguments:
        list [x, F] of two tensors of one shape, the stream and the branch.

    Returns:
        tensor of that shape. The mask is that of both, as of `Add`.

    Raises:
        ValueError: alpha negative, or not two inputs.

    Reference: kexue.fm/archives/8978; arXiv 2203.00555.

    >>> x, f = K.constant([[1.0, 2.0]]), K.constant([[0.5, 0.5]])
    >>> K.eval(kexue_keras.layers.DeepNormAdd(3.0)([x, f])).tolist()
    [[3.5, 6.5]]
    """

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alpha = checks.number(alpha, "alpha", "DeepNormAdd", least=0)

    def build(self, input_shape: List[Shape]) -> None:
        if not isinstance(input_shape, list) or len(input_shape) != 2:
            raise ValueError("DeepNormAdd takes a list of two tensors, [x, F(x)], but got shapes %s" % (input_shape,))
        super().build(input_shape)

    def call(self, inputs: List[Tensor]) -> Tensor:
        x, branch = inputs
        return self.alpha * x + branch

    def compute_mask(self, inputs: List[Tensor], mask: Mask = None) -> Mask:
        return joined_mask(mask)

    def compute_output_shape(self, input_shape: List[Shape]) -> Shape:
        return input_shape[0]

    def get_config(self) -> Config:
        return dict(super().get_config(), alpha=self.alpha)


@register
class GainInitializer(keras.initializers.Initializer):
    """Another initializer, multiplied by a gain.

    Args:
        gain: number >= 0, such as DeepNorm's beta.
        base: what is multiplied: name, config or instance of a Keras initializer.

    Raises:
        ValueError: gain negative, or an unknown base.

    Reference: kexue.fm/archives/8978.

    >>> half = kexue_keras.layers.GainInitializer(0.5, base="ones")
    >>> K.eval(half((2,))).tolist()
    [0.5, 0.5]
    """

    def __init__(self, gain: float = 1.0, *, base: Initializer = "glorot_normal") -> None:
        self.gain = checks.number(gain, "gain", "GainInitializer", least=0)
        self.base = keras.initializers.get(base)

    def __call__(self, shape: Sequence[int], dtype: Any = None, **kwargs: Any) -> Tensor:
        # Keras 2.3.1's glorot_normal refuses to find out what None means.
        values = self.base(shape, dtype=dtype or keras.backend.floatx())
        return self.gain * values

    def get_config(self) -> Config:
        return {"gain": self.gain, "base": keras.initializers.serialize(self.base)}


def set_gain(attention, gain, base="glorot_normal"):
    """Give the value and output kernels of a built attention layer, before its first call, a gain.

    Args:
        attention: `bert4keras.layers.MultiHeadAttention` or a subclass; kernels that it does not have are passed over.
        gain: number >= 0.
        base: initializer that is multiplied.

    Scores that the layer does not divide by the root of the head's size (T5) would start as large as that root, so Q
    starts smaller by it.
    """
    if not attention.attention_scale and getattr(attention, "q_dense", None) is not None:
        attention.q_dense.kernel_initializer = GainInitializer(attention.key_size**-0.5, base=base)
    for dense in ("v_dense", "o_dense"):
        if getattr(attention, dense, None) is not None:
            getattr(attention, dense).kernel_initializer = GainInitializer(gain, base=base)


@register
class DeepNormAttention(MultiHeadAttention):
    """bert4keras' attention whose value and output kernels start with a gain; query and key start without.

    bert4keras has one `kernel_initializer` for all four. It is the base here: V and O start from gain times it.

    Args:
        *args, **kwargs: as for `bert4keras.layers.MultiHeadAttention`.
        gain: number >= 0, DeepNorm's beta.

    Raises:
        ValueError: gain negative.

    Reference: kexue.fm/archives/8978; arXiv 2203.00555.

    >>> layer = kexue_keras.layers.DeepNormAttention(2, 8, gain=0.5)
    >>> layer.get_config()["gain"]
    0.5
    """

    def __init__(self, *args: Any, gain: float = 1.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = checks.number(gain, "gain", "DeepNormAttention", least=0)

    def build(self, input_shape: List[Shape]) -> None:
        super().build(input_shape)
        set_gain(self, self.gain, self.kernel_initializer)

    def get_config(self) -> Config:
        return dict(super().get_config(), gain=self.gain)
