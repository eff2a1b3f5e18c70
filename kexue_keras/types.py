"""Names for what public functions take and return, for editors and readers; nothing is checked by them.

What a parameter has to be beyond its type (shapes, dtypes, ranges, words) stands in the docstrings.
"""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import bert4keras.models
import numpy as np
import tensorflow as tf

from kexue_keras.backend import keras
from kexue_keras.plain_types import (  # noqa: F401
    Array,
    ArrayLike,
    Arrays,
    Column,
    Config,
    Encoded,
    Path,
    Say,
    Texts,
    Tokenizer,
)

Tensor = tf.Tensor
# What TensorFlow makes a tensor of.
TensorLike = Union[tf.Tensor, tf.Variable, np.ndarray, Sequence[Any], float]
# What a layer takes and returns, its mask, and its shape: one, or a list of several.
Tensors = Union[tf.Tensor, List[tf.Tensor]]
Mask = Union[None, tf.Tensor, List[Optional[tf.Tensor]]]
Shape = Union[Tuple[Optional[int], ...], tf.TensorShape]
Shapes = Union[Tuple[Optional[int], ...], tf.TensorShape, List[Tuple[Optional[int], ...]]]
# Keras' learning phase.
Phase = Union[None, bool, int, tf.Tensor]

Op = tf.Operation
Variable = tf.Variable
Variables = Sequence[tf.Variable]
Gradients = Sequence[Union[tf.Tensor, tf.IndexedSlices]]

Model = keras.models.Model
Layer = keras.layers.Layer
# Of Keras, of bert4keras or of this package.
KerasOptimizer = keras.optimizers.Optimizer
# A number, or on tf.keras a `LearningRateSchedule`.
LearningRate = Union[float, Callable[..., tf.Tensor]]
# A schedule, {update: factor}.
UpdateFactors = Union[Dict[int, float], Sequence[Sequence[float]]]
# By name, as a function (y_true, y_pred), or as an object.
Loss = Union[str, Callable[[tf.Tensor, tf.Tensor], tf.Tensor], keras.losses.Loss]
Initializer = Union[str, Dict[str, Any], keras.initializers.Initializer]
Activation = Union[str, Callable[[tf.Tensor], tf.Tensor]]
# What Keras hands to callbacks.
Logs = Dict[str, Any]

Transformer = bert4keras.models.Transformer
