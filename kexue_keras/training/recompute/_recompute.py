"""Recompute: a layer's inner results are not kept for the backward pass but computed a second time there.

节省显存的重计算技巧也有了Keras版了, kexue.fm/archives/7367. Paper: Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
"""

import functools
import inspect
from typing import Any, Optional, TypeVar

import tensorflow as tf
from bert4keras import backend

from kexue_keras.backend import keras, refuse_eager, register, tf1
from kexue_keras.backend.graph import origin
from kexue_keras.training._randomness import dropout_is_repeatable, own_key, replayed_dropout
from kexue_keras.training.recompute._segments import checkpoint
from kexue_keras.types import Config, Mask, Shape, Shapes, Tensors

_Target = TypeVar("_Target")
_COSTS = {"Erf": 5.0, "Softmax": 1.1}


def recompute(target: _Target) -> _Target:
    """Keep only the inputs and outputs of a layer for the backward pass; what is in between is recomputed there.

    Gradients stay the same: for one input given several times (`[x, x, x]`), with masks, None and integer inputs,
    several outputs, tensors from outside, variables used twice, conditionals, and with decorated layers inside. Dropout
    repeats its mask. What has a state (variables, other random layers, moving averages) is not run a second time;
    what it gave is kept. Gradients of gradients work.

    Args:
        target: a layer (only this one changes), a layer class of your own, its method `call` inside the class, or any
            function of tensors.

    Returns:
        the same layer or class; for a function, a function with its signature.

    Raises:
        TypeError: `target` is none of these, or a class of Keras or bert4keras, which would change for everybody.
        RuntimeError: bert4keras' own recompute is switched on.

    Reference: kexue.fm/archives/7367 (节省显存的重计算技巧也有了Keras版了), arXiv 1604.06174.

    >>> class Gated(keras.layers.Layer):
    ...     @recompute
    ...     def call(self, inputs):
    ...         return inputs * tf.sigmoid(inputs) * tf.tanh(inputs)
    >>> dense = recompute(keras.layers.Dense(8, activation='softplus'))
    >>> x = keras.layers.Input([4])
    >>> model = keras.models.Model(x, dense(Gated()(x)))
    >>> model.compile('sgd', 'mse')
    >>> history = model.fit(np.ones([2, 4]), np.ones([2, 8]), verbose=0)
    """
    refuse_eager("recompute")
    refuse_bert4keras_recompute()
    if isinstance(target, type) and issubclass(target, keras.layers.Layer):
        package = target.__module__.split(".")[0]
        if package in ("keras", "tensorflow", "tensorflow_core", "tf_keras", "bert4keras"):
            raise TypeError(
                "recompute(%s) would change this class of %s for all models; give it a layer (recompute(%s(...))) or a "
                "subclass" % (target.__name__, package, target.__name__)
            )
        target.call = _recomputed(target.call)
        return target
    if isinstance(target, keras.layers.Layer):
        target.call = _recomputed(target.call)
        return target
    if inspect.isroutine(target):
        return _recomputed(target)
    raise TypeError("recompute takes a layer, a layer class or a function, not %r" % (target,))


def refuse_bert4keras_recompute():
    """Raise RuntimeError if bert4keras was imported with `RECOMPUTE=1`."""
    if backend.do_recompute:
        raise RuntimeError(
            "bert4keras' own recompute is switched on (environment variable RECOMPUTE); its gradients are wrong for "
            "self attention and it drops masks. Unset RECOMPUTE before Python starts"
        )


def _recomputed(call):
    if getattr(call, "recomputed", False):
        return call

    # Small, because tf.keras lets AutoGraph translate the `call` of a layer and what it calls.
    @functools.wraps(call)
    def wrapper(*args, **kwargs):
        began = _begin()
        try:
            outputs = call(*args, **kwargs)
        finally:
            _end(began)
        return _hand_on(began, outputs)

    wrapper.__signature__ = inspect.signature(call)
    wrapper.recomputed = True
    return wrapper


@tf.autograph.experimental.do_not_convert
def _begin():
    graph = tf1.get_default_graph()
    ops_before = len(graph.get_operations())
    context = None
    if not dropout_is_repeatable():
        context = replayed_dropout(own_key())
        context.__enter__()
    return graph, ops_before, context


