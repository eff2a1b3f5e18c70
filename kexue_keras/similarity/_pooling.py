"""Sentence vectors of a bert4keras transformer: the poolings P1 to P4 of the blog, masked.

Reference: "无监督语义相似度哪家强？我们做了个比较全面的评测", kexue.fm/archives/8321; arXiv 2103.15316 (whitening),
2011.05864 (BERT-flow, where first-last comes from).
"""

from kexue_keras import checks
from kexue_keras.backend import keras
from kexue_keras.layers._pooling import SequencePooling
from kexue_keras.options.choices import POOLINGS
from kexue_keras.types import Model, Transformer


def hidden_states(transformer, number):
    """Output `[B, n, d]` of Transformer layer `number` (negative: from the last), with its mask.

    Raises:
        ValueError: the model has no layers of that kind.
    """
    depth = transformer.num_hidden_layers
    number %= depth
    for name, node in (("Transformer-%d-FeedForward-Norm" % number, 0), ("Transformer-FeedForward-Norm", number)):
        layer = transformer.layers.get(transformer.prefixed(name))
        if layer is not None:
            return layer.get_output_at(node)
    raise ValueError("%s has no Transformer layers whose hidden states could be pooled" % type(transformer).__name__)


def sentence_vector(transformer: Transformer, pooling: str = "mean") -> Model:
    """The tensor `[B, d]` of sentence vectors, and the Keras model around it.

    Args:
        transformer: bert4keras transformer object (`PretrainedModel.transformer`).
        pooling: 'cls' (P1, the first token), 'pooler' (P2, the layer of BERT's sentence prediction, with tanh),
            'linear-pooler' (the same weights without tanh: SimBERT, RoFormer-Sim), 'mean' (P3), 'first-last' (P4, mean
            over all tokens of the first and the last layer), 'max'. Padding never counts.

    Returns:
        Keras model, token ids and segment ids `[B, n]` to vectors `[B, d]`; it shares the transformer's weights.

    Raises:
        ValueError: unknown pooling, or 'pooler' of a transformer built without it.

    Reference: kexue.fm/archives/8321.

    >>> from bert4keras.models import build_transformer_model
    >>> bert = build_transformer_model(None, return_keras_model=False, vocab_size=9, hidden_size=8, num_hidden_layers=1,
    ...     num_attention_heads=2, intermediate_size=8, hidden_act='gelu', max_position=16)
    >>> sentence_vector(bert, 'mean').output_shape
    (None, 8)
    """
    checks.choice(pooling, POOLINGS, "pooling", "sentence_vector")
    if POOLINGS[pooling]:
        layer = transformer.layers.get(transformer.prefixed("Pooler-Dense"))
        activation = "linear" if pooling == "linear-pooler" else "tanh"
        if layer is None or keras.activations.serialize(layer.activation) != activation:
            raise ValueError(
                "pooling=%r needs a model loaded with with_pool=%r; this one has %s"
                % (pooling, POOLINGS[pooling], "no pooler" if layer is None else "a pooler of the other kind")
            )
        vector = layer.output
    else:
        states = hidden_states(transformer, -1)
        if pooling == "first-last" and transformer.num_hidden_layers > 1:
            states = keras.layers.Average(name="first-last")([hidden_states(transformer, 0), states])
        mode = "mean" if pooling == "first-last" else pooling
        vector = SequencePooling(mode, name="pooling-%s" % pooling)(states)
    return keras.models.Model(transformer.model.inputs, vector)
