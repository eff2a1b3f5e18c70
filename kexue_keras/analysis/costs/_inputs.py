"""Inputs that a model can be run on, of a batch size and a length."""

import numpy as np

from kexue_keras.backend import K, layer_calls


def example_inputs(model, *, batch_size, length, seed=0):
    """Random ids for what goes into an embedding, normal numbers for floats, zeros for other whole numbers.

    Args:
        model: Keras model.
        batch_size, length: int; unknown dimensions after the first get `length`.
        seed: int.

    Returns:
        list of arrays, one for each input.
    """
    rows = {}
    for call in layer_calls(model):
        if "Embedding" in type(call.layer).__name__ and hasattr(call.layer, "input_dim"):
            rows.setdefault(call.inputs[0].name, call.layer.input_dim)
    rng, arrays = np.random.RandomState(seed), []
    for tensor in model.inputs:
        shape = [batch_size] + [size or length for size in K.int_shape(tensor)[1:]]
        if tensor.name in rows:
            # 0 is padding.
            arrays.append(rng.randint(min(1, rows[tensor.name] - 1), rows[tensor.name], shape))
        elif K.dtype(tensor).startswith("float"):
            arrays.append(rng.standard_normal(shape))
        else:
            arrays.append(np.zeros(shape, "int32"))
    return arrays
