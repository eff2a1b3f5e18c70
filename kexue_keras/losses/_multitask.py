"""Several losses made into one: sums, relative losses, generalised means, uncertainty weights.

Reference: "多任务学习漫谈（一）：以损失之名", kexue.fm/archives/8870. Uncertainty weights are not in the article: Kendall
et al., arXiv 1705.07115. Combining gradients instead of losses (kexue.fm/archives/8896, 8907) is
`kexue_keras.optimizers.MultiTask`.
"""

import math
from typing import Optional, Sequence, Union

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import register, widen
from kexue_keras.checks import require
from kexue_keras.types import ArrayLike, Tensor, Variable

_METHODS = ("sum", "initial", "prior", "running", "geometric", "power", "uncertainty")
ANY_SIGN = "'sum', 'initial' and 'prior'"


def check_method(method, initial, prior, gamma, where, needed=True):
    """Raise a ValueError if the arguments of `method` do not fit; `needed`: `initial` may not be left out."""
    checks.choice(method, _METHODS, "method", where)
    remedies = {
        "initial": "the losses of an untrained model (log K for cross-entropy over K classes)",
        "prior": "the losses of the best constant prediction (see kexue_keras.losses.prior_loss)",
        "gamma": "the exponent of the mean (1: arithmetic, 0: geometric, inf: the largest loss)",
    }
    for name, value, owner in (
        ("initial", initial, "initial"),
        ("prior", prior, "prior"),
        ("gamma", gamma, "power"),
    ):
        if value is not None and method != owner:
            raise ValueError(
                "%s: %s=%r belongs to method=%r and does nothing with method=%r; leave it out"
                % (where, name, value, owner, method)
            )
        if value is None and method == owner and (needed or name != "initial"):
            raise ValueError("%s: method=%r needs %s=, %s" % (where, method, name, remedies[name]))
    if gamma is not None and gamma not in (math.inf, -math.inf):
        checks.number(gamma, "gamma", where, remedy="inf and -inf are the largest and the smallest loss")


def _stack(losses, names):
    """The losses as one vector of float32, or of float64 if one of them is."""
    losses = [widen(loss) for loss in losses]
    for name, loss in zip(names, losses):
        if loss.shape.rank not in (0, None):
            raise ValueError(
                "combine_losses: %s must be a scalar, but its shape is %s; take its mean first" % (name, loss.shape)
            )
    dtype = tf.float64 if any(loss.dtype == tf.float64 for loss in losses) else tf.float32
    casts = [tf.cast(loss, dtype) for loss in losses]
    return tf.stack([c if c.shape.rank == 0 else tf.reshape(c, []) for c in casts])


def _require_sign(losses, method, names, positive=True):
    message = (
        "combine_losses: method=%r needs %s losses, because it takes their logarithm or ratio. For losses that can "
        "be <= 0 use %s. The losses (%s) are:"
        % (method, "positive" if positive else "non-negative", ANY_SIGN, ", ".join(names))
    )
    known = np.ravel(tf.get_static_value(losses, partial=True))  # None for what only comes at run time
    for value in known:
        if value is not None and not (value > 0 if positive else value >= 0):
            raise ValueError("%s %s" % (message, [v if v is None else float(v) for v in known]))
    return require(losses > 0 if positive else losses >= 0, message, [losses], then=losses)


def _relative(losses, scale, method):
    scale = tf.cast(tf.convert_to_tensor(scale), losses.dtype)
    if not scale.shape.is_compatible_with(losses.shape):
        raise ValueError(
            "combine_losses: %s= needs one value for each of the %d losses, but has shape %s"
            % (method, losses.shape[0], scale.shape)
        )
    known = tf.get_static_value(scale)
    scale = require(
        scale > 0 if known is None else known > 0,
        "combine_losses: the values of %s= must be positive, but are" % method,
        [scale],
        then=scale,
    )
    return tf.reduce_sum(losses / scale)


def _power_mean(losses, gamma):
    if gamma == math.inf:
        return tf.reduce_max(losses)
    if gamma == -math.inf:
        return tf.reduce_min(losses)
    logs = tf.math.log(losses)
    centre = tf.reduce_mean(logs)
    if gamma == 0:
        return tf.exp(centre)
    if abs(gamma) < 0.01:
        # (logsumexp - log n) / gamma would lose all digits: both terms tend to log n.
        return tf.exp(centre + tf.math.log1p(tf.reduce_mean(tf.math.expm1(gamma * (logs - centre)))) / gamma)
    number = tf.cast(tf.size(losses), losses.dtype)
    return tf.exp((tf.reduce_logsumexp(gamma * logs) - tf.math.log(number)) / gamma)


