"""What is drawn from: temperature, the k most likely tokens, the nucleus, distributions of a given entropy.

Paper on the nucleus: The Curious Case of Neural Text Degeneration, arXiv 1904.09751. Article on the entropy:
概率分布的熵归一化 (kexue.fm/archives/8829).
"""

from typing import Any, Dict, Optional, Tuple, Union

import tensorflow as tf

from kexue_keras.layers._entropy_normalization import EntropyNormalization
from kexue_keras.types import Tensor, TensorLike


def cut(
    logits: TensorLike, *, top_k: Optional[Union[int, Tensor]] = None, top_p: Optional[Union[float, Tensor]] = None
) -> Tuple[Tensor, Tensor]:
    """The logits in falling order, -inf where a token is cut off, and their tokens.

    First all but the `top_k` largest go; of the rest those stay whose forerunners' probabilities sum to less than
    `top_p`: the smallest set that reaches `top_p`, as in bert4keras.

    Args:
        logits: float32 `[n, vocabulary]`, already divided by the temperature.
        top_k: None, int, or int32 scalar tensor.
        top_p: None, float in (0, 1], or float32 scalar tensor.

    Returns:
        (logits float32 `[n, m]`, tokens int32 `[n, m]`).

    >>> logits, tokens = cut(tf.math.log([[.1, .5, .15, .25]]), top_k=3, top_p=.8)
    >>> K.eval(tokens).tolist(), [round(float(p), 3) for p in K.eval(tf.nn.softmax(logits))[0]]
    ([[1, 3, 2]], [0.667, 0.333, 0.0])
    """
    size = tf.shape(logits)[-1]
    # The order of equal logits is that of the tokens.
    logits, tokens = tf.nn.top_k(logits, k=size if top_k is None else tf.minimum(top_k, size))
    if top_p is not None:
        reached = tf.cumsum(tf.nn.softmax(logits), axis=-1, exclusive=True) >= top_p
        # Rounding must not cut off the first.
        reached &= tf.range(tf.shape(logits)[-1])[None] > 0
        logits = tf.where(reached, tf.fill(tf.shape(logits), float("-inf")), logits)
    return logits, tokens


def to_entropy(logits: TensorLike, entropy: Union[float, Tensor], *, cap_only: bool = False) -> Tensor:
    """Logarithms of softmax(gamma logits), gamma >= 0 for each row such that its entropy is `entropy`.

    Args:
        logits: float32 `[n, m]`, -inf where a token is cut off.
        entropy: nats, float >= 0 or float32 scalar tensor. What cannot be reached is taken to the nearest end: even
            over the tokens that are left, or over those that tie for the maximum.
        cap_only: rows of less entropy stay as they are; only flat ones are sharpened.

    Returns:
        float32 `[n, m]`.

    Reference: 概率分布的熵归一化, kexue.fm/archives/8829.

    >>> logits = to_entropy(tf.math.log([[.5, .25, .125, .0625, .0625]]), 1.0)
    >>> [round(float(p), 4) for p in K.eval(tf.exp(logits))[0]]
    [0.6498, 0.2222, 0.076, 0.026, 0.026]
    """
    logits = tf.convert_to_tensor(logits)
    targets = tf.cast(entropy, logits.dtype) + tf.zeros_like(logits[:, 0])
    # Of the layer only its formula is wanted: it has no weights.
    found = tf.math.log(EntropyNormalization(implicit_grad=False, name="to_entropy").call([logits, targets]))
    if not cap_only:
        return found
    before = tf.nn.log_softmax(logits)
    spent = -tf.reduce_sum(tf.math.multiply_no_nan(before, tf.exp(before)), axis=-1, keepdims=True)
    return tf.where(tf.broadcast_to(spent <= targets[:, None], tf.shape(found)), before, found)


def strategy(
    *, top_k: Optional[int], top_p: Optional[float], entropy: Optional[float], cap_only: bool
) -> Tuple[str, Dict[str, Any]]:
    """The name of the graph that samples in this way, 'sample' with '-k', '-p', '-entropy' or '-cap', and its values.

    >>> strategy(top_k=5, top_p=None, entropy=1.5, cap_only=True)
    ('sample-k-cap', {'top_k': 5, 'entropy': 1.5})
    """
    given = {"top_k": top_k, "top_p": top_p, "entropy": entropy}
    parts = {"top_k": "-k", "top_p": "-p", "entropy": "-cap" if cap_only else "-entropy"}
    given = {name: value for name, value in given.items() if value is not None}
    return "sample" + "".join(parts[name] for name in given), given


def draw(logits, tokens, *, seed):
    """One token per row, with the probabilities softmax(logits): the largest of logits plus Gumbel noise.

    Args:
        logits: float32 `[n, m]`.
        tokens: int32 `[n, m]`, what each column stands for.
        seed: int32 `[2]`, all that the result depends on besides the arguments.

    Returns:
        int32 `[n]`.
    """
    uniform = tf.random.stateless_uniform(tf.shape(logits), seed, minval=1e-30)
    best = tf.argmax(logits - tf.math.log(-tf.math.log(uniform)), axis=-1, output_type="int32")
    return tf.gather_nd(tokens, tf.stack([tf.range(tf.shape(logits)[0]), best], axis=1))
