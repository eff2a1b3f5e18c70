"""bert4keras transformers with DeepNorm residuals and its initial values.

Reference: "训练1000层的Transformer究竟有什么困难？", kexue.fm/archives/8978; Wang et al., arXiv 2203.00555.
"""

from typing import Optional, Type

from bert4keras.layers import Add, FeedForward, MultiHeadAttention
from bert4keras.models import GPT2, GPT2_ML, T5_Base, T5_Decoder, Transformer

from kexue_keras import checks
from kexue_keras.backend import K
from kexue_keras.layers._deepnorm import DeepNormAdd, DeepNormAttention, GainInitializer, deepnorm_constants, set_gain
from kexue_keras.models._partial_weights import extended_bases

PRE_NORM = (GPT2, T5_Base)


def extend_with_deepnorm(
    BaseModel: Type[Transformer],
    *,
    rule: Optional[str] = None,
    alpha: Optional[float] = None,
    beta: Optional[float] = None,
    stream: float = 1.0,
    allow_pretrained: bool = False,
) -> Type[Transformer]:
    """A model class like `BaseModel` with DeepNorm, for `build_transformer_model(..., model=...)`.

    x <- LN(alpha x + F(x)); V, O and both FFN kernels start from beta times Xavier, Q and K from Xavier, instead of
    bert4keras' truncated normal of 0.02. Weights have the same names and shapes as those of `BaseModel`.

    Pre-norm models, x <- x + F(LN(x)), have alpha 1, so only their initial values change. The rule takes their stream
    to start at size 1; bert4keras starts embeddings at 0.0176 (a truncated normal of 0.02), so that what enters a GPT2
    has 0.025 and a T5 0.0176: give that as `stream`, or set the embeddings. Attention that does not divide its scores
    by the root of the head's size (T5) has that in Q's initial values.

    Args:
        BaseModel: a class of bert4keras, post-norm (BERT, RoFormer, NEZHA, ALBERT, ...) or pre-norm (GPT2, T5,
            T5_Encoder, T5_Decoder), or one that was extended.
        rule: str, see `deepnorm_constants`; N is the configured number of layers. None: "paper"; for pre-norm, which
            the paper has no rule for, "adam".
        alpha, beta: numbers that replace the rule's. With both 1 it is the plain post-norm model with Xavier kernels.
        stream: number > 0, see `deepnorm_constants`; for pre-norm models.
        allow_pretrained: whether checkpoints of ordinary models are loaded. All variables are kept, but with alpha != 1
            they make another function, so train it further.

    Returns:
        class for `build_transformer_model(..., model=...)` and `kexue_keras.models.load(..., model=...)`, whose
        constructor takes `allow_pretrained` too.

    Raises:
        ValueError: GPT2_ML, an unknown rule, "paper" or an alpha other than 1 for pre-norm, `stream` for post-norm, or
            a negative alpha or beta.

    Reference: kexue.fm/archives/8978.

    >>> from bert4keras.models import BERT, GPT2, build_transformer_model
    >>> config = dict(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    >>> deep = kexue_keras.models.extend_with_deepnorm(BERT)
    >>> model = build_transformer_model(model=deep, hidden_act="gelu", **config)
    >>> round(model.get_layer("Transformer-1-FeedForward-Add").alpha, 4)
    1.4142
    >>> deep = kexue_keras.models.extend_with_deepnorm(GPT2, rule="sgd")
    >>> build_transformer_model(model=deep, hidden_act="gelu", return_keras_model=False, **config).beta
    0.5
    """
    bases = extended_bases(BaseModel, "extend_with_deepnorm")
    if issubclass(BaseModel, GPT2_ML):
        raise ValueError(
            "extend_with_deepnorm: %r has one LayerNormalization for two branches, neither post-norm nor pre-norm, so "
            "no rule fits; take bert4keras.models.GPT, or GPT2" % (BaseModel,)
        )
    norm = "pre" if issubclass(BaseModel, PRE_NORM) else "post"
    rule = rule if rule is not None else {"post": "paper", "pre": "adam"}[norm]
    deepnorm_constants(1, rule=rule, norm=norm, stream=stream)
    for name, value in (("alpha", alpha), ("beta", beta)):
        if value is not None:
            checks.number(value, name, "extend_with_deepnorm", least=0)
    if norm == "pre" and alpha is not None and alpha != 1:
        raise ValueError(
            "extend_with_deepnorm: alpha is %r, but %s is pre-norm, where the stream would grow with every layer; "
            "leave alpha out, or give beta" % (alpha, BaseModel.__name__)
        )

    allowed = bool(allow_pretrained)
    base_changes = getattr(BaseModel, "changes_function", False)

    class DeepNorm(*bases):
        """`BaseModel` with alpha in its residuals and beta in its initial values."""

        technique = "deepnorm"
        allow_pretrained = allowed

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.set_constants()
            # T5 is an encoder and a decoder, made in here.
            for part in vars(self).values():
                if isinstance(part, Transformer):
                    part.__class__ = extend_with_deepnorm(type(part), rule=rule, beta=beta, stream=stream)
                    part.set_constants()

        def set_constants(self):
            constants = _constants(self, rule=rule, norm=norm, stream=stream)
            self.alpha = constants.alpha if alpha is None else float(alpha)
            self.beta = constants.beta if beta is None else float(beta)
            self.changes_function = base_changes or self.alpha != 1

        def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
            name = kwargs.get("name") or ""
            if norm == "post" and layer is Add and name.endswith(("Attention-Add", "FeedForward-Add")):
                layer, kwargs["alpha"] = DeepNormAdd, self.alpha
            elif isinstance(layer, type) and issubclass(layer, FeedForward):
                kwargs["kernel_initializer"] = GainInitializer(self.beta)
            elif isinstance(layer, type) and issubclass(layer, MultiHeadAttention):
                kwargs["kernel_initializer"] = GainInitializer(1.0)
                if inputs is not None and self.prefixed(name) not in self.layers:
                    self._make_attention(inputs, layer, arguments, kwargs)
            return super().apply(inputs, layer, arguments, **kwargs)

        def _make_attention(self, inputs, layer, arguments, kwargs):
            # Another extension below may put its own class here, so the layer is made before it is looked at.
            made = super().apply(None, layer, arguments, **kwargs)
            if type(made) is MultiHeadAttention:
                made = DeepNormAttention.from_config(dict(made.get_config(), gain=self.beta))
                self.layers[made.name] = made
            elif isinstance(made, MultiHeadAttention) and not made.built:
                with K.name_scope(made.name):
                    made.build([K.int_shape(x) for x in inputs])
                set_gain(made, self.beta)

    return DeepNorm


def _constants(transformer, **options):
    layers = transformer.num_hidden_layers
    if isinstance(transformer, T5_Decoder):  # three branches a layer
        return deepnorm_constants(layers, "encdec", layers, **options).decoder
    return deepnorm_constants(layers, **options)
