"""Losses that pair neighbouring rows, for data whose rows are shuffled.

中文任务还是SOTA吗？我们给SimCSE补充了一些实验, kexue.fm/archives/8348. Paper: SimCSE, arXiv 2104.08821.
"""

import functools
from typing import Optional

import tensorflow as tf

from kexue_keras.backend import FunctionLoss, keras, register
from kexue_keras.types import Config, Loss


@register
class TwoViewLoss(FunctionLoss):
    """A loss that pairs rows 2i and 2i+1, for y_pred [batch, 2, dimension], whose rows shuffling cannot tear apart.

    The loss gets y_pred [2 batch, dimension] and each target twice; a row's value is the mean of its two. A loss that
    takes the sample weights itself (CoSENT, semi-supervised R-Drop) gets each of them twice.

    Args:
        loss: Keras loss, or a function (y_true, y_pred) with values per row: `InfoNCE(0.05, layout="two_view")` is the
            loss of SimBERT and of the article on SimCSE, with negatives in both views.
        name: that of the loss by default.
        reduction: as in `keras.losses.Loss`.

    Raises:
        ValueError: y_pred is not [batch, 2, dimension], or the loss does not give one value per row.

    Reference: kexue.fm/archives/7427, 8348 (中文任务还是SOTA吗？我们给SimCSE补充了一些实验).

    >>> from kexue_keras import losses, training
    >>> views = K.constant([[[1.0, 0.0], [0.8, 0.6]], [[0.0, 2.0], [-0.6, 0.8]]])
    >>> loss = training.TwoViewLoss(losses.InfoNCE(1.0, layout="two_view"))
    >>> np.round(K.eval(loss.call(K.zeros([2, 1, 1]), views)), 4)
    array([0.6736, 0.6736], dtype=float32)
    """

    def __init__(self, loss: Loss, *, name: Optional[str] = None, reduction: str = "sum_over_batch_size") -> None:
        self.loss = keras.losses.get(loss)
        if not callable(self.loss):
            raise TypeError("TwoViewLoss: loss must be a Keras loss or a function, but it is %r" % (loss,))
        inner = getattr(self.loss, "name", None) or getattr(self.loss, "__name__", "loss")
        own_weights = getattr(self.loss, "own_weights", False)
        super().__init__(self._values, name=name or inner, reduction=reduction, own_weights=own_weights)

    def _values(self, y_true, y_pred, sample_weight=None):
        y_pred = tf.convert_to_tensor(y_pred)
        if y_pred.shape.rank != 3 or y_pred.shape.as_list()[1] not in (2, None):
            raise ValueError("TwoViewLoss: y_pred must be [batch, 2, dimension], but its shape is %s" % y_pred.shape)
        function = getattr(self.loss, "call", self.loss)
        if self.own_weights:
            weights = None if sample_weight is None else _twice(sample_weight, y_pred)
            function = functools.partial(self.loss.fn, sample_weight=weights, **self.loss.parameters)
        rows = tf.reshape(y_pred, [-1, tf.shape(y_pred)[2]])
        rows.set_shape([None, y_pred.shape.as_list()[2]])
        values = function(tf.repeat(tf.convert_to_tensor(y_true), 2, axis=0), rows)
        if values.shape.rank == 0:
            return values
        if values.shape.rank != 1:
            raise ValueError(
                "TwoViewLoss: %s must give one value per row (or one number), but its shape is %s"
                % (self.name, values.shape)
            )
        return tf.reduce_mean(tf.reshape(values, [-1, 2]), axis=1)

    def get_config(self) -> Config:
        return {"loss": keras.losses.serialize(self.loss), "name": self.name, "reduction": self._reduction}


def _twice(sample_weight, y_pred):
    """Weights of rows, or one for all, for the rows of both views."""
    rows = tf.reshape(tf.convert_to_tensor(sample_weight), [-1])
    return tf.repeat(rows + tf.zeros([tf.shape(y_pred)[0]], rows.dtype), 2, axis=0)
