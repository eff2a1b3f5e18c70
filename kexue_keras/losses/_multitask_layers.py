"""Layers around `combine_losses`: the loss of a multi-output model, and trainable uncertainty weights.

Reference: "多任务学习漫谈（一）：以损失之名", kexue.fm/archives/8870; Kendall et al., arXiv 1705.07115.
"""

from typing import Any, List, Optional, Sequence

import tensorflow as tf

from kexue_keras.backend import K, add_update, keras, register, widen
from kexue_keras.checks import require
from kexue_keras.losses._multitask import ANY_SIGN, check_method, combine_losses
from kexue_keras.types import Config, Loss, Shape, Tensor


@register
class UncertaintyWeights(keras.layers.Layer):
    """Uncertainty weighting with trainable log-variances: sum (exp(-s_i) L_i + s_i) / 2.

    The sum is linear in the losses, so it is taken sample by sample: its mean is
    `combine_losses(means, method="uncertainty")`.

    Args:
        initial_value: float, where every s_i starts.

    Call arguments:
        list of n tensors of one shape, per-sample losses ([batch] or [batch, 1]), none of them negative.

    Returns:
        tensor of that shape.

    Raises:
        ValueError: the input is not a list.

    Reference: Kendall et al., arXiv 1705.07115 (not in the articles).

    >>> layer = kexue_keras.losses.UncertaintyWeights()
    >>> combined = layer([keras.layers.Input((1,)), keras.layers.Input((1,))])
    >>> K.int_shape(combined), K.int_shape(layer.log_variances)
    ((None, 1), (2,))
    """

    def __init__(self, initial_value: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.initial_value = float(initial_value)

    def build(self, input_shape: List[Shape]) -> None:
        if not isinstance(input_shape, list):
            raise ValueError("UncertaintyWeights takes a list of losses, not one of shape %s" % (input_shape,))
        self.log_variances = self.add_weight(
            name="log_variances",
            shape=(len(input_shape),),
            initializer=keras.initializers.Constant(self.initial_value),
        )
        super().build(input_shape)

    def call(self, inputs: List[Tensor]) -> Tensor:
        combined = 0.0
        for i, loss in enumerate(inputs):
            loss = widen(loss)
            loss = require(
                loss >= 0,
                "UncertaintyWeights needs non-negative losses; for losses that can be <= 0 use combine_losses with %s. "
                "Loss %d is:" % (ANY_SIGN, i),
                [loss],
                then=loss,
            )
            s = tf.cast(self.log_variances[i], loss.dtype)
            combined += (tf.exp(-s) * loss + s) / 2
        return combined

    def compute_output_shape(self, input_shape: List[Shape]) -> Shape:
        return input_shape[0]

    def get_config(self) -> Config:
        return dict(super().get_config(), initial_value=self.initial_value)


@register
class MultiTaskLoss(keras.layers.Layer):
    """The layer that gives a multi-output model a combined loss; compile such a model without a loss.

    Its value is `combine_losses` of the tasks' mean losses, added to the model with `add_loss`.

    Args:
        losses: list of n Keras losses: names, functions, or `keras.losses.Loss` instances.
        method: as in `combine_losses`. "uncertainty" makes n trainable log-variances; "initial" without `initial`
            takes the losses of the first training batch and keeps them in a variable; both are saved with the model.
        initial, prior, gamma: as in `combine_losses`.

    Call arguments:
        list of 2n tensors: the n targets (as model inputs), then the n predictions; or of 3n: and then the sample
        weights of each task, [batch, 1] (weight 0: this sample has no label for this task).

    Returns:
        the list of the n predictions, unchanged.

    Raises:
        ValueError: as in `combine_losses`, or another number of inputs.

    Reference: kexue.fm/archives/8870.

    >>> x, y1, y2 = keras.layers.Input((4,)), keras.layers.Input((1,)), keras.layers.Input((1,))
    >>> a, b = keras.layers.Dense(3, activation="softmax")(x), keras.layers.Dense(1)(x)
    >>> tasks = ["sparse_categorical_crossentropy", "mean_squared_error"]
    >>> outputs = kexue_keras.losses.MultiTaskLoss(tasks, method="running")([y1, y2, a, b])
    >>> model = keras.models.Model([x, y1, y2], outputs)
    >>> model.compile("adam")
    >>> round(float(model.train_on_batch([np.ones((2, 4)), np.ones((2, 1)), np.ones((2, 1))], None)), 3)
    2.0
    """

    def __init__(
        self,
        losses: Sequence[Loss],
        *,
        method: str = "sum",
        initial: Optional[Sequence[float]] = None,
        prior: Optional[Sequence[float]] = None,
        gamma: Optional[float] = None,
        **kwargs: Any,
    ) -> None:
        check_method(method, initial, prior, gamma, "MultiTaskLoss", needed=False)
        super().__init__(**kwargs)
        if not isinstance(losses, (list, tuple)) or not losses:
            raise ValueError("MultiTaskLoss: losses must be a non-empty list, not %r" % (losses,))
        self.task_losses = [keras.losses.get(loss) for loss in losses]
        self.method, self.initial, self.prior, self.gamma = method, initial, prior, gamma

    def build(self, input_shape: List[Shape]) -> None:
        number = len(self.task_losses)
        if not isinstance(input_shape, list) or len(input_shape) not in (2 * number, 3 * number):
            raise ValueError(
                "MultiTaskLoss: %d losses take a list of %d tensors (targets, then predictions) or of %d (and "
                "then sample weights), but the input shapes are %s" % (number, 2 * number, 3 * number, input_shape)
            )
        if self.method == "uncertainty":
            self.log_variances = self.add_weight(name="log_variances", shape=(number,), initializer="zeros")
        if self.method == "initial" and self.initial is None:
            self.first_losses = self.add_weight(
                name="first_losses", shape=(number,), initializer="zeros", trainable=False
            )
        super().build(input_shape)

    def call(self, inputs: List[Tensor]) -> List[Tensor]:
        number = len(self.task_losses)
        targets, predictions = inputs[:number], inputs[number : 2 * number]
        weights = inputs[2 * number :] or [None] * number
        values = [_mean_loss(*task) for task in zip(self.task_losses, targets, predictions, weights)]
        arguments = {"initial": self.initial, "prior": self.prior, "gamma": self.gamma}
        if self.method == "uncertainty":
            arguments["log_variances"] = self.log_variances
        if self.method == "initial" and self.initial is None:
            arguments["initial"] = self._first(values, inputs)
        names = ["task %d" % i for i in range(number)]
        self.add_loss(combine_losses(values, method=self.method, names=names, **arguments), inputs=inputs)
        return [tf.identity(p) for p in predictions]

    def _first(self, values, inputs):
        """The first batch's losses; before and after its update is run the value is the same."""
        now = tf.stop_gradient(tf.stack([tf.cast(v, self.first_losses.dtype.base_dtype) for v in values]))
        first = tf.where(self.first_losses > 0, tf.convert_to_tensor(self.first_losses), now)
        add_update(self, K.update(self.first_losses, first), inputs)
        return first

    def compute_output_shape(self, input_shape: List[Shape]) -> List[Shape]:
        return list(input_shape[len(self.task_losses) : 2 * len(self.task_losses)])

    def compute_mask(
        self, inputs: List[Tensor], mask: Optional[List[Optional[Tensor]]] = None
    ) -> List[Optional[Tensor]]:
        number = len(self.task_losses)
        return [None] * number if mask is None else list(mask[number : 2 * number])

    def get_config(self) -> Config:
        config = {
            "losses": [_serialized(loss) for loss in self.task_losses],
            "method": self.method,
            "initial": _plain(self.initial),
            "prior": _plain(self.prior),
            "gamma": self.gamma,
        }
        return dict(super().get_config(), **config)


def _mean_loss(loss, y_true, y_pred, weights):
    if isinstance(loss, keras.losses.Loss):
        return tf.reduce_mean(widen(loss(y_true, y_pred, sample_weight=weights)))
    values = widen(loss(y_true, y_pred))
    if weights is not None:
        shape = tf.concat([[-1], tf.ones([tf.rank(values) - 1], tf.int32)], axis=0)
        values *= tf.reshape(tf.cast(weights, values.dtype), shape)
    return tf.reduce_mean(values)


def _plain(values):
    return None if values is None else [float(v) for v in values]


def _serialized(loss):
    if isinstance(loss, keras.losses.Loss):
        return {"class_name": type(loss).__name__, "config": loss.get_config()}
    return loss.__name__
