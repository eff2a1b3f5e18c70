"""A model of which nothing is trained but the embeddings of a few tokens, the soft tokens of P-tuning.

Reference: "P-tuning：自动构建模版，释放语言模型潜能", kexue.fm/archives/8295; Liu et al., arXiv 2103.10385.
"""

import copy

from bert4keras.layers import Embedding

from kexue_keras.backend import keras
from kexue_keras.layers import PTuningEmbedding
from kexue_keras.prompting._tokens import token_ids

TOKENS = "Embedding-Token"


def soft_ids(patterns, tokenizer):
    """The ids of the soft tokens of all patterns, each once.

    Raises:
        ValueError: no pattern has any.
    """
    tokens = dict.fromkeys(token for pattern in patterns for token in pattern.soft_tokens)
    if not tokens:
        raise ValueError("trained='soft_tokens', but no pattern has any; write [unused1][unused2]... into it")
    return [token_ids(tokenizer, token, "soft token")[1][0] for token in tokens]


class _SoftTokens(object):
    """Laid over a model class; it hooks into `apply`, through which bert4keras makes every layer."""

    def apply(self, inputs=None, layer=None, arguments=None, **kwargs):
        if layer is Embedding and kwargs.get("name") == TOKENS and "input_dim" in kwargs:
            layer, kwargs["trainable_ids"] = PTuningEmbedding, self.trainable_ids
        return super(_SoftTokens, self).apply(inputs, layer, arguments, **kwargs)


def with_soft_tokens(bert, ids):
    """The same transformer once more, with only the embeddings of `ids` trainable.

    The embedding and the projection of the tied head use the same trained rows. `write_back` puts them into the
    transformer that this was made from.

    Args:
        bert: bert4keras transformer object, built.
        ids: token ids.

    Returns:
        bert4keras transformer object with the same weights.
    """
    base = type(bert)
    tuned = copy.copy(bert)
    tuned.__class__ = type(base.__name__, (_SoftTokens, base), {"trainable_ids": sorted(ids)})
    tuned.layers, tuned.built = {}, False
    tuned.attention_bias = tuned.position_bias = tuned.attention_scores = None
    tuned.build()
    for name, layer in tuned.layers.items():
        if not isinstance(layer, keras.layers.Layer):  # bert4keras keeps its input tensors here, too
            continue
        weights = bert.layers[name].get_weights()
        if name == tuned.prefixed(TOKENS):
            layer.set_table(weights[0])
        else:
            layer.set_weights(weights)
            layer.trainable = False
    return tuned


def write_back(tuned, bert):
    """Put the trained rows into the embedding of the transformer that `tuned` was made from."""
    name = bert.prefixed(TOKENS)
    bert.layers[name].set_weights([tuned.layers[name].get_table()])
