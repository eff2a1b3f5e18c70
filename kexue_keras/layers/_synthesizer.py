"""Synthesizer: attention whose matrix does not come from products of queries and keys.

Article: Google新作Synthesizer：我们还不够了解自注意力 (kexue.fm/archives/7430). Paper: arXiv 2005.00743.
"""

import math
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np
import tensorflow as tf
from bert4keras.layers import MultiHeadAttention, apply_rotary_position_embeddings

from kexue_keras import checks
from kexue_keras.backend import K, keras, register, widen
from kexue_keras.layers._masking import attend, four_axes, last_dimension, visible_keys
from kexue_keras.types import Config, Mask, Shape, Tensor, Tensors

VARIANTS = ("dense", "random", "fixed_random", "factorized_dense", "factorized_random", "vanilla")


@register
class SynthesizerAttention(MultiHeadAttention):
    r"""Multi-head attention $O = \mathrm{softmax}(B)\,V$ with a matrix B of logits that is made in other ways.

    | variant | logits of a head |
    |---|---|
    | `dense` | relu(X W1 + b1) W2 + b2: each token says how it looks at each position |
    | `random` | R, a trained matrix, the same for every text |
    | `fixed_random` | R, drawn once, saved, not trained |
    | `factorized_dense` | B1 = X W1 + b1 `[n, a]`, B2 = X W2 + b2 `[n, c]`; B[i, p c + q] = B1[i, p] B2[i, q] |
    | `factorized_random` | R1 R2^T, both `[max_length, rank]` |
    | `vanilla` | Q K^T / sqrt(d) as always, with its position bias |

    Several variants are mixed: B = sum_i softmax(w)_i B_i, before the softmax over the keys. Inputs, masks and call
    arguments are those of bert4keras' `MultiHeadAttention`; without `vanilla` there are no query and key kernels.

    Args:
        heads, head_size, out_dim, key_size, use_bias, attention_scale, attention_dropout, return_attention_scores,
            kernel_initializer: as in bert4keras.
        variants: str or sequence of str from the table.
        max_length: most tokens of a sequence; the weights are as large as this, shorter sequences use their part.
        rank: inner size of `factorized_random`.
        factors: `(a, c)` of `factorized_dense` with a c >= max_length; None takes about the square root for both.
        seed: int for `fixed_random`; None draws one (it is in the config, so that copies have the same matrix).

    Raises:
        ValueError: unknown or repeated variant, factors too small, a sequence longer than max_length, a position bias
            without `vanilla`.

    Reference:
        Google新作Synthesizer：我们还不够了解自注意力, kexue.fm/archives/7430; arXiv 2005.00743

    >>> x = keras.layers.Input((None, 32))
    >>> layer = kexue_keras.layers.SynthesizerAttention(4, 8, variants=('random', 'vanilla'), max_length=64)
    >>> K.int_shape(layer([x, x, x]))
    (None, None, 32)
    """

    def __init__(
        self,
        heads: int,
        head_size: int,
        *,
        variants: Union[str, Sequence[str]] = ("dense", "vanilla"),
        max_length: int = 512,
        rank: int = 8,
        factors: Optional[Tuple[int, int]] = None,
        seed: Optional[int] = None,
        **kwargs: Any,
    ) -> None:
        super(SynthesizerAttention, self).__init__(heads, head_size, **kwargs)
        variants = (variants,) if isinstance(variants, str) else tuple(variants)
        if not variants or len(set(variants)) < len(variants):
            raise ValueError(
                "%s: variants is %r; give one or more of %s, each once" % (self.name, variants, ", ".join(VARIANTS))
            )
        for variant in variants:
            checks.choice(variant, VARIANTS, "a variant", self.name)
        if self.normalization != "softmax":
            raise ValueError("%s: normalization is %r; only softmax is known here" % (self.name, self.normalization))
        self.variants = variants
        self.max_length = checks.whole_number(max_length, "max_length", self.name, least=1)
        self.rank = checks.whole_number(rank, "rank", self.name, least=1)
        if factors is None:
            a = int(math.ceil(math.sqrt(self.max_length)))
            factors = (a, int(math.ceil(self.max_length / float(a))))
        self.factors = tuple(checks.whole_number(f, "each of the factors", self.name, least=1) for f in factors)
        if len(self.factors) != 2 or self.factors[0] * self.factors[1] < self.max_length:
            raise ValueError(
                "%s: factors=%r; give two whose product is at least max_length=%d"
                % (self.name, factors, self.max_length)
            )
        self.seed = int(np.random.randint(2**31 - 1)) if seed is None else int(seed)

    def build(self, input_shape: List[Shape]) -> None:
        keras.layers.Layer.build(self, input_shape)
        size = last_dimension(input_shape, self.name)

        def dense(units):
            return keras.layers.Dense(units, use_bias=self.use_bias, kernel_initializer=self.kernel_initializer)

        if "vanilla" in self.variants:
            self.q_dense, self.k_dense = dense(self.key_size * self.heads), dense(self.key_size * self.heads)
        self.v_dense, self.o_dense = dense(self.head_size * self.heads), dense(self.out_dim)
        h, n = self.heads, self.max_length

        def weight(name, shape, initializer=self.kernel_initializer, trainable=True):
            full = "synthesizer_" + name
            value = self.add_weight(name=full, shape=shape, initializer=initializer, trainable=trainable)
            setattr(self, full, value)

        if "dense" in self.variants:
            weight("w1", (size, h * self.key_size))
            weight("b1", (h * self.key_size,), "zeros")
            weight("w2", (h, self.key_size, n))
            weight("b2", (h, n), "zeros")
        if "random" in self.variants:
            weight("r", (h, n, n))
        if "fixed_random" in self.variants:
            weight("fixed", (h, n, n), self._draw_fixed, trainable=False)
        if "factorized_dense" in self.variants:
            for name, units in zip("fg", self.factors):
                weight(name + "_kernel", (size, h * units))
                weight(name + "_bias", (h * units,), "zeros")
        if "factorized_random" in self.variants:
            weight("r1", (h, n, self.rank))
            weight("r2", (h, n, self.rank))
        if len(self.variants) > 1:
            weight("mixture", (len(self.variants),), "zeros")

    def _draw_fixed(self, shape, dtype=None, **kwargs):
        # Stateless, so that the graph's seed has no say: a TensorFlow checkpoint of bert4keras keeps trained variables
        # only, and the model that reads it must draw the same matrix. Smaller logits than these would only average.
        return tf.cast(tf.random.stateless_normal([int(s) for s in shape], seed=[self.seed, 0]), dtype or K.floatx())

    def call(self, inputs: List[Tensor], mask: Mask = None, **kwargs: Any) -> Tensors:
        q, k, v = inputs[:3]
        if kwargs.get("p_bias") and "vanilla" not in self.variants:
            raise ValueError(
                "%s: p_bias=%r acts on products of queries and keys; variants=%r has none, leave it out or add "
                "'vanilla'" % (self.name, kwargs["p_bias"], self.variants)
            )
        q = checks.require_length(q, self.max_length, self.name)
        if k is not inputs[0]:
            k = checks.require_length(k, self.max_length, self.name)
        masks = [None, None] if mask is None else [mask[0], mask[2]]

        def split(x, size):
            return K.reshape(x, (self.heads, size), -1)

        qw = kw = None
        if "vanilla" in self.variants:
            qw, kw = split(self.q_dense(q), self.key_size), split(self.k_dense(k), self.key_size)
        vw = split(self.v_dense(v), self.head_size)
        o, scores = self.pay_attention_to([qw, kw, vw] + list(inputs[3:]), masks, queries=q, **kwargs)
        o = self.o_dense(K.flatten(o, 2))
        return [o, scores] if self.return_attention_scores else o

    def pay_attention_to(
        self, inputs: List[Tensor], mask: Mask = None, *, queries: Optional[Tensor] = None, **kwargs: Any
    ) -> Tuple[Tensor, Tensor]:
        """As in bert4keras; `queries` `[b, n, d]` is what the dense variants look at."""
        (qw, kw, vw), rest = inputs[:3], list(inputs[3:])
        bias = rest.pop(0) if kwargs.get("a_bias") else None
        position_bias = rest.pop(0) if kwargs.get("p_bias") else None
        sizes = tf.shape(queries)[1], tf.shape(vw)[1]
        parts = []
        for variant in self.variants:
            if variant == "vanilla":
                parts.append(self._vanilla(qw, kw, kwargs.get("p_bias"), position_bias))
            else:
                parts.append(getattr(self, "_" + variant)(queries, *sizes))
        logits = [widen(part) for part in parts]
        if len(logits) > 1:
            alpha = tf.nn.softmax(widen(self.synthesizer_mixture))
            logits = [alpha[i] * part for i, part in enumerate(logits)]
        logits = sum(logits[1:], logits[0])
        scores = None
        if self.return_attention_scores:
            # A random matrix is one for all samples; what is returned has the batch axis that was promised.
            scores = tf.cast(logits + tf.zeros_like(logits[:, :, :1, :1]) + self._batch(queries), queries.dtype)
        if bias is not None and bias.dtype != tf.bool:
            logits += widen(four_axes(bias, self.name))
        visible = visible_keys(mask[1] if mask else None, bias, self.name)
        if K.int_shape(logits)[0] == 1 and visible is None:
            logits += self._batch(queries)
        dropout = keras.layers.Dropout(self.attention_dropout) if self.attention_dropout else None
        output, _, _ = attend(logits, visible, vw, dropout)
        return output, scores

    @staticmethod
    def _batch(queries):
        return tf.zeros_like(widen(queries)[:, :1, None, :1])

    def _vanilla(self, qw, kw, p_bias, position_bias):
        if p_bias == "rotary":
            qw, kw = apply_rotary_position_embeddings(position_bias, qw, kw)
        if self.attention_scale:
            qw = qw / self.key_size**0.5
        logits = tf.einsum("bjhd,bkhd->bhjk", qw, kw)
        if p_bias == "t5_relative":
            scale = self.key_size**0.5 if self.attention_scale else 1.0
            logits += tf.transpose(position_bias, [2, 0, 1])[None] / scale
        elif p_bias not in (None, "rotary"):
            raise ValueError(
                "%s: p_bias is %r; only 'rotary' and 't5_relative' are known here, build it over BERT or RoFormer"
                % (self.name, p_bias)
            )
        return logits

    def _dense(self, x, n, m):
        hidden = tf.nn.relu(K.dot(x, self.synthesizer_w1) + self.synthesizer_b1)
        hidden = K.reshape(hidden, (self.heads, self.key_size), -1)
        logits = tf.einsum("bjhd,hdk->bhjk", hidden, self.synthesizer_w2[:, :, :m])
        return logits + self.synthesizer_b2[None, :, None, :m]

    def _random(self, x, n, m):
        return self.synthesizer_r[None, :, :n, :m]

    def _fixed_random(self, x, n, m):
        return self.synthesizer_fixed[None, :, :n, :m]

    def _factorized_dense(self, x, n, m):
        a, c = self.factors
        f = K.reshape(K.dot(x, self.synthesizer_f_kernel) + self.synthesizer_f_bias, (self.heads, a), -1)
        g = K.reshape(K.dot(x, self.synthesizer_g_kernel) + self.synthesizer_g_bias, (self.heads, c), -1)
        # One is repeated, the other tiled; two tiles, as in the paper's text, cover all pairs only if a, c are coprime.
        outer = K.reshape(tf.einsum("bjhp,bjhq->bhjpq", f, g), (-1, self.heads, tf.shape(x)[1], a * c))
        return outer[:, :, :, :m]

    def _factorized_random(self, x, n, m):
        return tf.einsum("hjr,hkr->hjk", self.synthesizer_r1[:, :n], self.synthesizer_r2[:, :m])[None]

    def get_config(self) -> Config:
        config = super(SynthesizerAttention, self).get_config()
        return dict(
            config,
            variants=self.variants,
            max_length=self.max_length,
            rank=self.rank,
            factors=self.factors,
            seed=self.seed,
        )
