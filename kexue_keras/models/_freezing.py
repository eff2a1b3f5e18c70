"""Freezing the lower part of a bert4keras model: embeddings and the lowest Transformer layers keep their weights."""

import re

from kexue_keras.backend import keras
from kexue_keras.errors import WeightsError


def freeze_below(bert, lowest, *, heads=("MLM-",)):
    """Train nothing of a bert4keras transformer but the Transformer layers from `lowest` on, and heads.

    Args:
        bert: bert4keras transformer object.
        lowest: int, number of the lowest layer that is trained, from 0; the embeddings never are.
        heads: beginnings of the names of other layers that are trained.

    Raises:
        WeightsError: all layers share their weights, so they cannot be separated.

    >>> encoder = kexue_keras.models.load('me5-zh-char', num_hidden_layers=2)
    >>> freeze_below(encoder.bert, 1)
    >>> sorted({w.name.split('/')[0] for w in encoder.model.trainable_weights})[0]
    'Transformer-1-FeedForward'
    """
    layers = {name: layer for name, layer in bert.layers.items() if isinstance(layer, keras.layers.Layer)}
    depth, numbers = bert.num_hidden_layers, {name: layer_number(name) for name in layers}
    if depth > 1 and max([n for n in numbers.values() if n is not None], default=-1) < depth - 1:
        raise WeightsError("the layers of this model share their weights, so the lower ones cannot be frozen alone")
    for name, layer in layers.items():
        number = numbers[name]
        if number < lowest if number is not None else not name.startswith(tuple(heads)):
            layer.trainable = False


def layer_number(name):
    """Number of the Transformer layer that a Keras layer of this name belongs to, from 0; None outside of them.

    >>> layer_number('Transformer-11-FeedForward-Norm'), layer_number('Embedding-Token')
    (11, None)
    """
    found = re.match(r"Transformer-(\d+)-", name)
    return int(found.group(1)) if found else None
