"""TeaForN's loss: the cross-entropy of every order of teacher forcing, weighted and summed.

TeaForN：让Teacher Forcing更有“远见”一些, kexue.fm/archives/7818; Goodman et al., TeaForN: Teacher-Forcing with N-grams, arXiv
2010.03494. The model that it goes with is made by `models.build_teaforn_model`.
"""

from typing import Any, Optional, Sequence

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, register
from kexue_keras.checks import require_rank, static_length, warn_if_probabilities
from kexue_keras.losses._masked_lm import NORMALIZATIONS, scales, token_losses
from kexue_keras.types import Tensor, TensorLike


def order_weights(order: int, gamma: float, weights: Optional[Sequence[float]], owner: str) -> Sequence[float]:
    """The weight of each order as a list of floats: those given, or powers of `gamma`.

    Raises:
        ValueError: an order that is no whole number from 1, weights that are not as many, or not finite numbers from 0.

    >>> order_weights(3, .5, None, 'here'), order_weights(2, .5, (1, .1), 'here')
    ([1.0, 0.5, 0.25], [1.0, 0.1])
    """
    checks.whole_number(order, "order", owner, least=1)
    if weights is None:
        checks.number(gamma, "gamma", owner, least=0)
        return [float(gamma) ** i for i in range(order)]
    weights = list(weights)
    if len(weights) != order:
        raise ValueError("%s: %d weights for order=%d; each order has one" % (owner, len(weights), order))
    for weight in weights:
        checks.number(weight, "weights", owner, least=0)
    return [float(weight) for weight in weights]


@register
def teaforn_crossentropy(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    order: int = 2,
    gamma: float = 0.5,
    weights: Optional[Sequence[float]] = None,
    mask: Optional[TensorLike] = None,
    from_logits: bool = True,
    ignore: Optional[int] = 0,
    normalization: str = "batch",
    skip_repeated: bool = False,
) -> Tensor:
    """Weighted sum of the cross-entropies of all orders, one value per sample.

    L = sum_i lambda_i CE^(i), with lambda_i = gamma^(i-1) unless `weights` are given.

    Args:
        y_true: integer ids [batch, n] or [batch, n, 1], as for `masked_crossentropy`.
        y_pred: logits [batch, n, order * vocabulary], what `models.build_teaforn_model` gives: those of order 1, then
            those of order 2, ...
        order: int, N.
        gamma: number from 0, the ratio of one weight to the one before; 0 is teacher forcing.
        weights: list of `order` numbers from 0, lambda, instead of the powers of gamma.
        mask, from_logits, ignore, normalization: see `masked_crossentropy`; the same for all orders.
        skip_repeated: bool; the first i - 1 targets of a row have at order i the input that they have at order i - 1.
            True counts them once, not i times.

    Returns:
        float tensor [batch].

    Raises:
        ValueError: wrong shapes, order or weights.

    Reference: kexue.fm/archives/7818; arXiv 2010.03494.

    >>> logits = K.constant(np.log([[[.5, .5, .25, .75]]]))  # two orders, two words
    >>> loss = kexue_keras.losses.teaforn_crossentropy([[1]], logits, order=2, gamma=.5)
    >>> round(float(K.eval(loss)[0]), 4)  # -log .5 - .5 log .75
    0.837
    """
    name = "teaforn_crossentropy"
    checks.choice(normalization, NORMALIZATIONS, "normalization", name)
    shared = dict(order=order, gamma=gamma, weights=weights, mask=mask, from_logits=from_logits, ignore=ignore)
    values = _order_values(y_true, y_pred, name=name, skip_repeated=skip_repeated, **shared)
    return sum(w * tf.reduce_sum(v, axis=1) * scales(m, normalization) for w, v, m in values)


def _order_values(y_true, y_pred, *, order, gamma, weights, mask, from_logits, ignore, skip_repeated, name):
    """List of (weight, token losses [batch, n], mask [batch, n]) of the orders that count."""
    lambdas = order_weights(order, gamma, weights, name)
    y_pred = require_rank(y_pred, 3, name, "y_pred [batch, n, order * vocabulary]")
    width = static_length(y_pred, 2)
    if width is not None and width % order:
        raise ValueError("%s: the %d outputs of y_pred are no multiple of order=%d" % (name, width, order))
    if from_logits:
        warn_if_probabilities(y_pred, name)
    found = []
    for i, (weight, logits) in enumerate(zip(lambdas, tf.split(y_pred, order, axis=2))):
        if weight or not i:
            values, counted = token_losses(y_true, logits, mask, from_logits, ignore, name)
            if skip_repeated and i:
                counted = counted * tf.cast(tf.cumsum(counted, axis=1) > i, counted.dtype)
                values = values * counted
            found.append((weight, values, counted))
    return found


def _token_values(y_true, y_pred, *, normalization, **parameters):
    """[batch, n]; their mean is the mean of `teaforn_crossentropy`."""
    total = 0.0
    for weight, values, mask in _order_values(y_true, y_pred, mask=None, name="TeaForN", **parameters):
        factors = scales(mask, normalization) * tf.cast(tf.shape(values)[1], values.dtype)
        total += weight * values * (factors[:, None] if normalization == "sample" else factors)
    return total


@register
class TeaForN(FunctionLoss):
    """Teacher forcing that looks N steps ahead, as a Keras loss: weighted sum of the cross-entropies of N orders.

    L = sum_i lambda_i CE^(i), lambda_i = gamma^(i-1). The orders are *summed*, not averaged: with gamma = 0.5 and N = 3
    the loss is about 1.75 times that of teacher forcing, and so is the gradient, so a learning rate that was tuned for
    one N is not that of another (Adam takes the factor out, SGD and gradient clipping do not). Only order 1 is used for
    decoding.

    Args:
        order: int, N; the model's, see `models.build_teaforn_model`. 1 is teacher forcing.
        gamma: number from 0.
        weights: list of `order` numbers from 0, lambda, instead of the powers of gamma.
        from_logits, ignore, normalization: as in `MaskedCrossentropy`.
        skip_repeated: see `teaforn_crossentropy`.
        reduction, name: as in `keras.losses.Loss`.

    Raises:
        ValueError: order or weights as in `teaforn_crossentropy`, unknown normalization.

    Reference: kexue.fm/archives/7818 (TeaForN：让Teacher Forcing更有“远见”一些); arXiv 2010.03494.

    >>> loss = kexue_keras.losses.TeaForN(3, weights=[1, .3, .1])
    >>> logits = K.constant(np.zeros((1, 2, 3 * 4)))
    >>> round(float(K.eval(loss(K.constant([[2, 1]]), logits))), 4)  # 1.4 log 4
    1.9408
    """

    def __init__(
        self,
        order: int = 2,
        *,
        gamma: float = 0.5,
        weights: Optional[Sequence[float]] = None,
        from_logits: bool = True,
        ignore: Optional[int] = 0,
        normalization: str = "batch",
        skip_repeated: bool = False,
        name: str = "teaforn",
        **kwargs: Any,
    ) -> None:
        checks.choice(normalization, NORMALIZATIONS, "normalization", "TeaForN")
        order_weights(order, gamma, weights, "TeaForN")
        super().__init__(
            _token_values,
            name=name,
            order=int(order),
            gamma=float(gamma),
            weights=None if weights is None else [float(weight) for weight in weights],
            from_logits=bool(from_logits),
            ignore=ignore,
            normalization=normalization,
            skip_repeated=bool(skip_repeated),
            **kwargs,
        )
