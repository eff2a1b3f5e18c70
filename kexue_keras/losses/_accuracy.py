"""Training the accuracy itself: EXACT (the expected accuracy of noisy logits) and soft accuracy.

如何训练你的准确率？, kexue.fm/archives/9098. Paper: EXACT: How to Train Your Accuracy, arXiv 2205.09615.
"""

import math
from typing import Any, Callable, Optional, Sequence, Union

import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import FunctionLoss, K, keras, register, widen
from kexue_keras.checks import require, require_same_shape, warn_if_probabilities
from kexue_keras.losses._hermite import fixed_nodes, moved_nodes
from kexue_keras.losses._labels import class_count, one_class_each
from kexue_keras.numerics import log_normal_cdf, masked_logsumexp
from kexue_keras.types import Config, Logs, Mask, Shape, Tensor, TensorLike


@register
def expected_accuracy(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    sigma: float = 1.0,
    num_nodes: int = 32,
    margin: Optional[float] = None,
    sparse: bool = True,
) -> Tensor:
    r"""Probability that the right class is the largest after Gaussian noise on the logits; also a metric.

    $$p=P\big(y=\arg\max_i(\mu_i/\sigma+\varepsilon_i)\big)
       =E_{z\sim N(0,1)}\prod_{i\ne y}\Phi\Big(z+\frac{\mu_y-\mu_i}\sigma\Big)$$

    The expectation is a Gauss-Hermite sum, in logarithms: no sampling. For sigma -> 0 it is the accuracy.

    Args:
        y_true: [...] or [..., 1] class numbers; with `sparse=False` one-hot [..., classes].
        y_pred: [..., classes], logits mu. -inf removes a class.
        sigma: float > 0, the standard deviation of the noise in units of logits.
        num_nodes: int, 2 to 128, nodes of the sum. Largest error (float64) over 300 random cases with up to nine
            differences of up to 10 sigma: 16 nodes 2e-6, 32 nodes 4e-10, 64 nodes 1e-15. Memory is
            batch x classes x num_nodes floats.
        margin: float or None; logit differences above it count as `margin`, so that confident samples stop pulling.
        sparse: bool, y_true are class numbers.

    Returns:
        [...], in [0, 1], float32 (float64 for float64 logits).

    Raises:
        ValueError: parameters or shapes that do not fit, or labels out of range (fed ones: an assertion op).

    Reference: kexue.fm/archives/9098 (如何训练你的准确率？); EXACT, arXiv 2205.09615.

    >>> print(K.eval(kexue_keras.losses.expected_accuracy([0], tf.constant([[2., 1., 0.]]))).round(4))
    [0.7288]
    """
    logarithm, possible = _log_expected_accuracy(y_true, y_pred, sigma, num_nodes, margin, sparse, "expected_accuracy")
    probability = tf.minimum(tf.exp(logarithm), 1.0)
    return tf.where(possible, probability, tf.zeros_like(probability))


