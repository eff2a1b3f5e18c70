"""Which Keras this is, and what the three stacks need to be used alike: registration, sessions, losses, loading.

bert4keras decides between Keras 2.3.1 and tf.keras (its switch `TF_KERAS=1`); on TensorFlow 2 there is tf-keras alone.
"""

import contextlib
import functools
import importlib
import inspect
import os
from typing import Any, Callable, Dict, Optional, TypeVar

from kexue_keras import versions
from kexue_keras.backend import tf2

is_tf2 = versions.is_tensorflow_2()
# bert4keras reads the same variable with the same words; the check must come first, since with a broken pair
# of versions importing bert4keras dies with a message that does not name the cause.
_tf_keras = os.environ.get("TF_KERAS", "1" if is_tf2 else "0").lower() in ("1", "true", "t", "yes", "y", "on")
versions.check(_tf_keras)

if is_tf2:
    tf2.choose_keras()
    tf2.use_graphs()
    tf2.use_legacy_optimizers()
    tf2.give_bert4keras_version_1()
    tf2.draw_each_time()

import bert4keras.layers  # noqa: E402,F401  (registers PositionEmbedding and its kin, so that models load)
import tensorflow as tf  # noqa: E402
from bert4keras.backend import K, is_tf_keras, keras  # noqa: E402

is_tf_keras = bool(is_tf_keras)
tf1 = tf.compat.v1

_registered = {}
_Registered = TypeVar("_Registered")


def register(cls_or_function: _Registered) -> _Registered:
    """Decorator: make a class or function known to Keras, so that `load_model` finds it in a fresh process.

    Args:
        cls_or_function: what is to be registered, under its own `__name__`.

    Returns:
        the same object.

    Raises:
        ValueError: another part of kexue_keras already has this name.
    """
    name = cls_or_function.__name__
    known = _registered.get(name)
    if known is not None and known.__module__ != cls_or_function.__module__:
        raise ValueError(
            "the name %r is registered twice, by %s and by %s; rename one of them"
            % (name, known.__module__, cls_or_function.__module__)
        )
    _registered[name] = cls_or_function
    spare_autograph(cls_or_function)
    keras.utils.get_custom_objects()[name] = cls_or_function
    return cls_or_function


def spare_autograph(cls_or_function):
    """Mark what is ours as graph code already.

    tf.keras hands the `call` of every layer, and all that it calls, to AutoGraph, which reads and rewrites the source:
    0.3 s and more for each class that a model uses, and nothing to gain, since the same code runs on Keras 2.3.1.
    `tf.autograph.experimental.do_not_convert` would hide the arguments `mask` and `training` from Keras.
    """
    is_class = isinstance(cls_or_function, type)
    for member in vars(cls_or_function).values() if is_class else [cls_or_function]:
        if inspect.isfunction(member) or isinstance(member, functools.partial):
            setattr(member, "__ag_compiled", True)
            setattr(member, "autograph_info__", None)  # its name in TensorFlow 2


def registered(base=None):
    """Dict name -> object of all that is registered; with `base`, only the subclasses of it."""
    if base is None:
        return dict(_registered)
    return {k: v for k, v in _registered.items() if isinstance(v, type) and issubclass(v, base)}


def stack_name():
    """ "keras", "tf.keras" or "tf2", as runs record it."""
    return "tf2" if is_tf2 else "tf.keras" if is_tf_keras else "keras"


def keras_version():
    """Version of the Keras in use; tf.keras of TensorFlow 2.16 and later does not tell its own."""
    return getattr(keras, "__version__", None) or versions.installed("tf-keras")


def keras_backend():
    """The module in which either Keras keeps its session (private)."""
    # By name, since TensorFlow 2 has its old Keras inside too, which nobody uses.
    return importlib.import_module(tf1.keras.Model.__module__.split(".engine.")[0] + ".backend")


def is_eager():
    """Whether TensorFlow runs eagerly, also where it is tracing a function just now."""
    from tensorflow.python.framework import ops

    return ops.executing_eagerly_outside_functions()


def refuse_eager(owner):
    """Raise where TensorFlow runs eagerly, so that there is no graph to read, copy or differentiate.

    Args:
        owner: who refuses, for the message.

    Raises:
        RuntimeError: eager execution, with what to do.
    """
    if is_eager():
        raise RuntimeError(
            "%s works on graphs, and TensorFlow runs eagerly here; call tf.compat.v1.disable_eager_execution() before "
            "anything else (on TensorFlow 2 `import kexue_keras` does so; nothing may turn it on again)" % owner
        )


def get_session():
    """The session in which Keras runs, with all Keras variables initialised."""
    if is_tf_keras:
        return tf1.keras.backend.get_session()
    return K.get_session()


def reduction_of(loss):
    """How a loss object reduces its values, "sum_over_batch_size" where it does not say."""
    known = getattr(loss, "reduction", None) or getattr(loss, "_reduction", None)
    return "sum_over_batch_size" if known in (None, "auto") else known


