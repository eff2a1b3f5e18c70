"""How an optimizer looks to tf.keras (`OptimizerV2`), and how one of its own is made to take given gradients.

The counterpart for Keras 2.3.1 is `keras_adapter.py`; both offer the same names, and `base.py` takes one of them.
"""

from typing import Any, Iterable, Optional, Tuple, Union

import tensorflow as tf

from kexue_keras.backend import K, keras
from kexue_keras.optimizers import _gradients as grads
from kexue_keras.optimizers._patching import replaced
from kexue_keras.types import Config, LearningRate, Op, Tensor, Variable

# tf-keras from 2.11 on keeps the OptimizerV2 interface in `legacy`.
KerasOptimizer = getattr(keras.optimizers, "legacy", keras.optimizers).Optimizer
# What `clipnorm` means on this stack: a norm for each gradient separately.
clip_by_norm = grads.clip_by_own_norm


class StackOptimizer(KerasOptimizer):
    """The tf.keras side: `apply_gradients` hands the gradients to `train`."""

    def __init__(self, name: Optional[str] = None) -> None:
        super().__init__(name=name or type(self).__name__)

    def make_learning_rate(self, value: LearningRate) -> None:
        self._set_hyper("learning_rate", value)

    def read_learning_rate(self) -> Tensor:
        """The rate of this step, a float32 scalar."""
        return tf.identity(self._decayed_lr(tf.float32))

    def learning_rate_config(self) -> Union[float, Config]:
        """The rate as `get_config` stores it."""
        rate = self._serialize_hyperparameter("learning_rate")
        return rate if isinstance(rate, dict) else float(rate)

    @property
    def learning_rate(self) -> Union[Variable, LearningRate]:
        return self._get_hyper("learning_rate")

    @learning_rate.setter
    def learning_rate(self, value: LearningRate) -> None:
        self._set_hyper("learning_rate", value)

    @property
    def lr(self) -> Union[Variable, LearningRate]:
        return self.learning_rate

    def __setattr__(self, name, value):
        if name in ("lr", "learning_rate") and hasattr(self, "_hyper"):
            type(self).learning_rate.fset(self, value)
        else:
            super().__setattr__(name, value)

    def apply_gradients(
        self, grads_and_vars: Iterable[Tuple[Any, Variable]], name: Optional[str] = None, **kwargs: Any
    ) -> Op:
        if tf.distribute.has_strategy():
            raise NotImplementedError(
                "%s does not run under %s; use one device, or Horovod"
                % (type(self).__name__, type(tf.distribute.get_strategy()).__name__)
            )
        pairs = [(g, v) for g, v in grads_and_vars if g is not None]
        if not pairs:
            raise ValueError("no gradient for any variable; does the loss depend on the trainable weights?")
        with K.name_scope(type(self).__name__):
            return self.train([g for g, _ in pairs], [v for _, v in pairs])

    def _create_hypers(self):
        with tf.init_scope():
            super()._create_hypers()

    def _create_slots(self, var_list):
        self.build(list(var_list))


def prepare(optimizer, params):
    """Create hyper-parameters, counter and slots of a foreign optimizer outside any tf.cond."""
    with tf.init_scope():
        optimizer.iterations
        optimizer._create_hypers()
        optimizer._create_slots(params)


def apply(optimizer, gradients, params):
    """Op that runs one step of a foreign optimizer with these gradients, clipped as it would clip them."""
    # From TF 2.4 on `apply_gradients` clips itself; before that only `get_gradients` did.
    if not hasattr(optimizer, "_transform_gradients"):
        if getattr(optimizer, "clipnorm", None):
            gradients = clip_by_norm(gradients, optimizer.clipnorm)
        if getattr(optimizer, "clipvalue", None):
            gradients = grads.clip_by_value(gradients, optimizer.clipvalue)
    elif getattr(optimizer, "clipnorm", None) or getattr(optimizer, "clipvalue", None):
        # Keras would count a row that is named twice as two entries of the gradient.
        gradients = [grads.unique(g) if grads.is_sparse(g) else g for g in gradients]
    with replaced():
        return tf.group(optimizer.apply_gradients(zip(gradients, params)))
