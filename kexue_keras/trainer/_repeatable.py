"""A model whose random numbers depend on the step alone, so that a run that was stopped draws what it would have."""

from kexue_keras.backend import K, keras, model_to_call
from kexue_keras.training._randomness import repeatable_dropout, stateful_random_ops


def repeatable(model, seed):
    """A model with the layers and weights of `model` whose dropout can be repeated.

    TensorFlow's own random numbers count in memory that no file can hold. A model without any is handed back as it is;
    otherwise the layers are called once more, with dropout drawn from a counter.

    Args:
        model: Keras model.
        seed: int.

    Returns:
        (Keras model, `training.randomness.Step` or None if nothing is drawn).

    >>> x = keras.layers.Input((50,))
    >>> model, step = repeatable(keras.models.Model(x, keras.layers.Dropout(.5)(x)), seed=1)
    >>> draw = K.function(model.inputs + [K.learning_phase()], model.outputs)
    >>> step.set(3)
    >>> first, second = (draw([np.ones((1, 50)), 1])[0] for _ in range(2))
    >>> bool((first == second).all())
    True
    """
    if not any(stateful_random_ops(output) for output in model.outputs):
        return model, None
    inputs = [
        keras.layers.Input(batch_shape=(None,) + K.int_shape(x)[1:], dtype=K.dtype(x), name=name)
        for x, name in zip(model.inputs, model.input_names)
    ]
    with repeatable_dropout(seed) as step:
        outputs = model_to_call(model)(inputs if len(inputs) > 1 else inputs[0])
    return keras.models.Model(inputs if len(inputs) > 1 else inputs[0], outputs, name=model.name + "_repeatable"), step


def unrepeatable_ops(model):
    """Names of the ops of a compiled model whose random numbers no checkpoint can hold."""
    found = [name for output in model.outputs for name in stateful_random_ops(output)]
    return sorted(set(found))
