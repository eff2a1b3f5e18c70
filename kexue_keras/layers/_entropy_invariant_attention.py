"""Attention whose entropy does not grow with the length: the scale log n.

Articles: 从熵不变性看Attention的Scale操作 (kexue.fm/archives/8823), 熵不变性Softmax的一个快速推导 (kexue.fm/archives/9034).
Related paper: arXiv 2202.12172.
"""

import math
from typing import Any, List, Optional, Tuple

import tensorflow as tf
from bert4keras.layers import MultiHeadAttention, apply_rotary_position_embeddings

from kexue_keras import checks
from kexue_keras.backend import K, keras, register, widen
from kexue_keras.layers._masking import attend, bias_visibility, four_axes, visible_keys
from kexue_keras.types import Config, Mask, Tensor, TensorLike


def _check(base, min_length, owner):
    checks.number(base, "base", owner, above=1, remedy="it is the length at which the scale is the usual one")
    checks.number(min_length, "min_length", owner, least=2, remedy="below 2 the scale log(min_length) would be 0")


def _scale(lengths, log_base, min_length):
    return tf.math.log(tf.maximum(lengths, float(min_length))) / log_base


@register
def entropy_invariant_scale(mask: Tensor, *, base: float = 512, min_length: float = 16) -> Tensor:
    r"""Factor of the logits of each row: $\log(\max(l, l_{min})) / \log(base)$, l the number of visible keys in it.

    Args:
        mask: bool `[..., k]`, True where a key is visible; or a float bias that is added to logits, of which what is
            above -1e4 counts as visible.
        base: length at which the factor is 1.
        min_length: shorter rows count as this long.

    Returns:
        float32 `[..., 1]`.

    Raises:
        ValueError: base <= 1, min_length < 2, an integer mask.

    Reference:
        从熵不变性看Attention的Scale操作, kexue.fm/archives/8823

    >>> mask = np.arange(1024)[None] < np.array([[5], [64], [512], [1024]])
    >>> [round(float(x), 4) for x in K.eval(kexue_keras.layers.entropy_invariant_scale(mask))[:, 0]]
    [0.4444, 0.6667, 1.0, 1.1111]
    """
    _check(base, min_length, "entropy_invariant_scale")
    visible = bias_visibility(tf.convert_to_tensor(mask), "entropy_invariant_scale")
    return _scale(tf.reduce_sum(tf.cast(visible, tf.float32), axis=-1, keepdims=True), math.log(base), min_length)


