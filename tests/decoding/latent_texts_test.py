"""Texts of codes: the cached decoder against the model, samples, interpolation, replacement, refusals."""

import numpy as np
import pytest
from bert4keras.models import BERT, RoFormer
from bert4keras.tokenizers import Tokenizer
from helpers import tiny_vocabulary
from model_checks import make

from kexue_keras.backend import K, initialize
from kexue_keras.decoding import Generator, LatentTexts
from kexue_keras.models import UniVAE

TEXTS = ["好电影", "我看书", "的服务很差"]


def latent_texts(base=BERT, **options):
    options = dict({"num_latent_layers": 2, "z_dim": 4, "max_length": 8, "length_leak": "restart"}, **options)
    vae = make(UniVAE(base, **options), num_hidden_layers=1 + options["num_latent_layers"])
    rng = np.random.RandomState(0)
    weights = [w for w in vae.model.weights if "gamma" not in w.name]
    initialize([(w, 0.5 * rng.standard_normal(K.int_shape(w))) for w in weights])
    return LatentTexts(vae, Tokenizer({token: i for i, token in enumerate(tiny_vocabulary())}))


@pytest.mark.dear
@pytest.mark.parametrize(
    "base, leak, latents", [(BERT, "restart", 2), (RoFormer, "pad", 2), (BERT, "pad", 1), (RoFormer, "restart", 1)]
)
def test_cached_decoding_is_the_decoder(base, leak, latents):
    latent = latent_texts(base, length_leak=leak, num_latent_layers=latents)
    codes = latent.encode(TEXTS)[:2]
    length = 8 if leak == "pad" else 1
    source, targets = np.zeros((2, length), int), np.array([[5, 6, 7, 8], [9, 11, 12, 13]])
    source[:, 0] = 2
    generator = Generator(latent.vae.decoder, start_id=2, end_id=None)
    inputs = [source.tolist(), (0 * source).tolist(), codes]
    ours = generator.log_probabilities(inputs, targets)
    tokens = np.concatenate([source, np.full((2, 1), 2), targets], axis=1)
    segments = np.concatenate([0 * source, np.ones((2, 5), int)], axis=1)
    logits = np.asarray(latent.vae.decoder.predict_on_batch([tokens, segments, codes]), "float64")[
        :, length : length + 4
    ]
    theirs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    np.testing.assert_allclose(ours, theirs, atol=2e-5)
    assert np.abs(theirs[0] - theirs[1]).max() > 1e-2


def test_texts_and_codes():
    latent = latent_texts()
    codes = latent.encode(TEXTS)
    assert codes.shape == (3, 8)
    np.testing.assert_allclose(latent.encode(TEXTS[2:])[0], codes[2], atol=1e-5)  # padding says nothing
    texts = latent.decode(codes)
    assert latent.reconstruct(TEXTS) == texts
    # Lengths do not matter on the sphere.
    assert latent.decode(3 * codes) == texts
    way = latent.interpolate(TEXTS[0], TEXTS[1], steps=3)
    assert way[0] == texts[0] and way[2] == texts[1] and len(way) == 3
    assert latent.interpolate(TEXTS[0], TEXTS[0], steps=2) == [texts[0]] * 2
    # All of the code, none of it, the halves.
    other = codes[1]
    assert latent.replace(TEXTS, start=0, other=other) == [texts[1]] * 3
    both = np.concatenate([codes[:, :4], np.tile(other[4:], (3, 1))], axis=1)
    assert latent.replace(TEXTS, start=-4, other=other) == latent.decode(both)
    assert latent.sample(4, seed=1) == latent.decode(latent.random_codes(4, seed=1)) and len(latent.sample(4)) == 4
    np.testing.assert_allclose(np.square(latent.random_codes(5).reshape(5, 2, 4)).sum(-1), 1, atol=1e-6)


def test_codes_of_a_table():
    latent = latent_texts(latent="vq", num_codes=3)
    codes = latent.random_codes(20)
    table = K.get_value(latent.vae.layers["Latent-1-Codebook"].codebook)
    assert all(np.any(np.all(np.isclose(code[4:], table), axis=1)) for code in codes)
    assert latent.interpolate(TEXTS[0], TEXTS[1], steps=2)[0] == latent.reconstruct(TEXTS)[0]


def test_refusals():
    latent = latent_texts(latent="none", num_latent_layers=1, z_dim=8)
    with pytest.raises(ValueError, match="latent='none' is an autoencoder without a prior"):
        latent.sample(2)
    with pytest.raises(ValueError, match=r"codes of shape \(1, 3\); \[texts, 8\] of finite numbers are needed"):
        latent.decode(np.zeros((1, 3)))
    with pytest.raises(ValueError, match="finite"):
        latent.decode(np.full((1, 8), np.nan))
    with pytest.raises(ValueError, match="start=8, stop=None is an empty part of 8 columns"):
        latent.replace(TEXTS, start=8, other=np.zeros(8))
    with pytest.raises(ValueError, match="steps must be a whole number >= 2"):
        latent.interpolate("a", "b", steps=1)
    with pytest.raises(TypeError, match="a transformer of a class that models.UniVAE made"):
        LatentTexts(make(BERT), latent.tokenizer)
