"""Checks that tests of model classes share: encoders, language models and UniLMs over BERT and RoFormer, tiny."""

import numpy as np
from bert4keras.models import BERT, RoFormer, build_transformer_model
from helpers import tiny_config

BASES = {"bert": BERT, "roformer": RoFormer}


def make(cls, application="encoder", **options):
    """bert4keras transformer object of a class; no dropout, one layer unless given."""
    config = dict(tiny_config(), num_hidden_layers=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config.update(options)
    return build_transformer_model(
        config_path=None, model=cls, application=application, return_keras_model=False, **config
    )


def predict(transformer, ids, segments=None):
    segments = np.zeros_like(ids) if segments is None else segments
    return np.asarray(transformer.model.predict_on_batch([ids, segments]))


IDS = np.array([[2, 7, 9, 11, 13, 15, 3, 0, 0], [2, 8, 10, 3, 0, 0, 0, 0, 0]])
SEGMENTS = np.array([[0, 0, 0, 1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 0, 0, 0, 0, 0]])


def check(cls, application, tolerance=2e-5):
    """Padding changes nothing, later tokens are not seen; returns the transformer object."""
    transformer = make(cls, application)
    segments = SEGMENTS if application == "unilm" else 0 * IDS
    out = predict(transformer, IDS, segments)
    assert np.isfinite(out).all()
    real = IDS > 0
    short = predict(transformer, IDS[:, :7], segments[:, :7])
    np.testing.assert_allclose(short[real[:, :7]], out[:, :7][real[:, :7]], atol=tolerance)
    if application != "encoder":
        later = np.array(IDS)
        later[0, 5] = 20
        changed = predict(transformer, later, segments)
        np.testing.assert_allclose(changed[0, :5], out[0, :5], atol=1e-6)
        assert np.abs(changed[0, 5] - out[0, 5]).max() > 1e-6
    return transformer
