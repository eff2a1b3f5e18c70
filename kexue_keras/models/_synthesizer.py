"""bert4keras models with Synthesizer attention.

Article: Google新作Synthesizer：我们还不够了解自注意力 (kexue.fm/archives/7430). Paper: arXiv 2005.00743.
"""

from typing import Optional, Sequence, Tuple, Type, Union

from bert4keras.layers import MultiHeadAttention

from kexue_keras.backend import register
from kexue_keras.layers._synthesizer import SynthesizerAttention
from kexue_keras.models._partial_weights import extended_bases
from kexue_keras.types import Transformer


@register
def extend_with_synthesizer(
    BaseModel: Type[Transformer],
    *,
    variants: Union[str, Sequence[str]] = ("dense", "vanilla"),
    max_length: Optional[int] = None,
    rank: int = 8,
    factors: Optional[Tuple[int, int]] = None,
    seed: int = 0,
    allow_pretrained: bool = False,
) -> Type[Transformer]:
    """Subclass of a bert4keras model class whose attentions are `SynthesizerAttention`.

    Args:
        BaseModel: class, BERT or RoFormer; encoder, `application='lm'` and `'unilm'` work. Without the variant
            'vanilla' RoFormer's rotary positions have nothing to act on and are left out.
        variants, rank, factors: see `SynthesizerAttention`.
        max_length: most tokens; None takes the `max_position` of the model.
        seed: of the first layer's `fixed_random`; layer i has seed + i.
        allow_pretrained: whether checkpoints of ordinary models are loaded (embeddings, values and outputs of the
            attention, feed-forward layers, with 'vanilla' also queries and keys are kept; the rest starts fresh).

    Returns:
        class for `build_transformer_model(..., model=...)` and `kexue_keras.models.load(..., model=...)`. With
        variants='vanilla' it computes what `BaseModel` does, and loads its checkpoints.

    Raises:
        ValueError: BaseModel is no model class of bert4keras; unknown variants; when the model is built with
            attention_caches and a variant whose logits depend on the query's position.

    Reference:
        Google新作Synthesizer：我们还不够了解自注意力, kexue.fm/archives/7430; arXiv 2005.00743

    >>> from bert4keras.models import BERT, build_transformer_model
    >>> model = build_transformer_model(
    ...     model=kexue_keras.models.extend_with_synthesizer(BERT, variants='random'), vocab_size=50, hidden_size=16,
    ...     num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, hidden_act='gelu')
    >>> model.output_shape
    (None, None, 16)
    """
    bases = extended_bases(BaseModel, "extend_with_synthesizer")
    options = {"variants": variants, "rank": rank, "factors": factors}
    variants = SynthesizerAttention(1, 2, max_length=max_length or 1, seed=0, **options).variants
    allowed = bool(allow_pretrained)

    class SynthesizerModel(*bases):
        """`BaseModel` with Synthesizer attention."""

        technique = "synthesizer"
        allow_pretrained = allowed
        changes_function = variants != ("vanilla",)

        def build(self, attention_caches=None, **kwargs):
            positional = [k for k in variants if k in ("random", "fixed_random", "factorized_random")]
            if attention_caches and positional:
                raise ValueError(
                    "attention_caches give the queries without their positions, which %s needs; decode without a cache"
                    % ", ".join(positional)
                )
            return super(SynthesizerModel, self).build(attention_caches=attention_caches, **kwargs)

        def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
            if layer is MultiHeadAttention:
                layer = SynthesizerAttention
                made = len([v for v in self.layers.values() if isinstance(v, SynthesizerAttention)])
                kwargs.update(options, max_length=max_length or self.max_position, seed=seed + made)
                if self.residual_attention_scores:
                    kwargs["return_attention_scores"] = True
                if "vanilla" not in variants and (arguments or {}).get("p_bias"):
                    inputs = inputs and inputs[:-1]
                    arguments = {k: v for k, v in arguments.items() if k != "p_bias"}
            return super(SynthesizerModel, self).apply(inputs, layer, arguments, **kwargs)

        def variable_mapping(self):
            mapping = super(SynthesizerModel, self).variable_mapping()
            for name, names in list(mapping.items()):
                layer = self.layers.get(self.prefixed(name))
                if isinstance(layer, SynthesizerAttention) and layer.built:
                    mapping[name] = _names(layer, names)
            return mapping

    return SynthesizerModel


def _names(layer, names):
    """Names of the layer's variables in the checkpoint, in the order of its weights."""
    given, parts = {}, ["q_dense", "k_dense", "v_dense", "o_dense"]
    each = len(names) // len(parts)
    for i, part in enumerate(parts):
        if hasattr(layer, part):
            weights = getattr(layer, part).weights
            given.update({id(w): n for w, n in zip(weights, names[each * i : each * (i + 1)])})
    prefix = names[0].split("/self/")[0] + "/synthesizer/"
    own = {id(value): name for name, value in vars(layer).items() if name.startswith("synthesizer_")}
    return [given.get(id(w)) or prefix + own[id(w)][len("synthesizer_") :] for w in layer.trainable_weights]