@tf.autograph.experimental.do_not_convert
def _end(began):
    context = began[2]
    if context is not None:
        context.__exit__(None, None, None)


@tf.autograph.experimental.do_not_convert
def _hand_on(began, outputs):
    graph, ops_before, _ = began
    made_here = set(graph.get_operations()[ops_before:])
    flat = [t for t in tf.nest.flatten(outputs) if tf.is_tensor(t)]
    handed = iter(checkpoint(flat, inside=made_here.__contains__))
    return tf.nest.map_structure(lambda t: next(handed) if tf.is_tensor(t) else t, outputs)


def cost_per_byte(op):
    """About how many nanoseconds it takes to make one byte of what `op` gives (float32, two cores of 2020).

    What has a high cost is worth keeping. Only the order matters: a product over many terms, random numbers that end as
    one byte each and the error function are dear; sums, masks, exponentials and transposes are cheap.

    Args:
        op: tf.Operation.

    Returns:
        float.
    """
    if op.type == "MatMul" and op.inputs[1].shape.rank == 2:
        terms = tf1.dimension_value(op.inputs[1].shape[1 if op.get_attr("transpose_b") else 0])
        return 0.006 * (terms or 0)
    if op.type == "GreaterEqual":
        drawn = origin(op.inputs[0], through=("Add", "AddV2", "Mul", "Identity"))
        return 9.0 if drawn.op.type in ("StatelessRandomUniform", "StatelessRandomUniformV2") else 0.0
    if op.type == "Erf" and any(map(_is_cumulative, _second_users(op))):
        return 0.0
    if _is_cumulative(op):
        return _COSTS["Erf"]
    return _COSTS.get(op.type, 0.0)


def _is_cumulative(op):
    """Whether `op` ends 0.5 * (1 + erf(x)), which `fused_gradients.gelu` needs instead of erf(x)."""
    if op.type != "Mul" or op.inputs[0].op.type != "Const":
        return False
    added = op.inputs[1].op
    return added.type in ("Add", "AddV2") and added.inputs[1].op.type == "Erf"


def _second_users(op):
    return [second for first in op.outputs[0].consumers() for second in first.outputs[0].consumers()]


@register
class RecomputeBoundary(keras.layers.Layer):
    """Returns its input; in the backward pass, everything between two boundaries is recomputed.

    It has no weights. `models.extend_with_recompute` puts one after each segment; in a model of your own, set them
    where the tensors are small. What comes before the first one is recomputed too, what comes after the last one not.

    Args:
        keep_cost: float or None; results that cost at least this many nanoseconds per byte (`cost_per_byte`) stay in
            memory. None keeps none.
        level: int; a boundary of a higher level recomputes the boundaries of lower levels between it and the last
            one of its own level.

    Reference: kexue.fm/archives/7367 (节省显存的重计算技巧也有了Keras版了), arXiv 1604.06174.

    >>> x = h = keras.layers.Input([16])
    >>> for _ in range(4):
    ...     h = keras.layers.Dense(16, activation='tanh')(keras.layers.Dense(64, activation='softplus')(h))
    ...     h = kexue_keras.training.recompute.RecomputeBoundary()(h)
    >>> keras.models.Model(x, h).predict(np.ones([2, 16])).shape
    (2, 16)
    """

    def __init__(self, keep_cost: Optional[float] = None, level: int = 0, **kwargs: Any) -> None:
        refuse_eager("RecomputeBoundary")
        super().__init__(**kwargs)
        self.supports_masking = True
        self.keep_cost, self.level = keep_cost, level

    def call(self, inputs: Tensors) -> Tensors:
        refuse_bert4keras_recompute()
        several = isinstance(inputs, (list, tuple))
        handed = checkpoint(list(inputs) if several else [inputs], keep=self._is_dear, level=self.level)
        handed = [t if t is not old else tf.identity(t) for t, old in zip(handed, inputs if several else [inputs])]
        return handed if several else handed[0]

    def _is_dear(self, op):
        return self.keep_cost is not None and cost_per_byte(op) >= self.keep_cost

    def compute_mask(self, inputs: Tensors, mask: Mask = None) -> Mask:
        return mask

    def compute_output_shape(self, input_shape: Shapes) -> Shape:
        return input_shape

    def get_config(self) -> Config:
        return dict(super().get_config(), keep_cost=self.keep_cost, level=self.level)
