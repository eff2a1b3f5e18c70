"""WEISSI: a regulariser that is invariant to how scale is distributed among the layers.

Article: L2正则没有想象那么好？可能是“权重尺度偏移”惹的祸 (kexue.fm/archives/7681). Paper: arXiv 2008.02965.
"""

import re
from typing import List, Optional, Union

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, is_tf_keras, keras, register, widen
from kexue_keras.types import Config, Model, Tensor, Variable


def _log_norm(w, epsilon):
    return 0.5 * tf.math.log(tf.reduce_sum(tf.square(w)) + epsilon)


def _shape_part(w, epsilon):
    """|w|_1 / |w|, between 1 and the root of the number of weights."""
    return tf.reduce_sum(tf.abs(w)) * tf.math.rsqrt(tf.reduce_sum(tf.square(w)) + epsilon)


def _checked(lambda1, lambda2, epsilon, owner):
    remedy = "without it the logarithm of the norm of zeros is -infinity"
    return (
        checks.number(lambda1, "lambda1", owner, least=0),
        checks.number(lambda2, "lambda2", owner, least=0),
        checks.number(epsilon, "epsilon", owner, above=0, remedy=remedy),
    )


@register
class WEISSI(keras.regularizers.Regularizer):
    r"""Weight-scale-shift-invariant penalty: lambda1 log |W| + lambda2 |W|_1 / |W|.

    In a network of ReLU layers, multiplying one layer by gamma and dividing another by it changes nothing but the L2
    penalty. The sum of this one over all layers does not change: the first term turns gamma into log gamma, and the
    second does not see it. |W| is the root of the sum of all squares, for a kernel of any shape. The penalty is
    negative for small weights and unbounded below: lambda1 pulls with the force lambda1 / |W|, so keep it small.

    Args:
        lambda1: weight of the logarithm of the norm, >= 0.
        lambda2: weight of the L1 norm of the direction, >= 0.
        epsilon: added to the sum of squares.

    Raises:
        ValueError: a value outside its range.

    Reference:
        L2正则没有想象那么好？可能是“权重尺度偏移”惹的祸, kexue.fm/archives/7681; arXiv 2008.02965

    >>> penalty = kexue_keras.regularizers.WEISSI(lambda1=1, lambda2=0)
    >>> round(float(K.eval(penalty(K.constant([[3., 4.], [0., 0.]])))), 6)  # log 5
    1.609438
    >>> layer = keras.layers.Dense(4, kernel_regularizer=kexue_keras.regularizers.WEISSI(1e-4, 1e-5))
    """

    def __init__(self, lambda1: float = 1e-4, lambda2: float = 0.0, epsilon: float = 1e-12) -> None:
        self.lambda1, self.lambda2, self.epsilon = _checked(lambda1, lambda2, epsilon, "WEISSI")

    def __call__(self, x: Union[Tensor, Variable]) -> Tensor:
        w = widen(x)
        value = self.lambda1 * _log_norm(w, self.epsilon)
        return value + self.lambda2 * _shape_part(w, self.epsilon) if self.lambda2 else value

    def get_config(self) -> Config:
        return {"lambda1": self.lambda1, "lambda2": self.lambda2, "epsilon": self.epsilon}


@register
def add_weissi(
    model: Model,
    *,
    lambda1: float = 1e-4,
    lambda2: float = 0.0,
    form: str = "log",
    exclude: Optional[str] = r"bias|gamma|beta|[Ee]mbedding|[Nn]orm",
    epsilon: float = 1e-12,
) -> List[str]:
    """Add WEISSI over the kernels of a built model to its loss; before `compile`.

    'log': sum_l (lambda1 log |W_l| + lambda2 |W_l|_1 / |W_l|); 'prod' has lambda1 prod_l |W_l| for the first
    term, which couples all layers (not in the article, unverified; with many layers of norm above 1 it explodes).
    The penalty is not part of the saved architecture: after `load_model(..., compile=False)` call it again. Layers
    of your own can take `WEISSI` as `kernel_regularizer` instead, which is saved.

    Args:
        model: Keras model, e.g. of bert4keras, not compiled yet.
        lambda1, lambda2, epsilon: as in `WEISSI`.
        form: 'log' or 'prod'.
        exclude: regular expression; trainable variables in whose name it is found are left alone, and so are all
            with fewer than two axes. None excludes by axes only.

    Returns:
        list of str, the names of the kernels in the penalty.

    Raises:
        ValueError: unknown form, a value outside its range, a pattern that does not compile, no kernel left, a
            compiled model.

    Reference:
        L2正则没有想象那么好？可能是“权重尺度偏移”惹的祸, kexue.fm/archives/7681; arXiv 2008.02965

    >>> model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,)), keras.layers.Dense(1)])
    >>> len(kexue_keras.regularizers.add_weissi(model, lambda1=1e-3))
    2
    >>> model.compile('sgd', 'mse')
    """
    lambda1, lambda2, epsilon = _checked(lambda1, lambda2, epsilon, "add_weissi")
    checks.choice(form, ("log", "prod"), "form", "add_weissi")
    if getattr(model, "optimizer", None) is not None:
        raise ValueError("the model is compiled already, so that its loss is fixed; call add_weissi before compile")
    try:
        pattern = None if exclude is None else re.compile(exclude)
    except (re.error, TypeError) as error:
        raise ValueError("exclude is %r, which is no regular expression (%s)" % (exclude, error))
    kernels, seen = [], set()
    for w in model.trainable_weights:
        if K.ndim(w) >= 2 and not (pattern and pattern.search(w.name)) and id(w) not in seen:
            seen.add(id(w))
            kernels.append(w)
    if not kernels:
        raise ValueError(
            "no kernel is left of %d trainable variables by exclude=%r; build the model first (give its input shape), "
            "or exclude less" % (len(model.trainable_weights), exclude)
        )

    def penalty():
        values = [widen(w) for w in kernels]
        logs = [_log_norm(w, epsilon) for w in values]
        dtype = tf.float64 if any(x.dtype == tf.float64 for x in logs) else tf.float32
        first = tf.add_n([tf.cast(x, dtype) for x in logs])
        loss = lambda1 * (first if form == "log" else tf.exp(first))
        if lambda2:
            loss += lambda2 * tf.add_n([tf.cast(_shape_part(w, epsilon), dtype) for w in values])
        return loss

    # tf.keras needs penalties without inputs as functions, Keras 2.3.1 only knows tensors.
    model.add_loss(penalty if is_tf_keras else penalty())
    return [w.name for w in kernels]