def _losses_utils():
    return importlib.import_module(keras_backend().__name__.rpartition(".")[0] + ".utils.losses_utils")


# Keras 2.11 and later divide a masked loss by the number of tokens in the mask; here a mean is one over all.
_MEANS_ARE_OVER_THE_MASK = is_tf_keras and hasattr(_losses_utils(), "apply_valid_mask")


def _weighed(values, weights):
    """Values times weights, which may have fewer axes, or one of length 1 more, as Keras takes them."""
    if weights is None:
        return values
    weights = tf.cast(weights, values.dtype)
    if weights.shape.rank == values.shape.rank + 1:
        weights = tf.squeeze(weights, -1)
    while weights.shape.rank < values.shape.rank:
        weights = tf.expand_dims(weights, -1)
    return values * weights


class FunctionLoss(keras.losses.MeanSquaredError.__bases__[0]):
    """Base of the losses that are a function with parameters: `super().__init__(function, name=..., alpha=...)`.

    Keras 2.3.1 insists that the targets of a `keras.losses.Loss` have the shape of the output, except for those
    that wrap a function of one's own. So sparse labels need this class, which is the `LossFunctionWrapper` of the
    Keras in use (not public, but the base of every public loss class on all stacks).

    Args:
        function: `function(y_true, y_pred, **parameters)` giving values per sample.
        name: str.
        reduction: how Keras reduces the values, `"sum_over_batch_size"`, `"sum"` or `"none"`.
        own_weights: whether `function` takes the sample weights itself, as `sample_weight`, because multiplying its
            values by them would not do.
        **parameters: keyword arguments of `function`; they make up `get_config()`, so they must be JSON-able.
    """

    def __init__(
        self,
        function: Callable[..., tf.Tensor],
        *,
        name: str,
        reduction: str = "sum_over_batch_size",
        own_weights: bool = False,
        **parameters: Any,
    ) -> None:
        super().__init__(function, reduction=reduction, name=name)
        self.fn = function
        self.parameters = parameters
        self.own_weights = own_weights
        self._reduction = self.reduction
        self._weighs = own_weights or _MEANS_ARE_OVER_THE_MASK
        if self._weighs and not (is_tf2 and is_eager()):
            # Keras calls `call` and weighs the result itself if there is a `reduction`; without one it passes the
            # sample weights to __call__, as TensorFlow 2 does in any case where it is eager.
            del self.reduction

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        return self.fn(y_true, y_pred, **self.parameters)

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Optional[Any] = None) -> tf.Tensor:
        if not self._weighs:
            return super().__call__(y_true, y_pred, sample_weight=sample_weight)
        # tf-keras forgets the mask of an output that also has sample weights; on the others it is in them already.
        mask = getattr(y_pred, "_keras_mask", None)
        with tf.name_scope(self.name):
            if mask is not None:
                sample_weight = mask if sample_weight is None else _weighed(tf.cast(mask, "float32"), sample_weight)
            if self.own_weights:
                values = self.fn(y_true, y_pred, sample_weight=sample_weight, **self.parameters)
            else:
                values = _weighed(self.fn(y_true, y_pred, **self.parameters), sample_weight)
            if values.shape.rank == 0 or self._reduction == "none":
                return values
            return tf.reduce_sum(values) if self._reduction == "sum" else tf.reduce_mean(values)

    def get_config(self) -> Dict[str, Any]:
        return dict(self.parameters, name=self.name, reduction=self._reduction)

    @classmethod
    def from_config(cls, config: Dict[str, Any]) -> "FunctionLoss":
        return cls(**config)


@contextlib.contextmanager
def metric_objects_load():
    """While this context is open, Keras 2.3.1 loads models that were compiled with metric objects.

    It saves `{"class_name": ..., "config": ...}`, and on loading looks for a class of the name of the whole dict, so
    that `load_model` fails for any metric object, its own ones too. On tf.keras there is nothing to fix.
    `load_model(path, compile=False)` needs no fix either.
    """
    get = keras.metrics.get

    def get_metric(identifier):
        if isinstance(identifier, dict) and "class_name" in identifier:
            return keras.metrics.deserialize(identifier)
        return get(identifier)

    if not is_tf_keras:
        keras.metrics.get = get_metric
    try:
        yield
    finally:
        keras.metrics.get = get


def quiet():
    """Keep TensorFlow 1.15's deprecation notices, which its own Keras causes, off the screen.

    Graphs are then built in about 12% less time: TensorFlow binds the arguments of most calls only to look for notices.
    """
    from tensorflow.python.util import deprecation

    tf1.logging.set_verbosity(tf1.logging.ERROR)
    deprecation._PRINT_DEPRECATION_WARNINGS = False


# bert4keras replaces these classes by ones that take any length; on tf.keras `load_model` would find the old ones.
for _name in ("GlobalAveragePooling1D", "GlobalMaxPooling1D"):
    keras.utils.get_custom_objects()[_name] = getattr(keras.layers, _name)