@register
def negative_log_accuracy(
    y_true: TensorLike,
    y_pred: TensorLike,
    *,
    sigma: float = 1.0,
    num_nodes: int = 32,
    margin: Optional[float] = None,
    sparse: bool = True,
    sample_weight: Optional[TensorLike] = None,
) -> Tensor:
    r"""$-\log E[p]$, the logarithm of the expected accuracy of a whole batch, the paper's other loss.

    Sums are taken in logarithms, and the nodes where the integrand is, so the gradient does not vanish where a whole
    batch is badly wrong; within a batch the rows that are nearest to right pull most. The paper prefers it to 1 - E[p],
    the author of the article found it worse.

    Args:
        y_true, y_pred, sigma, num_nodes, margin, sparse: as in `expected_accuracy`.
        sample_weight: [batch] (or [...]) or None; E is the weighted mean.

    Returns:
        scalar, >= 0, float32 (float64 for float64 logits); it couples the batch. 0 if no row counts.

    Raises:
        ValueError: see `expected_accuracy`.

    Reference: kexue.fm/archives/9098 (如何训练你的准确率？); EXACT, arXiv 2205.09615.

    >>> loss = kexue_keras.losses.negative_log_accuracy([0, 1], tf.constant([[2., 1., 0.], [0., 3., 0.]]), sigma=0.5)
    >>> round(float(K.eval(loss)), 4)
    0.0407
    """
    name = "negative_log_accuracy"
    logarithm, possible = _log_expected_accuracy(y_true, y_pred, sigma, num_nodes, margin, sparse, name, relative=True)
    weights = tf.ones_like(logarithm)
    if sample_weight is not None:
        given = tf.cast(tf.convert_to_tensor(sample_weight), logarithm.dtype)
        if given.shape.rank == logarithm.shape.rank + 1:
            given = tf.squeeze(given, -1)
        while given.shape.rank < logarithm.shape.rank and given.shape.rank:
            given = given[..., None]
        weights = weights * given
        weights = require(weights >= 0, "%s: weights must not be negative:" % name, [weights], then=weights)
    weights, logarithm, possible = (tf.reshape(x, [-1]) for x in (weights, logarithm, possible))
    counts = tf.logical_and(weights > 0, possible)
    logs = tf.math.log(tf.where(counts, weights, tf.ones_like(weights)))
    total, some = masked_logsumexp(logs + tf.minimum(logarithm, 0.0), counts, 0)
    return tf.where(some, tf.math.log(tf.reduce_sum(weights)) - total, tf.zeros_like(total))


def _log_expected_accuracy(y_true, y_pred, sigma, num_nodes, margin, sparse, name, relative=False):
    """(log p, False where the right class is out of the question); `relative`: right also where p is tiny."""
    _check(sigma, num_nodes, margin, name)
    y_pred = tf.convert_to_tensor(y_pred)
    warn_if_probabilities(y_pred, name)
    logits = widen(y_pred)
    hot = _one_hot(y_true, logits, sparse, name)
    taking_part = tf.not_equal(logits, -float("inf"))
    logits = tf.where(taking_part, logits, tf.zeros_like(logits))
    possible = tf.reduce_any(tf.logical_and(taking_part, hot), -1)
    right = tf.reduce_sum(tf.where(hot, logits, tf.zeros_like(logits)), -1, keepdims=True)
    difference = right - logits
    if margin is not None:
        difference = tf.minimum(difference, tf.cast(margin, logits.dtype))
    # Beyond 10^4 sigma the probability is 0 in any dtype; squares must not overflow.
    difference = tf.clip_by_value(difference / sigma, -1e4, 1e4)
    rivals = tf.logical_and(taking_part, tf.logical_not(hot))
    if relative:
        nodes, log_weights = moved_nodes(num_nodes, difference, rivals)
    else:
        nodes, log_weights = fixed_nodes(num_nodes, logits.dtype)
    factors = log_normal_cdf(difference[..., None] + (nodes[..., None, :] if relative else nodes))
    rivals = tf.logical_and(rivals[..., None], tf.ones_like(factors, tf.bool))
    exponents = log_weights + tf.reduce_sum(tf.where(rivals, factors, tf.zeros_like(factors)), -2)
    return tf.reduce_logsumexp(exponents, -1), possible


def _exact_accuracy(y_true, y_pred, **parameters):
    return 1.0 - expected_accuracy(y_true, y_pred, **parameters)


