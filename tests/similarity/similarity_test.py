"""Sentence vectors against numpy, search against sorting, whitening, saving; the pair head; generating and ranking."""

import importlib.util
import warnings

import numpy as np
import pytest
from helpers import CHARACTERS

from kexue_keras.backend import K, keras
from kexue_keras.errors import WeightsError
from kexue_keras.models import load
from kexue_keras.similarity import (
    PairFeatures,
    SentenceEncoder,
    SimilarQuestions,
    VectorIndex,
    Whitening,
    sentence_vector,
)
from kexue_keras.similarity._index import unit_rows
from kexue_keras.similarity._pooling import hidden_states
from kexue_keras.similarity._questions import edit_distance

TEXTS = ["我喜欢电影", "书店", "上国人来了在这", "好"]


def load_unilm(folder, **arguments):
    """With pooler and head, whose weights are random and large enough to matter."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = load(folder, with_pool="linear", with_mlm="linear", missing="initialise", **arguments)
    random = np.random.RandomState(0)
    found.model.set_weights([w + 0.3 * random.randn(*w.shape) for w in found.model.get_weights()])
    return found


def test_poolings_against_numpy(tiny, tmp_path):
    pretrained = load_unilm(tiny)
    states = [hidden_states(pretrained.transformer, number) for number in (0, -1)]
    kinds = ("cls", "mean", "max", "first-last", "linear-pooler")
    encoders = [SentenceEncoder(pretrained, pooling=kind, max_length=16) for kind in kinds]
    everything = keras.models.Model(pretrained.model.inputs, states + [e.model.output for e in encoders])
    ids = [pretrained.tokenizer.encode(text)[0] for text in TEXTS]
    tokens = np.array([row + [0] * (16 - len(row)) for row in ids])
    first, last, *vectors = everything.predict_on_batch([tokens, np.zeros_like(tokens)])
    first, last = np.asarray(first, "float64"), np.asarray(last, "float64")
    kernel, bias = pretrained.transformer.layers["Pooler-Dense"].get_weights()
    both = (first + last) / 2
    for i, row in enumerate(ids):
        n = len(row)
        expected = [
            last[i, 0],
            last[i, :n].mean(0),
            last[i, :n].max(0),
            both[i, :n].mean(0),
            last[i, 0] @ kernel + bias,
        ]
        for kind, vector, wanted in zip(kinds, vectors, expected):
            np.testing.assert_allclose(vector[i], wanted, atol=1e-5, err_msg=kind)
    # Whatever batch a text is in, in the order of the texts.
    encoder = encoders[1]
    found = encoder.encode(TEXTS, batch_size=3)
    np.testing.assert_allclose(found, unit_rows(vectors[1]), atol=1e-5)
    alone = [encoder.encode([text])[0] for text in TEXTS]
    np.testing.assert_allclose(found, alone, atol=1e-5)
    np.testing.assert_allclose(encoder.encode(TEXTS, normalize=False), vectors[1], atol=1e-5)
    cosines = encoder.similarity(TEXTS[:3], TEXTS[1:])
    np.testing.assert_allclose(cosines, np.sum(found[:3] * found[1:], axis=1), atol=1e-6)
    assert abs(encoder.similarity(TEXTS[0], TEXTS[1]) - cosines[0]) < 1e-6
    assert encoder.encode([]).shape == (0, 16)
    cut = encoder.encode(["我喜欢电影"], max_length=5)
    np.testing.assert_allclose(cut, encoder.encode(["我喜欢"]), atol=1e-6)
    hits = encoder.search(TEXTS[:2], TEXTS, k=9)
    assert [h[0].text for h in hits] == TEXTS[:2] and all(len(h) == 4 for h in hits)
    assert [h.score for h in hits[0]] == sorted((h.score for h in hits[0]), reverse=True)
    # Whitened, saved and loaded.
    encoder.fit_whitening([a + b for a, b in zip(CHARACTERS, CHARACTERS[3:])], components=5)
    assert encoder.encode(TEXTS).shape == (4, 5)
    encoder.save(str(tmp_path / "encoder"))
    again = SentenceEncoder.load(str(tmp_path / "encoder"))
    np.testing.assert_allclose(again.encode(TEXTS), encoder.encode(TEXTS), atol=1e-4)
    assert (again.pooling, again.max_length) == ("mean", 16)
    with pytest.raises(WeightsError, match="is there already"):
        encoder.save(str(tmp_path / "encoder"))
    # P2 of a checkpoint without that layer would be random numbers.
    with pytest.raises(WeightsError, match="bert/pooler/dense/kernel"):
        SentenceEncoder(tiny, pooling="pooler", num_hidden_layers=1)
    encoder.whitening = None
    index = encoder.index(TEXTS)
    assert encoder.search(["好"], index, k=1)[0][0].place == 3
    for wrong, message in [
        (lambda: encoder.encode("一"), "give a list"),
        (lambda: encoder.encode(["一", None]), r"texts\[1\] is None"),
        (
            lambda: encoder.encode(["一"], max_length=1),
            "max_length must be a whole number >= 2, but is 1; special tokens",
        ),
        (lambda: encoder.similarity(["一"], ["一", "人"]), "1 texts and 2 texts"),
        (lambda: SentenceEncoder(pretrained, pooling="sum"), "pooling must be one of .*, but is 'sum'"),
        (lambda: sentence_vector(pretrained.transformer, "pooler"), "a pooler of the other kind"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()
    with pytest.raises(TypeError, match="loaded already"):
        SentenceEncoder(pretrained, with_pool=True)


def test_what_was_not_saved_is_not_loaded(tiny):
    with pytest.raises(WeightsError, match="sentence_encoder.json: cannot be read"):
        SentenceEncoder.load(tiny)


def test_pair_features_are_the_oracle_and_pairs_must_be_whole():
    layer = PairFeatures()
    found = K.eval(layer(K.constant([[1, 0], [0.8, 0.6], [0, 2], [-0.6, 0.8]])))
    np.testing.assert_allclose(found[0], [1, 0, 0.8, 0.6, 0.2, 0.6], atol=1e-6)
    np.testing.assert_allclose(found[2], [0, 2, -0.6, 0.8, 0.6, 1.2], atol=1e-6)
    assert np.array_equal(found[::2], found[1::2])
    assert layer.compute_output_shape((None, 7)) == (None, 21)
    assert PairFeatures.from_config(layer.get_config()).name == layer.name
    with pytest.raises(Exception, match="must be even"):
        K.eval(layer(K.constant([[1.0, 0.0]] * 3)))


def test_exact_search_is_sorting(rng, monkeypatch):
    vectors, queries = rng.randn(300, 8), rng.randn(7, 8)
    monkeypatch.setattr("kexue_keras.similarity._index.BLOCK", 900)
    places, cosines = VectorIndex(vectors).search(queries, k=20)
    full = (queries / np.linalg.norm(queries, axis=1, keepdims=True)) @ unit_rows(vectors).T
    np.testing.assert_array_equal(places, np.argsort(-full, axis=1)[:, :20])
    np.testing.assert_allclose(cosines, -np.sort(-full, axis=1)[:, :20], atol=1e-6)
    assert VectorIndex(vectors[:3]).search(queries, k=20)[0].shape == (7, 3)
    assert VectorIndex(vectors).search(np.zeros((0, 8)), k=2)[0].shape == (0, 2)
    zero = VectorIndex(np.zeros((2, 8))).search(queries[:1], k=2)[1]
    assert np.array_equal(zero, [[0, 0]])
    for wrong, message in [
        (lambda: VectorIndex(vectors, method="tree"), "method must be one of .*, but is 'tree'"),
        (lambda: VectorIndex(vectors[:0]), r"shape \(0, 8\)"),
        (lambda: VectorIndex(vectors).search(queries[:, :5]), r"\[Q, 8\] is needed"),
        (lambda: VectorIndex(vectors).search(queries, k=0), "k must be a whole number >= 1, but is 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()


def test_a_graph_of_neighbours(rng):
    vectors = rng.randn(400, 8)
    if importlib.util.find_spec("faiss") is None:
        with pytest.raises(ImportError, match="pip install 'faiss-cpu==1.7.4'"):
            VectorIndex(vectors, method="hnsw")
        return
    exact = VectorIndex(vectors).search(vectors[:50], k=10)
    places, cosines = VectorIndex(vectors, method="hnsw").search(vectors[:50], k=10)
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(places, exact[0])]) > 0.98
    np.testing.assert_allclose(cosines[:, 0], 1, atol=1e-5)


def test_whitening(rng):
    x = rng.randn(500, 6) @ rng.randn(6, 6) + 3
    whitened = Whitening.fit(x).transform(x)
    np.testing.assert_allclose(whitened.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.cov(whitened.T, bias=True), np.eye(6), atol=1e-4)
    # The components that are kept are those of the largest variance.
    np.testing.assert_allclose(Whitening.fit(x, 2).transform(x), whitened[:, :2], atol=1e-5)
    flat = np.concatenate([x, x[:, :1]], axis=1)
    assert Whitening.fit(flat).kernel.shape == (7, 6)
    for wrong in (lambda: Whitening.fit(flat, 7), lambda: Whitening.fit(x[:1]), lambda: Whitening.fit(x, 0)):
        with pytest.raises(ValueError):
            wrong()


def test_similar_questions_are_generated_and_ranked(tiny):
    pretrained = load_unilm(tiny, application="unilm", num_hidden_layers=1)
    questions = SimilarQuestions(pretrained, max_length=10)
    text = "我喜欢电影"
    # What the vector of a pair sees is the first text alone.
    ids = pretrained.tokenizer.encode(text, "书店好")
    pair = questions.encoder.model.predict_on_batch([np.array([ids[0]]), np.array([ids[1]])])
    np.testing.assert_allclose(pair, questions.encoder.encode([text], normalize=False), atol=1e-5)
    found = questions.generate(text, n=12, k=5, seed=3)
    assert 0 < len(found) <= 5 and text not in [q.text for q in found]
    assert len({q.text for q in found}) == len(found)
    scores = [q.score for q in found]
    assert scores == sorted(scores, reverse=True)
    np.testing.assert_allclose(
        scores, questions.encoder.similarity([text] * len(found), [q.text for q in found]), atol=1e-5
    )
    assert questions.generate(text, n=12, k=5, seed=3) == found
    # At an entropy of 0 nothing is left to chance.
    assert len(questions.generate(text, n=12, k=5, top_p=None, entropy=0.0)) <= 1
    seen = []
    generator, sample = questions.generator, questions.generator.sample
    generator.sample = lambda inputs, **options: seen.append(inputs) or sample(inputs, **options)
    questions.generate(text, n=12, k=5, mask_positions=[1, 4])
    hidden = pretrained.tokenizer._token_mask_id
    assert [i for i, token in enumerate(seen[0][0][0]) if token == hidden] == [1, 4]
    for arguments, message in [
        ({"mask_positions": [0]}, "are 1 to 5"),
        ({"mask_positions": [6]}, "are 1 to 5"),
        ({"n": 0}, "SimilarQuestions: n must be a whole number >= 1, but is 0"),
        ({"min_edits": -1}, "min_edits must be a whole number >= 0, but is -1"),
    ]:
        with pytest.raises(ValueError, match=message):
            questions.generate(text, **arguments)
    both_ends_can_be_cut_off(questions, text, found)
    with pytest.raises(ValueError, match="a text is needed"):
        questions.generate(" ")
    several_texts_are_generated_from_together(questions, generator, sample, seen)


def both_ends_can_be_cut_off(questions, text, found):
    middle = np.mean([question.score for question in found])
    kept = questions.generate(text, n=12, k=5, seed=3, min_score=middle)
    assert kept == [question for question in found if question.score >= middle]
    every = questions.generate(text, n=12, k=50, seed=3)
    kept = questions.generate(text, n=12, k=50, seed=3, min_edits=4)
    assert [q.text for q in kept] == [q.text for q in every if edit_distance(text, q.text) >= 4]


def test_edit_distance_is_the_cheapest_of_all_alignments(rng):
    def cheapest(a, b):
        if not a or not b:
            return len(a) + len(b)
        return min(cheapest(a[1:], b[1:]) + (a[0] != b[0]), cheapest(a[1:], b) + 1, cheapest(a, b[1:]) + 1)

    for _ in range(20):
        a, b = ("".join(rng.choice(list("甲乙丙"), rng.randint(6))) for _ in range(2))
        assert edit_distance(a, b) == cheapest(a, b)


def several_texts_are_generated_from_together(questions, generator, sample, seen):
    texts = ["我喜欢电影", "书店", "国人"]
    del seen[:]
    many = questions.generate(texts, n=12, k=5, seed=3, mask_positions=[(1,), (), (2,)])
    # One decoding for all of them; each has its own positions, neighbours and scores.
    assert len(seen) == 1 and len(seen[0][0]) == 3
    hidden = questions.tokenizer._token_mask_id
    assert [[i for i, token in enumerate(row) if token == hidden] for row in seen[0][0]] == [[1], [], [2]]
    assert len(many) == 3
    for text, row in zip(texts, many):
        assert 0 < len(row) <= 5 and text not in [q.text for q in row] and len({q.text for q in row}) == len(row)
        cosines = questions.encoder.similarity([text] * len(row), [q.text for q in row])
        np.testing.assert_allclose([q.score for q in row], cosines, atol=1e-5)
        np.testing.assert_array_equal(cosines, np.sort(cosines)[::-1])
    assert questions.generate(texts, n=12, k=5, seed=3, mask_positions=[(1,), (), (2,)]) == many
    # A list of one is the text alone, and nothing is nothing.
    assert questions.generate(texts[:1], n=6, k=5, seed=3) == [questions.generate(texts[0], n=6, k=5, seed=3)]
    assert questions.generate([]) == []
    for wrong, options, message in [
        (["好", " "], {}, "text is ' '"),
        (["好", None], {}, "text is None"),
        (["好", "人"], {"mask_positions": [(1,)]}, "1 lists of mask_positions for 2 texts"),
    ]:
        with pytest.raises(ValueError, match=message):
            questions.generate(wrong, **options)
