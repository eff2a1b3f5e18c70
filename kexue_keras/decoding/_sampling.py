"""What is drawn from: temperature, the k likeliest tokens, the likeliest tokens up to a probability (nucleus).

Paper on the nucleus: The Curious Case of Neural Text Degeneration, arXiv 1904.09751.
"""

from typing import Optional, Tuple, Union

import tensorflow as tf

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


def draw(logits, tokens, *, seed):
    """One token a row, with the probabilities softmax(logits): the largest of logits plus Gumbel noise.

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