@register
class ExactAccuracy(FunctionLoss):
    """EXACT: the expected error 1 - `expected_accuracy` as a loss, for the last part of a fine-tuning.

    Start from a model trained with cross-entropy: a sample that is badly wrong has almost no gradient. With a fixed
    sigma that is large against the logits the best answer may be degenerate (in the article's toy example sigma = 1
    drives the bias to infinity), so learn it or lower it: `ExactScale`, `SigmaSchedule`. The paper reports gains on
    images; the author of the article got results clearly below cross-entropy on Chinese text.

    Args:
        sigma: float > 0, standard deviation of the noise on the logits. 1 if an `ExactScale` layer comes before.
        num_nodes: int, nodes of the Gauss-Hermite sum.
        margin: float or None, the largest logit difference that counts (after an `ExactScale`: in units of sigma).
        sparse: bool, targets are class numbers (otherwise one-hot).
        logarithm: bool; True: `negative_log_accuracy` of the batch, one number (there is nothing to reduce);
            `sample_weight` makes its mean a weighted one.
        name: str.
        reduction: as in `keras.losses.Loss`.

    Reference: kexue.fm/archives/9098 (如何训练你的准确率？); EXACT, arXiv 2205.09615.

    >>> loss = kexue_keras.losses.ExactAccuracy(sigma=0.5)
    >>> round(float(K.eval(loss(tf.constant([0, 1]), tf.constant([[2., 1., 0.], [0., 3., 0.]])))), 4)
    0.0398
    """

    def __init__(
        self,
        *,
        sigma: float = 1.0,
        num_nodes: int = 32,
        margin: Optional[float] = None,
        sparse: bool = True,
        logarithm: bool = False,
        name: str = "exact_accuracy",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        _check(sigma, num_nodes, margin, "ExactAccuracy")
        self.logarithm = bool(logarithm)
        super().__init__(
            negative_log_accuracy if self.logarithm else _exact_accuracy,
            name=name,
            reduction=reduction,
            own_weights=self.logarithm,
            sigma=sigma,
            num_nodes=num_nodes,
            margin=margin,
            sparse=sparse,
        )

    def get_config(self) -> Config:
        return dict(super().get_config(), logarithm=self.logarithm)


@register
class ExactScale(keras.layers.Layer):
    """Divides logits by sigma, learned or set by a `SigmaSchedule`; the last layer before `ExactAccuracy`.

    The expected accuracy depends on logits / sigma only, so dividing here is the same as a sigma in the loss, but
    sigma is a weight: it is trained (its logarithm is), saved and loaded with the model. The predicted class is not
    changed by it.

    Args:
        sigma: float > 0, the value at the start.
        learn: bool; False leaves sigma to a `SigmaSchedule`.

    Reference: kexue.fm/archives/9098 (如何训练你的准确率？); EXACT, arXiv 2205.09615.

    >>> x = keras.layers.Input([3])
    >>> model = keras.models.Model(x, kexue_keras.losses.ExactScale(sigma=0.5)(x))
    >>> model.predict(np.ones([1, 3])).tolist()
    [[2.0, 2.0, 2.0]]
    """

    def __init__(self, *, sigma: float = 1.0, learn: bool = True, **kwargs: Any) -> None:
        _check(sigma, 32, None, "ExactScale")
        super().__init__(**kwargs)
        self.sigma, self.learn = sigma, learn
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        self.log_sigma = self.add_weight(
            name="log_sigma",
            shape=(),
            initializer=keras.initializers.Constant(math.log(self.sigma)),
            trainable=self.learn,
        )
        super().build(input_shape)

    def call(self, inputs: Tensor) -> Tensor:
        return inputs * tf.cast(tf.exp(-self.log_sigma), inputs.dtype)

    def compute_mask(self, inputs: Tensor, mask: Mask = None) -> Mask:
        return mask

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        return dict(super().get_config(), sigma=self.sigma, learn=self.learn)


@register
class SigmaSchedule(keras.callbacks.Callback):
    """Sets the sigma of an `ExactScale` layer at the start of each epoch: annealing from smooth to sharp.

    Args:
        schedule: function epoch (int from 0) -> sigma > 0, or a list of values (the last one stays).
        layer: name of the `ExactScale` layer, needed only if the model has several.

    Raises:
        ValueError: when training starts: no such layer, or several and no name; or a sigma that is not > 0.

    Reference: kexue.fm/archives/9098 (如何训练你的准确率？); EXACT, arXiv 2205.09615.

    >>> anneal = kexue_keras.losses.SigmaSchedule([1.0, 0.5, 0.25])
    >>> anneal.sigma_at(7)
    0.25
    """

    def __init__(
        self, schedule: Union[Callable[[int], float], Sequence[float]], *, layer: Optional[str] = None
    ) -> None:
        super().__init__()
        self.schedule, self.layer = schedule, layer

    def sigma_at(self, epoch: int) -> float:
        """The sigma of an epoch, counted from 0."""
        sigma = self.schedule(epoch) if callable(self.schedule) else self.schedule[min(epoch, len(self.schedule) - 1)]
        _check(sigma, 32, None, "SigmaSchedule in epoch %d" % epoch)
        return sigma

    def _target(self):
        scales = [layer for layer in self.model.layers if isinstance(layer, ExactScale)]
        named = [layer for layer in scales if self.layer in (None, layer.name)]
        if len(named) != 1:
            raise ValueError(
                "SigmaSchedule needs exactly one ExactScale layer%s, but the model has these: %s; put one after the "
                "logits, or pass layer=NAME"
                % (" named %r" % self.layer if self.layer else "", [layer.name for layer in scales])
            )
        return named[0]

    def on_epoch_begin(self, epoch: int, logs: Optional[Logs] = None) -> None:
        K.set_value(self._target().log_sigma, math.log(self.sigma_at(epoch)))


@register
def soft_accuracy(y_true: TensorLike, y_pred: TensorLike, *, from_logits: bool = True, sparse: bool = True) -> Tensor:
    """The error under the model's own probabilities, 1 - p(right class), as a loss.

    Its gradient p_y (p - onehot) vanishes for samples that are badly wrong: for the end of a fine-tuning, not for
    its start. To first order it is the cross-entropy where p is near 1.

    Args:
        y_true: [...] or [..., 1] class numbers; with `sparse=False` [..., classes], one-hot or soft.
        y_pred: [..., classes], logits, or probabilities if not `from_logits`.
        from_logits: bool.
        sparse: bool.

    Returns:
        [...], in [0, 1], float32 (float64 for float64 logits); small errors keep their relative precision.

    Raises:
        ValueError: shapes that do not fit, or labels out of range (fed ones: an assertion op).

    Reference: kexue.fm/archives/9098 (如何训练你的准确率？).

    >>> loss = kexue_keras.losses.soft_accuracy([0, 0], tf.constant([[2., 1., 0.], [0., 1., 0.]]))
    >>> print(K.eval(loss).round(4))
    [0.3348 0.7881]
    """
    name = "soft_accuracy"
    y_pred = tf.convert_to_tensor(y_pred)
    values = widen(y_pred)
    if sparse:
        targets = tf.cast(_one_hot(y_true, values, True, name), values.dtype)
    else:
        targets = tf.cast(tf.stop_gradient(tf.convert_to_tensor(y_true)), values.dtype)
        targets, values = require_same_shape(targets, values, name)
    if from_logits:
        warn_if_probabilities(y_pred, name)
        values = tf.nn.softmax(values)
    # Not 1 - p: the sum over the other classes keeps its digits where p is near 1.
    return tf.reduce_sum((1.0 - targets) * values, -1)


def _check(sigma, num_nodes, margin, name):
    checks.number(sigma, "sigma", name, above=0, remedy="to learn it put an ExactScale layer before the loss")
    checks.whole_number(num_nodes, "num_nodes", name, least=2, most=128)
    if margin is not None:
        checks.number(margin, "margin", name, above=0, remedy="None cuts nothing")


def _one_hot(y_true, logits, sparse, name):
    """Boolean [..., classes] with one True each."""
    if sparse:
        labels = one_class_each(y_true, logits, name)
        return tf.one_hot(labels, class_count(logits), on_value=True, off_value=False, dtype=tf.bool)
    hot, logits = require_same_shape(tf.convert_to_tensor(y_true), logits, name)
    message = "%s: with sparse=False every label must be one-hot (one 1, else 0)" % name
    ones = tf.equal(hot, tf.ones_like(hot))
    zeros = tf.equal(hot, tf.zeros_like(hot))
    good = tf.logical_and(
        tf.equal(tf.reduce_sum(tf.cast(ones, tf.int32), -1), 1), tf.reduce_all(tf.logical_or(ones, zeros), -1)
    )
    return require(good, message, [], then=ones)
