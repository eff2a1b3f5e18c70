"""R-Drop without pairs in the data: the training model repeats the batch internally.

又是Dropout两次！这次它做到了有监督任务的SOTA, kexue.fm/archives/8496. Paper: R-Drop, arXiv 2106.14448.
"""

from typing import Any, Optional

import tensorflow as tf

from kexue_keras.backend import K, keras, model_to_call, refuse_eager, register
from kexue_keras.losses._rdrop import make_pair, warn_if_never_random
from kexue_keras.types import Mask, Model, Phase, Shape, Tensor


class _RowLayer(keras.layers.Layer):
    """Gives more or fewer rows in the training phase, each as it came, and a mask to go with them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (None,) + tuple(input_shape[1:])


@register
class RDropRepeat(_RowLayer):
    """Repeats every row in the training phase: rows 2i and 2i+1 are sample i. Otherwise returns its input.

    Reference: kexue.fm/archives/8496 (又是Dropout两次！这次它做到了有监督任务的SOTA); R-Drop, arXiv 2106.14448.

    >>> x = keras.layers.Input([2])
    >>> keras.models.Model(x, kexue_keras.training.RDropRepeat()(x)).predict(np.ones([3, 2])).shape
    (3, 2)
    """

    def call(self, inputs: Tensor, training: Phase = None) -> Tensor:
        return _in_training(lambda: tf.repeat(inputs, 2, axis=0), inputs, training)

    def compute_mask(self, inputs: Tensor, mask: Mask = None) -> Mask:
        return None if mask is None else _in_training(lambda: tf.repeat(mask, 2, axis=0), mask, None)


@register
class RDropPair(_RowLayer):
    """Takes the rows of `RDropRepeat` apart again; its output is the first pass, and leads the loss to the second.

    Outside the training phase there is one pass only, and the loss sees it twice: its divergence is 0.

    Reference: kexue.fm/archives/8496 (又是Dropout两次！这次它做到了有监督任务的SOTA); R-Drop, arXiv 2106.14448.

    >>> x = keras.layers.Input([2])
    >>> keras.models.Model(x, kexue_keras.training.RDropPair()(x)).predict(np.ones([3, 2])).shape
    (3, 2)
    """

    def call(self, inputs: Tensor, training: Phase = None) -> Tensor:
        return make_pair(
            _in_training(lambda: inputs[::2], inputs, training),
            _in_training(lambda: inputs[1::2], inputs, training),
        )

    def compute_mask(self, inputs: Tensor, mask: Mask = None) -> Mask:
        return None if mask is None else _in_training(lambda: mask[::2], mask, None)


def rdrop(model: Model, *, name: Optional[str] = None) -> Model:
    """A model for training `model` with R-Drop; the data stay as they are.

    It has the inputs, the outputs and the weights of `model`. In the training phase each batch of B samples is
    repeated inside it to 2B rows, and `RDropCrossentropy` finds both passes, so `fit(shuffle=True)`, odd batches,
    `sample_weight` and metrics (of the first pass) work. Otherwise there is one pass: the validation loss is the plain
    cross-entropy, and `predict` is that of `model`. Compile it with a `losses.RDropCrossentropy`; with any other
    loss it trains on the first pass alone. After training use `model`: its weights are the trained ones.

    Args:
        model: Keras model with dropout, not necessarily compiled.
        name: str, of the new model; model.name + "_rdrop" by default.

    Returns:
        Keras model. After saving and loading, `get_layer(model.name)` is the original one.

    Raises:
        ValueError: `model` has no symbolic inputs (a subclassed model that was never called), or on Keras 2.3.1 a loss
            of its own (`model.add_loss`).

    Reference: kexue.fm/archives/8496 (又是Dropout两次！这次它做到了有监督任务的SOTA); R-Drop, arXiv 2106.14448.

    >>> x = keras.layers.Input([4])
    >>> model = keras.models.Model(x, keras.layers.Dense(3)(keras.layers.Dropout(0.3)(x)))
    >>> trained = kexue_keras.training.rdrop(model)
    >>> trained.compile("sgd", kexue_keras.losses.RDropCrossentropy(alpha=4., from_logits=True))
    >>> losses = trained.fit(np.ones([5, 4]), np.array([0, 1, 2, 0, 1]), batch_size=3, verbose=0)
    >>> bool(np.allclose(trained.predict(np.ones([5, 4])), model.predict(np.ones([5, 4]))))
    True
    """
    refuse_eager("training.rdrop")
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            "training.rdrop needs a model with symbolic inputs and outputs, but %r has none; build it with "
            "keras.models.Model(inputs, outputs), or call it on data first" % (model,)
        )
    warn_if_never_random(model.outputs, "training.rdrop")
    inputs = [
        keras.layers.Input(batch_shape=(None,) + K.int_shape(x)[1:], dtype=K.dtype(x), name=input_name)
        for x, input_name in zip(model.inputs, model.input_names)
    ]
    repeated = [RDropRepeat(name="rdrop-repeat-%d" % i)(x) for i, x in enumerate(inputs)]
    outputs = model_to_call(model)(repeated if len(repeated) > 1 else repeated[0])
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    outputs = [RDropPair(name=n)(x) for n, x in zip(_distinct(model.output_names, model.name), outputs)]
    return keras.models.Model(
        inputs if len(inputs) > 1 else inputs[0],
        outputs if len(outputs) > 1 else outputs[0],
        name=name or model.name + "_rdrop",
    )


def _distinct(names, taken):
    """Names for the output layers: those of the model, so that dicts of losses and metrics still fit."""
    return [n if n != taken and names.count(n) == 1 else "%s-%d" % (n, i) for i, n in enumerate(names)]


def _in_training(repeated, otherwise, training):
    result = K.in_train_phase(repeated, lambda: tf.identity(otherwise), training=training)
    if not isinstance(result, tf.Tensor):
        return result
    result.set_shape([None] + otherwise.shape.as_list()[1:])
    return result
