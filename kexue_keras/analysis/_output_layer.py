"""The output layer of a Keras model as numpy arrays: a row and a bias for each class."""

from typing import Optional, Tuple

import numpy as np

from kexue_keras.backend import K
from kexue_keras.models._language_models_only import guard_mlm
from kexue_keras.types import Array, Model


def output_layer(model: Model) -> Tuple[Array, Optional[Array]]:
    """(W [V, d], b [V] or None) of what computes a model's logits.

    A bert4keras model with an MLM or LM head uses its token embedding again: W is that of 'Embedding-Token', b of
    'MLM-Bias' where there is one. mT5 and T5 1.1 have a kernel of their own. Of any other model it is the last Dense
    layer.

    Args:
        model: Keras model, bert4keras transformer, or what `models.load` returns.

    Returns:
        tuple (float32 [V, d], float32 [V] or None).

    Raises:
        ValueError: the model has no such layer, or is an ELECTRA, whose Dense layer makes no words.

    >>> x = keras.layers.Input((3,))
    >>> W, b = kexue_keras.analysis.output_layer(keras.models.Model(x, keras.layers.Dense(5)(x)))
    >>> W.shape, b.shape
    ((5, 3), (5,))
    """
    guard_mlm(model)
    model = getattr(model, "model", model)
    layers = {layer.name: layer for layer in model.layers}
    if "Decoder-Output-LM" in layers:
        return _dense(layers["Decoder-Output-LM"])
    if "Embedding-Token" in layers and ({"MLM-Bias", "MLM-Norm"} & set(layers) or _is_used_again(layers)):
        bias = layers.get("MLM-Bias")
        W = K.get_value(layers["Embedding-Token"].weights[0])
        return np.array(W), None if bias is None else np.array(K.get_value(bias.weights[0]))
    for layer in reversed(model.layers):
        if type(layer).__name__ == "Dense":
            return _dense(layer)
    raise ValueError(
        "output_layer: the model has no MLM head, LM head or Dense layer; load it with with_mlm='linear', or give "
        "find_unargmaxable the matrix"
    )


def _is_used_again(layers):
    """Whether the embedding also computes logits: a model with an LM head and no bias (GPT, T5 1.0)."""
    return any(name in layers for name in ("LM-Activation", "Decoder-Output-LM-Activation", "Output-MLM-Activation"))


def _dense(layer):
    kernel = K.get_value(layer.kernel)
    return np.array(kernel.T), np.array(K.get_value(layer.bias)) if layer.use_bias else None
