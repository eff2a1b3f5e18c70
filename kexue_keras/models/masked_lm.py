"""The masked language model head of a bert4keras transformer, at chosen places only.

With 15% of the tokens to predict, the dense layer, the norm and the large product with the embedding run over these
alone, which saves most of the head's time and memory.
"""

import tensorflow as tf

from kexue_keras.backend import keras
from kexue_keras.models.variables import WeightsError

HEAD = ("MLM-Dense", "MLM-Norm", "MLM-Bias")


def predict_at(transformer):
    """A Keras model that gives the head's logits at given places.

    Args:
        transformer: bert4keras transformer object, built with `with_mlm="linear"`.

    Returns:
        model: inputs token ids `[B, n]`, segment ids `[B, n]`, places `[B, m]` int32 -> logits `[B, m, vocabulary]`. It
        shares all weights with the transformer.

    Raises:
        WeightsError: the transformer has no head for masked language modelling.

    Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; arXiv 1810.04805.

    >>> from kexue_keras.models import load, predict_at
    >>> encoder = load('me5-zh-char', num_hidden_layers=1, with_mlm='linear', missing='initialise')
    >>> token_ids, segment_ids = encoder.tokenizer.encode('今天天气不错')
    >>> predict_at(encoder.bert).predict([np.array([token_ids]), np.array([segment_ids]), np.array([[3, 4]])]).shape
    (1, 2, 14001)
    """
    layers = transformer.layers
    absent = [name for name in HEAD if name not in layers]
    if absent:
        raise WeightsError(
            "this model has no head for masked language modelling (no layer %s); build it with with_mlm='linear'"
            % ", ".join(absent)
        )
    places = keras.layers.Input((None,), dtype="int32", name="Places")
    # What comes out is no sequence of tokens any more, so the padding mask ends here.
    x = keras.layers.Lambda(
        lambda pair: tf.gather(pair[0], tf.cast(pair[1], tf.int32), batch_dims=1),
        mask=lambda *_: None,
        name="At-Places",
    )([layers["MLM-Dense"].get_input_at(0), places])
    x = layers["MLM-Norm"](layers["MLM-Dense"](x))
    x = layers["MLM-Bias"](layers["Embedding-Token"](x, mode="dense"))
    return keras.models.Model(transformer.model.inputs[:2] + [places], x)
