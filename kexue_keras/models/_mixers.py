"""bert4keras models whose attention gives way to another mixing of the tokens.

Article: 也来盘点一些最近的非Transformer工作 (kexue.fm/archives/8431).
"""

import re
from typing import Any, Optional, Type

from bert4keras.layers import MultiHeadAttention
from bert4keras.models import LM_Mask

from kexue_keras import checks
from kexue_keras.backend import register
from kexue_keras.layers.mixing import MIXERS, make_mixer
from kexue_keras.layers.mixing._block import WITHOUT_FEED_FORWARD
from kexue_keras.models._partial_weights import extended_bases
from kexue_keras.types import Transformer

_FEED_FORWARD = re.compile(r"Transformer-\d+-FeedForward(-\w+)?$")


@register
def extend_with_mixer(
    BaseModel: Type[Transformer],
    mixer: str = "gmlp",
    *,
    max_length: Optional[int] = None,
    feed_forward: Optional[bool] = None,
    allow_pretrained: bool = False,
    **options: Any,
) -> Type[Transformer]:
    """Subclass of a bert4keras model class with a token mixer in place of each self-attention.

    Norms and residuals stay where the model has them: LN(x + mix(x)), LN(x + FFN(x)), and matrices start as small as
    the model's others (`kernel_initializer` in the options changes it). RoFormer's rotary positions have
    nothing to act on and are left out.

    Args:
        BaseModel: class, BERT or RoFormer; encoder, `application='lm'` and `'unilm'` work, but for 'fnet', which has
            no such form.
        mixer: 'mlp', 'ffstack', 'resmlp', 'gmlp', 'amlp', 'external', 'fnet', 'aft' or 'conv'.
        max_length: most tokens; None takes the `max_position` of the model.
        feed_forward: whether the feed-forward layers stay; None: yes, but for 'gmlp' and 'amlp', which are both at once
            (with the model's intermediate_size between).
        allow_pretrained: whether checkpoints of ordinary models are loaded: embeddings, norms, feed-forward layers and
            heads are kept, the mixers start fresh.
        **options: more arguments of the mixer's class.

    Returns:
        class for `build_transformer_model(..., model=...)` and `kexue_keras.models.load(..., model=...)`.

    Raises:
        ValueError: BaseModel is no model class of bert4keras; unknown mixer; when the model is built: 'fnet' as lm or
            unilm, attention_caches, residual_attention_scores.

    Reference:
        也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431

    >>> from bert4keras.models import BERT, build_transformer_model
    >>> model = build_transformer_model(
    ...     model=kexue_keras.models.extend_with_mixer(BERT, 'gmlp'), vocab_size=50, hidden_size=16,
    ...     num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, hidden_act='gelu')
    >>> model.output_shape
    (None, None, 16)
    """
    bases = extended_bases(BaseModel, "extend_with_mixer")
    checks.choice(mixer, tuple(sorted(MIXERS)), "mixer", "extend_with_mixer")
    feed_forward = mixer not in WITHOUT_FEED_FORWARD if feed_forward is None else bool(feed_forward)
    allowed = bool(allow_pretrained)

    class MixerModel(*bases):
        """`BaseModel` with a token mixer."""

        technique = "mixer_" + mixer
        allow_pretrained = allowed

        def build(self, attention_caches=None, **kwargs):
            if attention_caches or self.residual_attention_scores:
                raise ValueError(
                    "the mixer %r has no keys, values and attention matrix: attention_caches and "
                    "residual_attention_scores go with attention only" % mixer
                )
            return super(MixerModel, self).build(attention_caches=attention_caches, **kwargs)

        def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
            name = kwargs.get("name") or ""
            if not feed_forward and _FEED_FORWARD.match(name):
                # The whole group (layer, dropout, sum, norm) hands on its first input.
                return inputs[0] if isinstance(inputs, list) else inputs
            if layer is MultiHeadAttention:
                bias = (arguments or {}).get("a_bias")
                if inputs is not None:
                    inputs = [inputs[0], inputs[3]] if bias else inputs[0]
                kwargs, arguments = {"name": name}, None
                layer = self._make_mixer
            return super(MixerModel, self).apply(inputs, layer, arguments, **kwargs)

        def _make_mixer(self, name):
            given = dict(options)
            if mixer != "fnet":
                # As bert4keras starts an attention: what is larger drowns a token in its neighbours, and
                # LN(x + mix(x)) does not find it again.
                given.setdefault("kernel_initializer", self.initializer)
            if mixer in ("mlp", "ffstack", "gmlp", "amlp"):
                given.setdefault("activation", self.hidden_act)
            if mixer == "conv":
                given.setdefault("heads", self.num_attention_heads)
                # A window around the token would be half hidden.
                given.setdefault("causal", isinstance(self, LM_Mask))
            sizes = {"max_length": max_length or self.max_position, "ffn_units": self.intermediate_size}
            return make_mixer(mixer, name=name, **dict(sizes, **given))

        def variable_mapping(self):
            mapping = super(MixerModel, self).variable_mapping()
            for name, names in list(mapping.items()):
                if name.endswith("-MultiHeadSelfAttention"):
                    layer = self.layers.get(self.prefixed(name))
                    prefix = names[0].split("/self/")[0] + "/%s/" % mixer
                    weights = layer.trainable_weights if layer is not None else []
                    mapping[name] = [prefix + w.name.split("/")[-1].split(":")[0] for w in weights]
            return mapping

    return MixerModel
