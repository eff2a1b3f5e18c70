"""bert4keras models with the scale log n in their attention.

Articles: 从熵不变性看Attention的Scale操作 (kexue.fm/archives/8823), 熵不变性Softmax的一个快速推导 (kexue.fm/archives/9034).
"""

from typing import Optional, Type

from bert4keras.layers import MultiHeadAttention

from kexue_keras.backend import register
from kexue_keras.layers._entropy_invariant_attention import EntropyInvariantAttention
from kexue_keras.models._partial_weights import extended_bases
from kexue_keras.types import Transformer


@register
def extend_with_entropy_invariance(
    BaseModel: Type[Transformer],
    *,
    kappa: Optional[float] = None,
    base: float = 512,
    min_length: float = 16,
    allow_pretrained: bool = False,
) -> Type[Transformer]:
    """Subclass of a bert4keras model class whose attentions are `EntropyInvariantAttention`.

    At `base` tokens it computes what `BaseModel` does; weights and their names are the same.

    Args:
        BaseModel: class, such as BERT or RoFormer; encoder, `application='lm'` and `'unilm'` work.
        kappa, base, min_length: see `EntropyInvariantAttention`.
        allow_pretrained: whether checkpoints of ordinary models are loaded (all variables are kept; the outputs differ
            at lengths other than `base`, so train it further).

    Returns:
        class for `build_transformer_model(..., model=...)` and `kexue_keras.models.load(..., model=...)`.

    Raises:
        ValueError: BaseModel is no model class of bert4keras.

    Reference:
        从熵不变性看Attention的Scale操作, kexue.fm/archives/8823

    >>> from bert4keras.models import RoFormer, build_transformer_model
    >>> model = build_transformer_model(
    ...     model=kexue_keras.models.extend_with_entropy_invariance(RoFormer), vocab_size=50, hidden_size=16,
    ...     num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, hidden_act='gelu')
    >>> model.output_shape
    (None, None, 16)
    """
    bases = extended_bases(BaseModel, "extend_with_entropy_invariance")
    scale = {"kappa": kappa, "base": base, "min_length": min_length}
    EntropyInvariantAttention(1, 2, **scale)
    allowed = bool(allow_pretrained)

    class EntropyInvariantModel(*bases):
        """`BaseModel` with entropy-invariant attention."""

        technique = "entropy_invariance"
        allow_pretrained = allowed

        def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
            if layer is MultiHeadAttention:
                layer = EntropyInvariantAttention
                kwargs.update(scale)
                # bert4keras asks for its own class by identity here.
                if self.residual_attention_scores:
                    kwargs["return_attention_scores"] = True
            return super(EntropyInvariantModel, self).apply(inputs, layer, arguments, **kwargs)

    return EntropyInvariantModel