@register
class EntropyInvariantAttention(MultiHeadAttention):
    r"""Multi-head attention with a scale that follows the length.

    $$A = \mathrm{softmax}\Big(\frac{\log\max(l, l_{min})}{\log base}\,\frac{QK^\top}{\sqrt d}\Big)$$

    l is the number of keys that the row sees, counted from padding, causal, UniLM and other masks; position biases
    and float biases are scaled like the product. A row that sees nothing gives zeros (before the output's bias).
    A drop-in for bert4keras' `MultiHeadAttention`: same inputs, weights and call arguments.

    Args:
        heads, head_size, out_dim, key_size, use_bias, attention_scale, attention_dropout, return_attention_scores,
            kernel_initializer: as in bert4keras. The scores returned are without the factor, as there.
        kappa: if given, the scale is kappa log(l) / d, with d=key_size, instead of the one with base.
        base: length at which the scale is the usual one.
        min_length: shorter rows count as this long.

    Raises:
        ValueError: base <= 1, min_length < 2, kappa <= 0, kappa without attention_scale, a bias of the wrong rank.

    Reference:
        从熵不变性看Attention的Scale操作, kexue.fm/archives/8823; 熵不变性Softmax的一个快速推导, kexue.fm/archives/9034

    >>> x = keras.layers.Input((None, 32))
    >>> K.int_shape(kexue_keras.layers.EntropyInvariantAttention(heads=4, head_size=8)([x, x, x]))
    (None, None, 32)
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        *,
        kappa: Optional[float] = None,
        base: float = 512,
        min_length: float = 16,
        **kwargs: Any,
    ) -> None:
        _check(base, min_length, type(self).__name__)
        super(EntropyInvariantAttention, self).__init__(heads, head_size, **kwargs)
        if kappa is not None:
            checks.number(kappa, "kappa", type(self).__name__, above=0)
        if kappa is not None and not self.attention_scale:
            raise ValueError("kappa=%r is the whole scale, so it cannot go with attention_scale=False" % (kappa,))
        if self.normalization != "softmax":
            raise ValueError("normalization is %r; this layer brings its own, leave it out" % (self.normalization,))
        self.kappa, self.base, self.min_length = kappa, base, min_length

    @property
    def _log_base(self):
        return math.log(self.base) if self.kappa is None else math.sqrt(self.key_size) / self.kappa

    def pay_attention_to(self, inputs: List[Tensor], mask: Mask = None, **kwargs: Any) -> Tuple[Tensor, Tensor]:
        """As in bert4keras; the factor goes into the queries, which are smaller than the attention matrix."""
        (qw, kw, vw), rest = inputs[:3], list(inputs[3:])
        bias = rest.pop(0) if kwargs.get("a_bias") else None
        p_bias = kwargs.get("p_bias")
        position_bias = rest.pop(0) if p_bias else None
        if p_bias == "rotary":
            qw, kw = apply_rotary_position_embeddings(position_bias, qw, kw)
        visible = visible_keys(mask[1] if mask else None, bias, self.name)
        if visible is None:
            factor = _scale(tf.cast(tf.shape(kw)[1:2], tf.float32), self._log_base, self.min_length)[
                :, None, None, None
            ]
        else:
            lengths = tf.reduce_sum(tf.cast(visible, tf.float32), axis=-1, keepdims=True)
            factor = _scale(lengths, self._log_base, self.min_length)
        root = self.key_size**0.5 if self.attention_scale else 1.0
        wide_q = widen(qw)
        factor = tf.cast(factor, wide_q.dtype)
        qw = tf.cast(wide_q * tf.transpose(factor / root, [0, 2, 1, 3]), qw.dtype)
        logits = tf.einsum("bjhd,bkhd->bhjk", qw, kw)
        if p_bias == "typical_relative":
            logits += tf.einsum("bjhd,jkd->bhjk", qw, position_bias)
        logits = widen(logits)
        if p_bias == "t5_relative":
            logits += factor / root * widen(tf.transpose(position_bias, [2, 0, 1]))[None]
        scores = tf.cast(logits / factor, kw.dtype) if self.return_attention_scores else None
        if bias is not None and bias.dtype != tf.bool:
            logits += factor * widen(four_axes(bias, self.name))
        dropout = keras.layers.Dropout(self.attention_dropout) if self.attention_dropout else None
        output, attention, kept = attend(logits, visible, vw, dropout)
        if p_bias == "typical_relative":
            relative = tf.einsum("bhjk,jkd->bjhd", attention, position_bias)
            output += relative if kept is None else relative * kept
        return output, scores

    def get_config(self) -> Config:
        config = super(EntropyInvariantAttention, self).get_config()
        return dict(config, kappa=self.kappa, base=self.base, min_length=self.min_length)


@register
def attention_entropy(attention: TensorLike, *, mask: Optional[Tensor] = None, from_logits: bool = False) -> Tensor:
    r"""Entropy of each row of an attention matrix, $-\sum_k a_k \log a_k$, in nats.

    Args:
        attention: `[..., k]` probabilities, e.g. `[b, h, q, k]`; with `from_logits`, logits.
        mask: bool, None, or `[b, k]` for the padding of four axes, or anything that broadcasts to `attention`; hidden
            keys do not count, and what is left is made to sum to 1.
        from_logits: whether `attention` still has to go through a softmax.

    Returns:
        `attention.shape[:-1]`, float32 (float64 if the input is): 0 for a row that sees one key or none.

    Raises:
        ValueError: a mask whose rank does not fit.

    Reference:
        从熵不变性看Attention的Scale操作, kexue.fm/archives/8823

    >>> even = np.full((1, 1, 2, 4), 0.25)
    >>> entropy = K.eval(kexue_keras.layers.attention_entropy(even, mask=np.array([[True, True, False, False]])))
    >>> entropy.round(6).tolist()
    [[[0.693147, 0.693147]]]
    """
    attention = widen(attention)
    if mask is None:
        mask = tf.ones_like(attention, dtype=tf.bool)
    else:
        mask = bias_visibility(tf.convert_to_tensor(mask), "attention_entropy")
        if K.ndim(attention) == 4:
            mask = visible_keys(mask, None, "") if K.ndim(mask) == 2 else four_axes(mask, "attention_entropy")
        elif K.ndim(mask) != K.ndim(attention):
            raise ValueError(
                "attention_entropy: the mask has %s axes and the attention %s; give a mask that broadcasts to it"
                % (K.ndim(mask), K.ndim(attention))
            )
        mask = tf.logical_and(mask, tf.ones_like(attention, dtype=tf.bool))
    zeros = tf.zeros_like(attention)
    if from_logits:
        logits = tf.where(mask, attention, zeros + attention.dtype.min / 4)
        attention = tf.nn.softmax(logits)
    attention = tf.where(mask, attention, zeros)
    attention = tf.math.divide_no_nan(attention, tf.reduce_sum(attention, axis=-1, keepdims=True))
    # The logarithm never sees a zero, so that its gradient is finite there too.
    positive = attention > 0
    logarithm = tf.math.log(tf.where(positive, attention, tf.ones_like(attention)))
    return -tf.reduce_sum(attention * logarithm, axis=-1)
