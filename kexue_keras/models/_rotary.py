"""RoFormer with a table of rotary angles from a file, where that is not the usual sinusoid.

Hugging Face's RoFormer files carry the table as a fixed weight. It is the sinusoid that bert4keras computes, unless
somebody changed it; then the model is built with the table, so that its outputs stay the same.
"""

import numpy as np
from bert4keras import models as bert4keras_models
from bert4keras.layers import PositionEmbedding, SinusoidalPositionEmbedding

from kexue_keras.backend import keras
from kexue_keras.errors import WeightsError
from kexue_keras.models._kinds import CLASSES

# What the table is called in a TensorFlow checkpoint; Google's have no such variable.
ROTARY_TABLE = "bert/encoder/embed_positions"


def sinusoidal_table(rows, size):
    """RoFormer's usual table as Hugging Face's files have it: sines in the first half, cosines in the second.

    >>> sinusoidal_table(2, 4)[1].round(3).tolist()
    [0.8410000205039978, 0.009999999776482582, 0.5400000214576721, 1.0]
    """
    angles = np.arange(rows)[:, None] / 10000.0 ** (np.arange(0, size, 2) / float(size))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype("float32")


def check_even_heads(model, config, source):
    """Refuse heads of odd size in RoFormer and NEZHA, whose positions are pairs of a sine and a cosine.

    Args:
        model: bert4keras model class, or what `build_transformer_model` calls it.
        config: dict in the words of bert4keras.
        source: path, for messages.

    Raises:
        WeightsError: the size of a head is odd.
    """
    base = CLASSES.get(model) if isinstance(model, str) else model
    if not isinstance(base, type) or not issubclass(base, bert4keras_models.NEZHA):
        return
    heads = config["num_attention_heads"]
    size = config.get("attention_key_size") or config.get("attention_head_size") or config["hidden_size"] // heads
    if size % 2:
        raise WeightsError(
            "%s: num_attention_heads %d makes heads of size %d, but positions of such a model need an even size; give "
            "the configuration that belongs to the checkpoint" % (source, heads, size)
        )


class _WithTable(object):
    """Laid over a model class; it hooks into `apply`, through which bert4keras makes every layer."""

    def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
        if layer is SinusoidalPositionEmbedding:
            layer = PositionEmbedding
            half = self.rotary_table.shape[1] // 2
            # bert4keras wants sines and cosines in turn.
            table = self.rotary_table.reshape(-1, 2, half).transpose(0, 2, 1).reshape(-1, 2 * half)
            kwargs.update(
                input_dim=len(table), embeddings_initializer=keras.initializers.Constant(table), trainable=False
            )
        return super(_WithTable, self).apply(inputs, layer, arguments, **kwargs)


def extend_with_rotary_table(base, variables):
    """The RoFormer class with the table of a checkpoint; `base` itself for other models and for the usual table.

    Args:
        base: bert4keras model class, or what `build_transformer_model` calls it.
        variables: dict name -> array.
    """
    if ROTARY_TABLE not in variables or not isinstance(base, type) or not issubclass(base, bert4keras_models.RoFormer):
        return base
    table = variables[ROTARY_TABLE]
    if np.allclose(table, sinusoidal_table(*table.shape), atol=1e-5):
        return base
    return type(base.__name__, (_WithTable, base), {"rotary_table": table})
