"""R-Drop where single tokens are predicted: generation, masked language modelling, prompts.

又是Dropout两次！这次它做到了有监督任务的SOTA, kexue.fm/archives/8496. Paper: R-Drop, arXiv 2106.14448.
"""

from typing import Any, Optional

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, K, register, widen
from kexue_keras.checks import require, warn_if_probabilities
from kexue_keras.losses._masked_lm import NORMALIZATIONS, scales, token_losses
from kexue_keras.losses._rdrop import CONVENTIONS, pair_of, rdrop_divergence, warn_if_never_random
from kexue_keras.types import Tensor, TensorLike


@register
def masked_rdrop_crossentropy(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    alpha: float = 4.0,
    from_logits: bool = True,
    ignore: Optional[int] = 0,
    normalization: str = "batch",
    convention: str = "article",
    train_only: bool = False,
) -> Tensor:
    r"""`masked_crossentropy` of two dropout passes plus their divergence at the predicted positions, a value a row.

    $$\frac{\sum_j m_j\{\tfrac12(CE_{1j}+CE_{2j})+c\,\alpha\,[D(f_{1j},f_{2j})+D(f_{2j},f_{1j})]\}}{\sum_j m_j}$$

    with c = 1/4 ("article") or 1/2 ("mean") as in `rdrop_crossentropy`; D is the Kullback-Leibler divergence over the
    vocabulary.

    Args:
        y_true: integer ids [2B, n] or [2B, n, 1], each row twice in succession.
        y_pred: logits [2B, n, vocabulary], rows 2i and 2i+1 of one sample (probabilities if `from_logits` is False);
            or the output of a model made by `training.rdrop`, [B, n, vocabulary] (then y_true has B rows, too).
        alpha: float >= 0, weight of the divergence.
        from_logits, ignore, normalization: see `masked_crossentropy`.
        convention: "article" or "mean".
        train_only: bool; the divergence only in Keras' training phase, so that validation data need no pairs.

    Returns:
        float tensor [2B] (or [B]); each row has its own cross-entropies and the divergence of its pair, so the mean is
        the formula above.

    Raises:
        ValueError: as `masked_crossentropy`, or an odd batch or labels that differ within a pair where that is known
            beforehand (otherwise an assertion op).

    Reference: kexue.fm/archives/8496 (又是Dropout两次！这次它做到了有监督任务的SOTA); R-Drop, arXiv 2106.14448.

    >>> logits = K.log(K.constant([[[.5, .2, .3]], [[.5, .3, .2]]]))
    >>> print(K.eval(kexue_keras.losses.masked_rdrop_crossentropy([[1], [1]], logits)).round(4))
    [1.6905 1.2851]
    """
    values = _token_values(
        y_true,
        y_pred,
        alpha=alpha,
        from_logits=from_logits,
        ignore=ignore,
        normalization=normalization,
        convention=convention,
        train_only=train_only,
    )
    return tf.reduce_mean(values, axis=1)


@register
class MaskedRDropCrossentropy(FunctionLoss):
    """`masked_rdrop_crossentropy` for `model.compile`: R-Drop for generation, MLM and prompts.

    Training batches hold every sample twice in succession (`Techniques(rdrop=...)` sees to it), or the model is one of
    `training.rdrop`; the divergence is computed in the training phase only, so validation data stay as they are and
    give the plain cross-entropy.
    To Keras it gives one value a token as `MaskedCrossentropy` does.

    Args:
        alpha: float >= 0; the article uses 4 with dropout 0.3.
        from_logits, ignore, normalization: see `MaskedCrossentropy`.
        convention: "article" or "mean" (alpha twice as strong).
        train_only: bool; False computes the divergence in every phase.
        reduction, name: as in `keras.losses.Loss`.

    Raises:
        ValueError: unknown words, a negative alpha, or shapes as in `masked_rdrop_crossentropy`.

    Reference: kexue.fm/archives/8496 (又是Dropout两次！这次它做到了有监督任务的SOTA); R-Drop, arXiv 2106.14448.

    >>> logits = K.log(K.constant([[[.5, .2, .3]], [[.5, .3, .2]]]))
    >>> loss = kexue_keras.losses.MaskedRDropCrossentropy(alpha=1., train_only=False)
    >>> round(float(K.eval(loss(K.constant([[1], [1]]), logits))), 4)
    1.427
    """

    def __init__(
        self,
        *,
        alpha: float = 4.0,
        from_logits: bool = True,
        ignore: Optional[int] = 0,
        normalization: str = "batch",
        convention: str = "article",
        train_only: bool = True,
        name: str = "masked_rdrop_crossentropy",
        **kwargs: Any,
    ) -> None:
        _check(alpha, normalization, convention, "MaskedRDropCrossentropy")
        super().__init__(
            _token_values,
            name=name,
            alpha=alpha,
            from_logits=bool(from_logits),
            ignore=ignore,
            normalization=normalization,
            convention=convention,
            train_only=train_only,
            **kwargs,
        )


