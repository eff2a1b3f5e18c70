"""Tiny language models with weights so large that their choices are clear, and bert4keras' own way of generating."""

import numpy as np
from bert4keras.models import build_transformer_model
from bert4keras.snippets import AutoRegressiveDecoder

from kexue_keras.backend import K

VOCABULARY = 30
END = 3


def sharpen(model, seed=0):
    """Random matrices instead of the nearly zero ones."""
    random = np.random.RandomState(seed)
    weights = [
        w if w.ndim < 2 else random.randn(*w.shape) * (1.5 if w.shape[0] == VOCABULARY else 1.2 / np.sqrt(w.shape[0]))
        for w in model.get_weights()
    ]
    model.set_weights(weights)
    return model


def tiny(kind, application=None, **changes):
    """A bert4keras transformer with one layer, random weights."""
    given = dict(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=24,
        hidden_act=["gelu", "linear"] if kind == "t5.1.1" else "gelu",
        max_position=32,
        dropout_rate=0.1,
        attention_dropout_rate=0.1,
    )
    if application is not None:
        given["application"] = application
    given.update(changes)
    transformer = build_transformer_model(None, model=kind, return_keras_model=False, **given)
    sharpen(transformer.model)
    return transformer


def sources(*lengths, seed=1):
    """Lists of token ids without 0 and END."""
    random = np.random.RandomState(seed)
    return [random.randint(4, VOCABULARY, n).tolist() for n in lengths]


class Uncached(AutoRegressiveDecoder):
    """bert4keras' decoder: the whole model for every token, one text at a time."""

    def __init__(self, transformer, segment=1, **options):
        super(Uncached, self).__init__(**options)
        model = transformer.model
        self.takes_two, self.segment = len(model.inputs) == 2, segment
        self.encoder_decoder = hasattr(transformer, "encoder")
        self.function = K.function(model.inputs, [model.outputs[0]])

    @AutoRegressiveDecoder.wraps(default_rtype="probas")
    def predict(self, inputs, output_ids, states):
        if self.encoder_decoder:
            return self.function([inputs[0], output_ids])[0][:, -1]
        token_ids = np.concatenate([inputs[0], output_ids], 1)
        segment_ids = np.concatenate([np.zeros_like(inputs[0]), np.full_like(output_ids, self.segment)], 1)
        return self.function([token_ids, segment_ids][: 1 + self.takes_two])[0][:, -1]
