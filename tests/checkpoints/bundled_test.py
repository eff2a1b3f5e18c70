"""The bundled weights: unpacking, hidden states against an independent numpy BERT in float64, and what they can do."""

import os
import time

import numpy as np
import pytest
from bert4keras.tokenizers import Tokenizer
from numpy_bert import bert_forward, masked_language_model

from kexue_keras.checkpoints._bundled import ASSETS, BUNDLED, bundled_config, bundled_variables
from kexue_keras.models import load

SENTENCE = "今天天气不错，我们去公园散步吧。"
ENCODERS = sorted(name for name, model in BUNDLED.items() if model.changes is None)
REFERENCE = os.path.join(os.path.dirname(__file__), "me5_zh_reference.npz")


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_variables_have_the_shapes_of_the_configuration(name):
    begin = time.time()
    variables = bundled_variables(name)
    assert time.time() - begin < 20  # about .4 s on an idle core; only a gross slip is caught here
    config = bundled_config(name)
    assert variables["bert/embeddings/word_embeddings"].shape == (config["vocab_size"], 384)
    assert variables["bert/encoder/layer_11/intermediate/dense/kernel"].shape == (384, 1536)
    assert variables["bert/encoder/layer_11/output/dense/kernel"].shape == (1536, 384)
    assert all(np.isfinite(v).all() for v in variables.values())


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_the_lowest_layers_are_those_of_all(name):
    lowest, whole = bundled_variables(name, 1), bundled_variables(name)
    assert set(whole) - set(lowest) == {n for n in whole if "/layer_" in n and "/layer_0/" not in n}
    for one in lowest:
        np.testing.assert_array_equal(lowest[one], whole[one])
    assert set(bundled_variables(name, 99)) == set(whole)


@pytest.mark.parametrize("name", ENCODERS)
def test_hidden_states_equal_numpy_in_float64(name):
    encoder = load(name)
    token_ids, segment_ids = encoder.tokenizer.encode(SENTENCE)
    with np.load(REFERENCE) as stored:
        np.testing.assert_array_equal(token_ids, stored[name + ".ids"])
        expected = stored[name + ".hidden"]
    got = encoder.model.predict([np.array([token_ids]), np.array([segment_ids])])[0]
    assert np.abs(got - expected).max() < 1e-4
    padded = [np.array([ids + [0] * 5]) for ids in (token_ids, segment_ids)]
    got = encoder.model.predict(padded)[0, : len(token_ids)]
    assert np.abs(got - expected).max() < 1e-4
    assert similarity(encoder, "怎么办理信用卡", "信用卡如何申请") > similarity(encoder, "怎么办理信用卡", "今天的晚饭很好吃") + 0.05


def similarity(encoder, *texts):
    vectors = []
    for text in texts:
        token_ids, segment_ids = encoder.tokenizer.encode(text)
        vector = encoder.model.predict([np.array([token_ids]), np.array([segment_ids])])[0].mean(0)
        vectors.append(vector / np.linalg.norm(vector))
    return vectors[0] @ vectors[1]


@pytest.mark.parametrize("text, hidden", [("房间很干净，服务态度也不错。", "净"), ("质量很好，物流也很快，下次还来买。", "物")])
def test_the_trained_head_fills_in_what_is_hidden(text, hidden):
    """In numpy, as it takes a tenth of the time of building twelve layers."""
    variables = bundled_variables("me5-zh-char-mlm")
    tokenizer = Tokenizer(os.path.join(ASSETS, BUNDLED["me5-zh-char-mlm"].vocabulary), do_lower_case=True)
    ids = tokenizer.encode(text)[0]
    place = ids.index(tokenizer.token_to_id(hidden))
    ids[place] = tokenizer.token_to_id("[MASK]")
    x = bert_forward(variables, ids, heads=12, layers=12)[place]
    scores = masked_language_model(variables, x)
    assert tokenizer.id_to_token(int(scores.argmax())) == hidden


def test_the_bundled_roformer_sim_writes_questions_and_finds_them():
    """In numpy too, as a UniLM: of the answers the one in other words is the likeliest, and its vector the nearest."""
    variables = bundled_variables("roformer-sim-zh-small")
    tokenizer = Tokenizer(os.path.join(ASSETS, BUNDLED["roformer-sim-zh-small"].vocabulary), do_lower_case=True)
    asked, texts = "怎么办理信用卡？", ["如何办理信用卡？", "如何办理身份证？", "卡用信理办何如？"]
    likelihoods = []
    for text in texts:
        ids, segments = map(np.array, tokenizer.encode(asked, text))
        first, n = int((segments == 0).sum()), len(ids)
        visible = (np.arange(n) < first)[None] | (np.arange(n)[None] <= np.arange(n)[:, None])
        x = bert_forward(variables, ids, heads=12, layers=12, segment_ids=segments, visible=visible)
        scores = masked_language_model(variables, x[first - 1 : -1])
        scores -= scores.max(-1, keepdims=True)
        scores -= np.log(np.exp(scores).sum(-1, keepdims=True))
        likelihoods.append(scores[np.arange(n - first), ids[first:]].mean())
    assert likelihoods[0] > -1 and likelihoods[0] > max(likelihoods[1:]) + 0.5
    vectors = []
    for text in [asked] + texts[:2]:
        hidden = bert_forward(variables, tokenizer.encode(text)[0], heads=12, layers=12)[0]
        vector = hidden @ variables["bert/pooler/dense/kernel"] + variables["bert/pooler/dense/bias"]
        vectors.append(vector / np.linalg.norm(vector))
    cosines = [vectors[0] @ vector for vector in vectors[1:]]
    assert cosines[0] > 0.9 and cosines[0] > cosines[1] + 0.1


def test_the_stored_vectors_are_what_numpy_computes():
    name = "me5-zh-char"
    with np.load(REFERENCE) as stored:
        token_ids, expected = stored[name + ".ids"], stored[name + ".hidden"]
    got = bert_forward(bundled_variables(name), token_ids, heads=12, layers=12)
    assert np.abs(got - expected).max() < 1e-6
