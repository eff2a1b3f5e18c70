"""Mixed precision: matrix products in half precision, weights and updates in float32.

Article: 在bert4keras中使用混合精度和XLA加速训练 (kexue.fm/archives/9059). Paper: Mixed Precision Training
(arXiv 1710.03740). TensorFlow rewrites the graph itself when a session runs it; what is here turns that on in time, and
off again. Loss scaling is `_loss_scale.py`, what the rewriting does to a model `_report.py`.
"""

import contextlib
import warnings
from typing import Any, Callable, Iterator, Union

import numpy as np
import tensorflow as tf
from bert4keras.layers import LayerNormalization

from kexue_keras import backend
from kexue_keras.backend import K
from kexue_keras.training.precision._loss_scale import LossScale, check_loss_scale
from kexue_keras.types import KerasOptimizer

NVIDIA_SWITCH = "TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE"
# Far below any logit, far inside half's range (65504), and still exp() = 0.
HALF_MASK = -1e4
WIDE_MASK = -1e12


class Acceleration(object):
    """Something that is turned on until `disable()` is called or the `with` block around it ends.

    Attributes:
        loss_scale: number, 'dynamic', or None if the loss needs none.
        description: what was done, for a line on the screen.
    """

    def __init__(self, undo: Callable[[], Any], description: str, loss_scale: Union[None, float, str] = None) -> None:
        self._undo = undo
        self.description = description
        self.loss_scale = loss_scale

    def scale(self, optimizer: KerasOptimizer) -> KerasOptimizer:
        """The optimizer wrapped in the loss scale: compile the model with it."""
        return optimizer if self.loss_scale is None else LossScale(optimizer, self.loss_scale)

    def disable(self) -> None:
        """Restore everything; calling it twice does no harm. Existing sessions keep what they have."""
        undo, self._undo = self._undo, None
        if undo is not None:
            undo()

    @property
    def is_enabled(self) -> bool:
        """Whether `disable` has not been called yet."""
        return self._undo is not None

    def __enter__(self) -> "Acceleration":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.disable()


def check_mixed_precision():
    """Raise if mixed precision cannot be turned on here and now.

    Raises:
        RuntimeError: a session exists already.
    """
    if backend.nvidia_release():
        # The library reads their switch at an undocumented time; the first session is the last moment that is safe.
        late, remedy = backend.sessions_created() > 0, "in a fresh process"
    else:
        late, remedy = backend.keras_has_session(), "or call K.clear_session() and build the model anew"
    if late:
        raise RuntimeError(
            "too late for mixed precision: a TensorFlow session exists already, and it would continue in float32. Call "
            "enable_mixed_precision right after the imports, before a model is loaded, trained or asked to predict, %s"
            % remedy
        )


def enable_mixed_precision(loss_scale: Union[None, float, str] = 1000.0) -> Acceleration:
    """Let TensorFlow compute in half precision what it considers safe, from the next session on.

    On stock TensorFlow 1.15 this is its graph rewriting for mixed precision; in NVIDIA's images their switch,
    `TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE`. Either needs a GPU of compute capability 7.0 or more; without one
    nothing is cast to float16 and you are warned. Weights and updates stay float32.

    Args:
        loss_scale: what `.scale(optimizer)` multiplies the loss by while gradients are computed: number > 0, 'dynamic',
            or None for no scaling. The article's is 1000.

    Returns:
        `Acceleration`; compile with `.scale(optimizer)`. `.disable()`, or the end of a `with` block, restores all.

    Raises:
        RuntimeError: a session exists already; a Keras `Policy` is set.
        ValueError: `loss_scale` is no number above 0 and not 'dynamic'.

    Reference:
        在bert4keras中使用混合精度和XLA加速训练, kexue.fm/archives/9059; arXiv 1710.03740
    """
    if loss_scale is not None:
        loss_scale = check_loss_scale(loss_scale)
    check_mixed_precision()
    if not backend.has_gpu():
        warnings.warn("mixed precision is on, but there is no GPU here: everything stays float32", stacklevel=2)
    if backend.nvidia_release():
        before = backend.exchange_environment({NVIDIA_SWITCH: "1"})
        return Acceleration(lambda: backend.exchange_environment(before), "mixed precision (NVIDIA's)", loss_scale)
    before = backend.exchange_mixed_precision(True)
    return Acceleration(lambda: backend.exchange_mixed_precision(before), "mixed precision", loss_scale)


def mask_value(x: Any = None) -> float:
    """A finite number that removes an entry from a softmax or maximum, in whatever dtype it ends up.

    -1e4 for float16, and for float32 while mixed precision is on, since the graph may be rewritten; else -1e12. Unlike
    -1e12 it does not become an infinity in half precision, whose product with 0 is NaN. bert4keras up to 0.11.4 has
    `K.set_infinity` for that, 0.11.5 has not and masks with -infinity itself.

    Args:
        x: tensor, array or dtype; None for Keras' default.

    Returns:
        float.

    >>> from kexue_keras.training.precision import mask_value
    >>> mask_value('float16'), mask_value('float32')
    (-10000.0, -1000000000000.0)
    """
    dtype = K.floatx() if x is None else getattr(x, "dtype", x)
    dtype = tf.as_dtype(getattr(dtype, "base_dtype", dtype))
    if not dtype.is_floating:
        raise ValueError("mask_value is for floating point tensors, not for %s" % dtype.name)
    if dtype == tf.float16 or (dtype == tf.float32 and backend.is_mixed_precision_on()):
        return HALF_MASK
    return WIDE_MASK


@contextlib.contextmanager
def layer_norm_epsilon(least: float = 1e-5) -> Iterator[None]:
    """While this context is open, bert4keras' LayerNormalization layers are made with an epsilon of at least `least`.

    Its BERT has 1e-12, which is 0 in half precision, so that a constant row is divided by 0. The article uses 1e-5.
    The weights fit as before, outputs differ in about the fifth digit; the epsilon is saved in the model's config.

    Args:
        least: number > 0; 1e-5 is 1.0014e-5 in half precision.

    >>> from bert4keras.layers import LayerNormalization
    >>> from kexue_keras.training.precision import layer_norm_epsilon
    >>> with layer_norm_epsilon(1e-5):
    ...     inside = LayerNormalization(epsilon=1e-12)
    >>> inside.epsilon, LayerNormalization(epsilon=1e-12).epsilon
    (1e-05, 1e-12)
    """
    if not float(np.float16(least)) > 0:
        raise ValueError("least is %r; half precision holds nothing above 0 below 6e-8, take 1e-5" % (least,))
    original = LayerNormalization.__dict__["__init__"]

    def larger(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.epsilon = max(self.epsilon, least)

    LayerNormalization.__init__ = larger
    try:
        yield
    finally:
        LayerNormalization.__init__ = original