@register
def combine_losses(
    losses: Sequence[Tensor],
    *,
    method: str = "sum",
    initial: Optional[Sequence[float]] = None,
    prior: Optional[Sequence[float]] = None,
    gamma: Optional[float] = None,
    log_variances: Optional[Union[Tensor, Variable]] = None,
    names: Optional[Sequence[str]] = None,
) -> Tensor:
    """One loss out of several task losses L_1 .. L_n.

    | method | value |
    |---|---|
    | "sum" | sum L_i |
    | "initial" | sum L_i / initial_i |
    | "prior" | sum L_i / prior_i |
    | "running" | sum L_i / stop(L_i): always n; the gradient is that of sum log L_i |
    | "geometric" | (product L_i)^(1/n) |
    | "power" | (mean L_i^gamma)^(1/gamma) |
    | "uncertainty" | sum (exp(-s_i) L_i + s_i) / 2, with trainable s |

    Args:
        losses: list of scalar tensors.
        method: str, see above. "running", "geometric" and "uncertainty" do not depend on the units of the losses.
        initial: n positive numbers, the losses of an untrained model; method "initial". To have them measured on
            the first batch, use `MultiTaskLoss`.
        prior: n positive numbers, the losses of the best constant predictions, from `prior_loss`; method "prior".
        gamma: float or +-inf, method "power": 1 is the arithmetic mean, 0 the geometric, -1 the harmonic, inf the
            largest loss; a larger gamma attends more to the larger losses.
        log_variances: tensor [n], the trainable s_i; method "uncertainty". `UncertaintyWeights` and `MultiTaskLoss`
            own such a variable.
        names: list of n str for error messages.

    Returns:
        float scalar.

    Raises:
        ValueError: unknown method, missing or superfluous arguments, a loss that is not a scalar, or a constant
            loss <= 0 where the method needs positive ones (if it is not a constant, an assertion op fails).

    Reference: kexue.fm/archives/8870; arXiv 1705.07115 for "uncertainty".

    >>> losses = [K.constant(0.5), K.constant(2.0), K.constant(8.0)]
    >>> float(K.eval(kexue_keras.losses.combine_losses(losses, method="power", gamma=1)))
    3.5
    """
    where = "combine_losses"
    check_method(method, initial, prior, gamma, where)
    if (log_variances is None) == (method == "uncertainty"):
        raise ValueError(
            "%s: log_variances= belongs to method='uncertainty' and is needed there (kexue_keras.losses."
            "UncertaintyWeights owns such variables); method is %r" % (where, method)
        )
    if not isinstance(losses, (list, tuple)) or not losses:
        raise ValueError("%s: losses must be a non-empty list of scalar tensors, not %r" % (where, losses))
    names = list(names or ["losses[%d]" % i for i in range(len(losses))])
    if len(names) != len(losses):
        raise ValueError("%s: %d names for %d losses" % (where, len(names), len(losses)))
    losses = _stack(losses, names)
    if method == "sum":
        return tf.reduce_sum(losses)
    if method in ("initial", "prior"):
        return _relative(losses, initial if method == "initial" else prior, method)
    if method == "uncertainty":
        losses = _require_sign(losses, method, names, positive=False)
        log_variances = tf.cast(tf.convert_to_tensor(log_variances), losses.dtype)
        if not log_variances.shape.is_compatible_with(losses.shape):
            raise ValueError("%s: log_variances needs shape %s, not %s" % (where, losses.shape, log_variances.shape))
        return tf.reduce_sum(tf.exp(-log_variances) * losses + log_variances) / 2
    if method == "power" and gamma == 1:
        return tf.reduce_mean(losses)
    if method == "power" and math.isinf(gamma):
        return _power_mean(losses, gamma)
    losses = _require_sign(losses, method, names)
    if method == "running":
        return tf.reduce_sum(losses / tf.stop_gradient(losses))
    return _power_mean(losses, 0 if method == "geometric" else gamma)


@register
def prior_loss(labels: ArrayLike, loss: str = "crossentropy") -> float:
    """The loss of the best constant prediction: what a task's loss is divided by with method="prior".

    Args:
        labels: numpy array of the training labels; class ids of any shape for "crossentropy", else [N] or [N, ...].
        loss: "crossentropy": entropy of the class frequencies, in nats; "binary_crossentropy": mean over the labels
            of the entropy of each, 0/1 labels [N, ...]; "squared_error": E |y - mean|^2, summed over the axes of y;
            "mean_squared_error", "mean_absolute_error": averaged over them, as Keras' losses are.

    Returns:
        float.

    Raises:
        ValueError: unknown loss, no labels, labels that are not finite or do not fit the loss, or constant labels
            (their prior loss is 0: there is nothing to learn).

    Reference: kexue.fm/archives/8870.

    >>> round(kexue_keras.losses.prior_loss([0, 0, 1, 2]), 4)
    1.0397
    """
    known = ("crossentropy", "binary_crossentropy", "squared_error", "mean_squared_error", "mean_absolute_error")
    checks.choice(loss, known, "loss", "prior_loss")
    labels = np.asarray(labels)
    if labels.size == 0 or not np.all(np.isfinite(labels)):
        raise ValueError("prior_loss: labels must be finite and not empty, shape %s" % (labels.shape,))
    if loss == "crossentropy":
        if np.any(labels != np.round(labels)):
            raise ValueError("prior_loss: loss='crossentropy' takes class ids, not %r" % labels.flat[0])
        shares = np.unique(labels, return_counts=True)[1] / labels.size
        value = -np.sum(shares * np.log(shares))
    elif loss == "binary_crossentropy":
        if np.any((labels < 0) | (labels > 1)):
            raise ValueError("prior_loss: loss='binary_crossentropy' takes labels from 0 to 1")
        shares = np.mean(labels.astype("float64"), axis=0)
        both = np.stack([shares, 1 - shares])
        value = np.mean(-np.sum(both * np.log(np.where(both > 0, both, 1)), axis=0))
    else:
        rows = labels.astype("float64").reshape(len(labels), -1)
        if loss == "mean_absolute_error":
            value = np.mean(np.abs(rows - np.median(rows, axis=0)))
        else:
            squares = (rows - rows.mean(axis=0)) ** 2
            value = squares.mean() if loss == "mean_squared_error" else squares.sum(axis=1).mean()
    if not value > 0:
        raise ValueError("prior_loss: all labels are equal, so the prior loss is 0; leave this task out")
    return float(value)
