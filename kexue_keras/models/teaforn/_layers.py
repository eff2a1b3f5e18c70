"""What the higher orders of TeaForN read in place of tokens: hidden states, or words as the model expects them.

TeaForN：让Teacher Forcing更有“远见”一些, kexue.fm/archives/7818; arXiv 2010.03494.
"""

from typing import Any, List, Optional

import tensorflow as tf
from bert4keras.layers import Layer

from kexue_keras import checks
from kexue_keras.backend import K, register, widen
from kexue_keras.training._randomness import own_key, uniform
from kexue_keras.types import Config, Shape, Tensor


class _Rows(Layer):
    """A layer whose output has the shape and the mask of its first input."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[0] if isinstance(mask, (list, tuple)) else mask

    def compute_output_shape(self, input_shape: Any) -> Shape:
        return input_shape[0]


@register
class ShiftedInput(_Rows):
    """Embeddings in which each written token is replaced by what the model made at the position before it.

    x_t = h_{t-1} where t is written, else e_t.

    Args:
        reading: 'lm': every token but the first of a row is written; 'unilm': those of segment 1 and more.

    Call arguments:
        [e, h], both [batch, n, d], and for 'unilm' segment ids [batch, n].

    >>> from kexue_keras.models.teaforn._layers import ShiftedInput
    >>> e, h = K.constant([[[1.], [2.], [3.]]]), K.constant([[[10.], [20.], [30.]]])
    >>> K.eval(ShiftedInput('unilm')([e, h, K.constant([[0, 0, 1]])])).ravel().tolist()
    [1.0, 2.0, 20.0]
    """

    def __init__(self, reading: str = "lm", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.reading = checks.choice(reading, ("lm", "unilm"), "reading", "ShiftedInput")

    def call(self, inputs: List[Tensor], mask: Any = None) -> Tensor:
        e, h = inputs[0], tf.cast(inputs[1], inputs[0].dtype)
        before = tf.concat([e[:, :1], h[:, :-1]], axis=1)
        if self.reading == "unilm":
            written = tf.cast(inputs[2], "int32") > 0
        else:
            written = tf.tile(tf.range(tf.shape(e)[1])[None] > 0, [tf.shape(e)[0], 1])
        return tf.where(tf.tile(written[:, :, None], [1, 1, tf.shape(e)[2]]), before, e)

    def get_config(self) -> Config:
        return dict(super().get_config(), reading=self.reading)


@register
class EveryToken(Layer):
    """The ids of all tokens, [1, vocabulary], so that an embedding layer gives its table as a tensor.

    Call arguments:
        any tensor.
    """

    def __init__(self, vocabulary: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.vocabulary = checks.whole_number(vocabulary, "vocabulary", "EveryToken", least=1)

    def call(self, inputs: Tensor) -> Tensor:
        return tf.range(self.vocabulary)[None]

    def compute_mask(self, inputs: Any, mask: Any = None) -> None:
        return None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (1, self.vocabulary)

    def get_config(self) -> Config:
        return dict(super().get_config(), vocabulary=self.vocabulary)


@register
class ExpectedEmbedding(_Rows):
    """The embedding that a word has on average under the model's own prediction.

    sum_{w in top k} p_w E_w / sum_{w in top k} p_w; k = None takes the whole vocabulary. With a temperature it is
    Gumbel-softmax: p = softmax((logits + g) / temperature), g Gumbel noise, drawn while training only.

    Args:
        k: int, or None for all.
        temperature: number > 0 of Gumbel-softmax, or None for no noise.

    Call arguments:
        [logits [batch, n, V], table of embeddings [1, V, d]]; the mask of the logits is passed on.

    Returns:
        [batch, n, d].

    >>> from kexue_keras.models.teaforn._layers import ExpectedEmbedding
    >>> logits, table = K.constant(np.log([[[.1, .6, .3]]])), K.constant([[[1., 0.], [0., 3.], [6., 0.]]])
    >>> means = [K.eval(ExpectedEmbedding(k)([logits, table])) for k in (1, 2, None)]
    >>> [[round(float(x), 2) for x in mean.ravel()] for mean in means]
    [[0.0, 3.0], [2.0, 2.0], [1.9, 1.8]]
    """

    def __init__(self, k: Optional[int] = None, *, temperature: Optional[float] = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.k, self.temperature = k, temperature
        if k is not None:
            checks.whole_number(k, "k", "ExpectedEmbedding", least=1)
        if temperature is not None:
            checks.number(temperature, "temperature", "ExpectedEmbedding", above=0)

    def call(self, inputs: List[Tensor], mask: Any = None) -> Tensor:
        logits, table = widen(inputs[0]), inputs[1][0]
        if self.temperature is not None:
            drawn = tf.clip_by_value(uniform(tf.shape(logits), own_key()), 1e-30, 1 - 6e-8)
            noisy = logits - tf.math.log(-tf.math.log(tf.cast(drawn, logits.dtype)))
            logits = K.in_train_phase(noisy, logits) / self.temperature
        if self.k is None:
            p = tf.cast(tf.nn.softmax(logits), table.dtype)
            flat = tf.matmul(tf.reshape(p, [-1, tf.shape(p)[2]]), table)
            return tf.reshape(flat, tf.concat([tf.shape(p)[:2], tf.shape(table)[1:]], axis=0))
        values, places = tf.nn.top_k(logits, tf.minimum(self.k, tf.shape(logits)[2]))
        p = tf.cast(tf.nn.softmax(values), table.dtype)
        return tf.reduce_sum(p[..., None] * tf.gather(table, places), axis=2)

    def compute_output_shape(self, input_shape: Any) -> Shape:
        return tuple(input_shape[0][:2]) + (input_shape[1][2],)

    def get_config(self) -> Config:
        return dict(super().get_config(), k=self.k, temperature=self.temperature)
