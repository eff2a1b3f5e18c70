"""F1 of multi-label predictions, from counts over all batches.

将“Softmax+交叉熵”推广到多标签分类问题, kexue.fm/archives/7359 (the answer is the classes with a logit above 0).
"""

from typing import Optional

import numpy as np
import tensorflow as tf

from kexue_keras import checks
from kexue_keras.backend import K, is_tf_keras, keras, register
from kexue_keras.checks import require_same_shape
from kexue_keras.losses._labels import as_classes, class_count, multi_hot
from kexue_keras.losses.multilabel._crossentropy import over_threshold
from kexue_keras.types import Config, Tensor, TensorLike, Tensors


@register
class MultilabelF1(keras.metrics.Metric):
    """Micro or macro F1 of multi-label logits, from counts summed over the batches of an epoch.

    F1 = 2 TP / (2 TP + FP + FN); micro: of the summed counts; macro: mean over the classes (a class that never occurs
    and is never predicted counts 0, as in scikit-learn). It is not the mean of the batches' F1.

    Args:
        average: "micro" or "macro".
        num_classes: int, needed for macro.
        threshold: float; a class is predicted if its logit is above it.
        k: int or None; the k largest logits are predicted instead, as by `decode_multilabel(logits, k=k)`.
        learned_threshold: bool; the first column of the output is a threshold, which `threshold` is added to.
        from_sparse: bool, targets are class numbers [..., P].
        mask_zero: bool, with `from_sparse`: class number 0 is padding and class 0 takes no part.
        mask_below: float; classes with a logit up to here (masked ones) are not counted.
        name: str; "micro_f1" or "macro_f1" by default.
        dtype: of the counts.

    Raises:
        ValueError: an unknown average, or macro without num_classes.

    Keras 2.3.1 cannot load a model that was compiled with any metric object; load it with compile=False, or within
    `with kexue_keras.backend.metric_objects_load():`.

    Reference: kexue.fm/archives/7359 (将“Softmax+交叉熵”推广到多标签分类问题).

    >>> model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,))])
    >>> f1 = [kexue_keras.losses.MultilabelF1(), kexue_keras.losses.MultilabelF1(average="macro", num_classes=4)]
    >>> model.compile("sgd", kexue_keras.losses.MultilabelCrossentropy(), metrics=f1)
    >>> len(model.evaluate(np.ones([8, 3]), np.ones([8, 4]), verbose=0))
    3
    """

    def __init__(
        self,
        *,
        average: str = "micro",
        num_classes: Optional[int] = None,
        threshold: float = 0.0,
        k: Optional[int] = None,
        learned_threshold: bool = False,
        from_sparse: bool = False,
        mask_zero: bool = False,
        mask_below: float = -1e7,
        name: Optional[str] = None,
        dtype: Optional[str] = None,
    ) -> None:
        checks.choice(average, ("micro", "macro"), "average", "MultilabelF1")
        if average == "macro" and not num_classes:
            raise ValueError('MultilabelF1: average="macro" counts class by class; pass num_classes')
        if k is not None:
            checks.whole_number(k, "k", "MultilabelF1", least=1)
            if threshold != 0.0:
                raise ValueError("MultilabelF1: k=%r and threshold=%r; no threshold goes with k" % (k, threshold))
        super().__init__(name=name or average + "_f1", dtype=dtype)
        self.average, self.num_classes, self.threshold = average, num_classes, threshold
        self.k, self.learned_threshold = k, learned_threshold
        self.from_sparse, self.mask_zero, self.mask_below = from_sparse, mask_zero, mask_below
        shape = (num_classes,) if average == "macro" else ()
        self.hits = self.add_weight("hits", shape=shape, initializer="zeros")
        self.misses = self.add_weight("misses", shape=shape, initializer="zeros")

    def update_state(
        self, y_true: TensorLike, y_pred: TensorLike, sample_weight: Optional[TensorLike] = None
    ) -> Tensors:
        """Add a batch: y_true and y_pred [..., classes] (or y_true [..., P]), sample_weight [batch] or [...]."""
        y_pred = over_threshold(tf.convert_to_tensor(y_pred), self.learned_threshold, self.mask_below, self.name)
        y_true = tf.convert_to_tensor(y_true)
        classes = class_count(y_pred)
        if self.from_sparse:
            y_true = multi_hot(as_classes(y_true, classes, self.name), classes, tf.float32)
        y_true, y_pred = require_same_shape(y_true, y_pred, self.name)
        counted = tf.logical_not(y_pred <= self.mask_below)
        if self.mask_zero:
            counted = tf.logical_and(counted, tf.range(classes) > 0)
        right = tf.logical_and(counted, tf.cast(y_true, tf.float32) > 0.5)
        predicted = tf.logical_and(counted, self._predicted(y_pred, counted, classes))
        weights = tf.ones_like(y_pred, tf.float32)
        if sample_weight is not None:
            sample_weight = tf.cast(sample_weight, tf.float32)
            while sample_weight.shape.rank < y_pred.shape.rank:
                sample_weight = sample_weight[..., None]
            weights = weights * sample_weight
        axes = list(range(y_pred.shape.rank - (self.average == "macro")))

        def count(where):
            return tf.cast(tf.reduce_sum(weights * tf.cast(where, tf.float32), axes), self.hits.dtype)

        hits, misses = count(tf.logical_and(right, predicted)), count(tf.not_equal(right, predicted))
        with tf.control_dependencies([self.hits.assign_add(hits), self.misses.assign_add(misses)]):
            # tf.keras traces this as a function, which must return one tensor; Keras 2.3.1 wants a list.
            done = tf.identity(hits)
        return done if is_tf_keras else [done]

    def _predicted(self, y_pred, counted, classes):
        if self.k is None:
            return y_pred > self.threshold
        lowest = tf.fill(tf.shape(y_pred), y_pred.dtype.min)
        largest = tf.math.top_k(tf.where(counted, y_pred, lowest), self.k).indices
        return multi_hot(largest, classes, tf.float32) > 0

    def result(self) -> Tensor:
        """The F1 of everything counted since the last reset; 0 if nothing was."""
        twice = 2.0 * self.hits
        total = twice + self.misses
        empty = tf.equal(total, tf.zeros_like(total))
        f1 = tf.where(empty, tf.zeros_like(total), twice / tf.where(empty, tf.ones_like(total), total))
        return tf.reduce_mean(f1)

    def reset_states(self) -> None:
        """Forget all counts; Keras calls it before each epoch."""
        K.batch_set_value([(w, np.zeros(K.int_shape(w))) for w in (self.hits, self.misses)])

    def reset_state(self) -> None:
        """What Keras calls `reset_states` from TensorFlow 2.5 on."""
        self.reset_states()

    def get_config(self) -> Config:
        return dict(
            super().get_config(),
            average=self.average,
            num_classes=self.num_classes,
            threshold=self.threshold,
            k=self.k,
            learned_threshold=self.learned_threshold,
            from_sparse=self.from_sparse,
            mask_zero=self.mask_zero,
            mask_below=self.mask_below,
        )