def _check(alpha, normalization, convention, name):
    checks.number(alpha, "alpha", name, least=0)
    checks.choice(normalization, NORMALIZATIONS, "normalization", name)
    checks.choice(convention, CONVENTIONS, "convention", name)


def _token_values(y_true, y_pred, *, alpha, from_logits, ignore, normalization, convention, train_only):
    """[2B, n]; their mean is the mean of `masked_rdrop_crossentropy`."""
    name = "masked_rdrop_crossentropy"
    _check(alpha, normalization, convention, name)
    y_pred, passes = tf.convert_to_tensor(y_pred), pair_of(y_pred)
    if from_logits:
        warn_if_probabilities(y_pred, name)
    if passes is not None:
        y_true = tf.repeat(y_true, 2, axis=0)
        y_pred = tf.reshape(tf.stack(passes, axis=1), tf.concat([[-1], tf.shape(passes[0])[1:]], 0))
        y_pred.set_shape([None] + passes[0].shape.as_list()[1:])
    elif alpha:
        warn_if_never_random([y_pred], name)
    values, mask = token_losses(y_true, y_pred, None, from_logits, ignore, name)
    weight = alpha * CONVENTIONS[convention]

    def scaled(each):
        factors = scales(mask, normalization) * tf.cast(tf.shape(each)[1], each.dtype)
        return each * (factors[:, None] if normalization == "sample" else factors)

    def with_divergence():
        return scaled(values + weight * _divergence_of_pairs(y_pred, mask, y_true, from_logits, name))

    if passes is not None:
        both = with_divergence()
        return 0.5 * (both[::2] + both[1::2])
    if not train_only:
        return with_divergence()
    result = K.in_train_phase(with_divergence, lambda: scaled(values))
    if hasattr(y_pred, "_uses_learning_phase"):
        # Keras 2.3.1 feeds the phase only to models that ask for it.
        y_pred._uses_learning_phase = True
    result.set_shape(values.shape)
    return result


def _divergence_of_pairs(y_pred, mask, y_true, from_logits, name):
    """[2B, n]: at the predicted positions the divergence of the row's pair, elsewhere 0."""
    y_true = tf.reshape(tf.cast(y_true, tf.int32), tf.shape(mask))
    rows = tf.shape(mask)[0]
    first, second = y_true[: rows - rows % 2 : 2], y_true[1::2]
    mask = require(
        tf.logical_and(tf.equal(rows % 2, 0), tf.reduce_all(tf.equal(first, second))),
        "%s: the batch must hold pairs, rows 2i and 2i+1 with the same inputs and labels, so its size must be even; "
        "yield every sample twice in succession. Labels of the first two rows:" % name,
        [y_true[:2]],
        then=mask,
    )
    # Only the predicted positions are exponentiated, as in the cross-entropy.
    where = tf.where(mask[::2] > 0)
    passes = [widen(tf.gather_nd(y_pred[k::2], where)) for k in (0, 1)]
    divergence = rdrop_divergence(*passes, from_logits=from_logits)
    spread = tf.scatter_nd(where, divergence, tf.cast(tf.shape(mask[::2]), tf.int64))
    return tf.repeat(spread, 2, axis=0)
