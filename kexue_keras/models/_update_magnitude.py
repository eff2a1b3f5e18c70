"""How far one step of an optimizer moves the outputs of a model.

The article's view of depth: training is stable if this does not grow with the number of layers.

Reference: "训练1000层的Transformer究竟有什么困难？", kexue.fm/archives/8978.
"""

from collections import namedtuple
from typing import Any, Optional, Tuple, Union

import numpy as np

from kexue_keras.backend import keras
from kexue_keras.types import KerasOptimizer, Model

UpdateMagnitude = namedtuple("UpdateMagnitude", "output_change loss_before loss_after")


def update_magnitude(
    model: Model, batch: Tuple[Any, Any], optimizer: Optional[Union[str, KerasOptimizer]] = None, *, loss: Any = None
) -> UpdateMagnitude:
    """Train a model for one step on a batch, measure how far its outputs moved, and put its weights back.

    Args:
        model: Keras model; nothing of it is changed, neither its weights nor its own optimizer.
        batch: pair (x, y) as for `train_on_batch`.
        optimizer: Keras optimizer or its name; its configuration is taken and its state is not. None for the model's.
        loss: as for `compile`; None for the model's.

    Returns:
        namedtuple (output_change, loss_before, loss_after): root mean square of the change of all outputs, and the
        losses before and after the step, all without dropout. The step itself has dropout where the model has.

    Raises:
        ValueError: the model is not compiled and `optimizer` or `loss` is not given, or the batch is no pair.

    Reference: kexue.fm/archives/8978.

    >>> model = keras.models.Sequential([keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", input_dim=1)])
    >>> batch = np.ones((1, 1)), np.zeros((1, 1))
    >>> change = kexue_keras.models.update_magnitude(model, batch, keras.optimizers.SGD(0.25), loss="mse")
    >>> round(change.output_change, 6), round(change.loss_after, 6)  # the gradient is 2, the step 1/2
    (0.5, 0.25)
    """
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise ValueError("update_magnitude: batch must be a pair (x, y), but is %r" % (type(batch),))
    optimizer = optimizer if optimizer is not None else getattr(model, "optimizer", None)
    loss = loss if loss is not None else getattr(model, "loss", None)
    if optimizer is None or not loss:
        raise ValueError("update_magnitude: the model is not compiled; give optimizer=... and loss=...")
    optimizer = keras.optimizers.get(optimizer)
    x, y = batch
    # A second model over the same layers, so that compiling does not replace what the user's model was compiled with.
    twin = keras.models.Model(model.inputs, model.outputs)
    twin.compile(type(optimizer).from_config(optimizer.get_config()), loss)
    weights = model.get_weights()
    try:
        before, loss_before = _outputs(twin, x), twin.test_on_batch(x, y)
        twin.train_on_batch(x, y)
        after, loss_after = _outputs(twin, x), twin.test_on_batch(x, y)
    finally:
        model.set_weights(weights)
    change = np.concatenate([(a - b).ravel() for a, b in zip(after, before)])
    return UpdateMagnitude(float(np.sqrt(np.mean(change**2))), _total(loss_before), _total(loss_after))


def _outputs(model, x):
    outputs = model.predict_on_batch(x)
    return [np.asarray(o, "float64") for o in (outputs if isinstance(outputs, list) else [outputs])]


def _total(loss):
    return float(loss[0] if isinstance(loss, (list, tuple)) else loss)
