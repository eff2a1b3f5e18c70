"""Lossless enlargement: the rules in float64 against an independent BERT, folders of all kinds, symmetry, refusals."""

import os

import numpy as np
import pytest
from conftest import ROOT
from helpers import tiny_bert_folder
from numpy_bert import bert_forward, masked_language_model
from scipy.special import erf

from kexue_keras.backend import K, keras
from kexue_keras.checkpoints._enlargement_rules import Enlargement
from kexue_keras.errors import WeightsError
from kexue_keras.models import check_lossless, enlarge, load, save

FIXTURES = os.path.join(ROOT, "tests", "fixtures", "hf")
IDS = [3, 1, 4, 1, 5]
SIZE = {"hidden": 8, "inner": 16, "vocabulary": 11, "heads": 2, "layers": 2}


def bert_variables(seed=7):
    """Random variables of a BERT with an MLM head; no bias is 0, since a wrong one would not show."""
    rng = np.random.RandomState(seed)
    d, inner, v = SIZE["hidden"], SIZE["inner"], SIZE["vocabulary"]
    shapes = {"bert/embeddings/%s_embeddings" % n: (r, d) for n, r in (("word", v), ("position", 9), ("token_type", 2))}
    dense = {"cls/predictions/transform/dense": (d, d)}
    norms = ["bert/embeddings/LayerNorm", "cls/predictions/transform/LayerNorm"]
    for i in range(SIZE["layers"]):
        p = "bert/encoder/layer_%d/" % i
        dense.update({p + "attention/self/" + part: (d, d) for part in ("query", "key", "value")})
        dense.update({p + "attention/output/dense": (d, d), p + "intermediate/dense": (d, inner)})
        dense[p + "output/dense"] = (inner, d)
        norms += [p + "attention/output/LayerNorm", p + "output/LayerNorm"]
    for name, shape in dense.items():
        shapes.update({name + "/kernel": shape, name + "/bias": shape[1:]})
    for name in norms:
        shapes.update({name + "/gamma": (d,), name + "/beta": (d,)})
    shapes["cls/predictions/output_bias"] = (v,)
    return {name: rng.standard_normal(shape) for name, shape in shapes.items()}


def enlarged(variables, k, mode, noise=0.0):
    rules, rng = Enlargement({"num_attention_heads": SIZE["heads"]}, "bert", k, mode), np.random.RandomState(0)
    large = {name: rules.apply(name, value) for name, value in variables.items()}
    return {name: value + rules.noise(name, value, rng, noise) for name, value in large.items()}


@pytest.mark.parametrize("k, mode, noise", [(2, "size", 0), (3, "size", 0.5), (4, "heads", 0.5)])
def test_rules_are_exact_in_float64(k, mode, noise):
    small = bert_variables()
    large = enlarged(small, k, mode, noise)
    heads = SIZE["heads"] * (k if mode == "heads" else 1)
    states = bert_forward(small, IDS, SIZE["heads"], SIZE["layers"])
    wide = bert_forward(large, IDS, heads, SIZE["layers"])
    # bert_forward has the same epsilon, 1e-12, in both.
    np.testing.assert_allclose(wide * k**0.5, np.repeat(states, k, axis=1), atol=1e-10)
    np.testing.assert_allclose(masked_language_model(large, wide), masked_language_model(small, states), atol=1e-10)
    if noise:
        assert np.abs(large["bert/encoder/layer_0/intermediate/dense/kernel"][0::k, 0::k]).std() > 0
        copies = large["bert/encoder/layer_0/output/dense/kernel"]
        assert np.abs(copies[0::k] - copies[1::k]).max() > 0.1


def test_the_articles_second_bias_and_its_factor_at_mlm_norm():
    small, k = bert_variables(), 2
    large = enlarged(small, k, "size")
    states, bias = bert_forward(small, IDS, 2, 2), small["cls/predictions/output_bias"]
    y = masked_language_model(small, states)
    # Another sqrt k at MLM-Norm: right only for an output bias of 0, or one that is divided as well.
    norm = {name: value / k**0.5 for name, value in large.items() if "transform/LayerNorm" in name}
    extra = masked_language_model(dict(large, **norm), np.repeat(states, k, axis=1) / k**0.5)
    np.testing.assert_allclose(extra, (y - bias) / k**0.5 + bias, atol=1e-10)
    for i in range(2):
        large["bert/encoder/layer_%d/output/dense/bias" % i] /= k**0.5  # rep / k, as printed
    assert np.abs(masked_language_model(large, bert_forward(large, IDS, 2, 2)) - y).max() > 1e-2


def test_the_uniform_rule_needs_relu_and_attention_without_scale():
    rng, k = np.random.RandomState(3), 2
    x, weights = rng.standard_normal((5, 4)), [rng.standard_normal(s) for s in ((4, 4),) * 4 + ((4, 6), (6, 4))]

    def layer(x, weights, scaled, activation):
        q, key, v, o, first, second = weights
        scores = (x @ q) @ (x @ key).T / (len(q) ** 0.5 if scaled else 1)
        p = np.exp(scores - scores.max(-1, keepdims=True))
        x = x + p / p.sum(-1, keepdims=True) @ (x @ v) @ o
        return x + activation(x @ first) @ second

    def error(scaled, activation):
        wide = [np.repeat(np.repeat(w, k, 0), k, 1) / k for w in weights]
        wide[4:] = [w * f for w, f in zip(wide[4:], (k**0.5, k**-0.5))] if activation is gelu else wide[4:]
        states = np.repeat(x, k, 1) / k**0.5
        large = layer(states, wide, scaled, activation)
        return np.abs(large * k**0.5 - np.repeat(layer(x, weights, scaled, activation), k, 1)).max()

    def relu(x):
        return np.maximum(x, 0)

    def gelu(x):
        return x * (1 + erf(x / np.sqrt(2))) / 2

    assert error(False, relu) < 1e-13 and error(False, gelu) < 1e-13 and error(True, relu) > 1e-2


def with_head(tmp_path, kind):
    """A tiny folder with an MLM head whose biases are not 0."""
    folder = tiny_bert_folder(tmp_path / "plain", kind=kind, num_hidden_layers=1)
    loaded = load(folder, with_mlm="linear", missing="initialise")
    rng = np.random.RandomState(1)
    weights = loaded.model.weights
    moved = [value + 0.2 * rng.standard_normal(value.shape) for value in K.batch_get_value(weights)]
    K.batch_set_value(list(zip(weights, moved)))
    save(loaded, tmp_path / "small")
    K.clear_session()
    return str(tmp_path / "small")


@pytest.mark.filterwarnings("ignore:.*these start from random values")
@pytest.mark.parametrize("kind, k, mode", [("bert", 3, "size"), ("roformer", 2, "size"), ("roformer", 2, "heads")])
def test_folders_are_lossless(tmp_path, kind, k, mode):
    small, large = with_head(tmp_path, kind), str(tmp_path / "large")
    report = enlarge(small, large, k=k, mode=mode, noise_std=0.1)
    assert report.exactness == "exact" and report.hidden_size == 16 * k
    found = check_lossless(small, large)
    assert found.lossless and found.k == k and 0 <= found.logits_error < 1e-5
    loaded = load(large, with_mlm="linear")
    assert loaded.tokenizer.encode("好电影") == load(small).tokenizer.encode("好电影")
    # The states are smaller by sqrt k, so that epsilon is by k; not so before MLM-Norm.
    usual = {"bert": 1e-12, "roformer": K.epsilon()}[kind]
    assert loaded.bert.layers["Embedding-Norm"].epsilon == pytest.approx(usual / k, rel=1e-6)
    assert loaded.bert.layers["MLM-Norm"].epsilon == pytest.approx(usual, rel=1e-6)


@pytest.mark.parametrize("kind, k, mode", [("t5", 2, "heads"), ("mt5", 2, "size"), ("roformer", 2, "size")])
def test_hugging_faces_folders(tmp_path, kind, k, mode):
    small, large = os.path.join(FIXTURES, kind), str(tmp_path / "large")
    report = enlarge(small, large, k=k, mode=mode)
    assert report.exactness == ("exact but for epsilon" if kind == "roformer" else "exact")
    assert check_lossless(small, large, num_hidden_layers=1).lossless


@pytest.mark.filterwarnings("ignore:.*these start from random values")
def test_standard_frequencies_of_rope_are_not_lossless(tmp_path):
    small = with_head(tmp_path, "roformer")
    report = enlarge(small, str(tmp_path / "large"), k=2, rope="standard")
    found = check_lossless(small, str(tmp_path / "large"))
    assert report.exactness == "approximate" and not found.lossless and 1e-4 < found.hidden_error


def test_twice_two_is_four(tmp_path):
    small = tiny_bert_folder(tmp_path / "small", kind="roformer", num_hidden_layers=1)
    for source, target, k in (("small", "two", 2), ("two", "two_two", 2), ("small", "four", 4)):
        enlarge(small if source == "small" else str(tmp_path / source), str(tmp_path / target), k=k, noise_std=0)
    weights = [load(str(tmp_path / name)).model.get_weights() for name in ("two_two", "four")]
    for one, other in zip(*weights):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_only_noise_parts_the_copies(tmp_path):
    small = tiny_bert_folder(tmp_path / "small", num_hidden_layers=1)
    tokens, rng, apart = np.array([[2, 7, 9, 3]]), np.random.RandomState(0), []
    # Of a loss that treats the copies of a state alike, as all do that the small model had.
    targets = np.repeat(rng.standard_normal((1, 4, 16)), 2, axis=2)
    for noise in (0.0, 0.5):
        enlarge(small, str(tmp_path / str(noise)), k=2, noise_std=noise)
        model = load(str(tmp_path / str(noise)), dropout_rate=0.0, attention_dropout_rate=0.0).model
        model.compile(keras.optimizers.SGD(1.0), "mse")
        for _ in range(3):
            model.train_on_batch([tokens, 0 * tokens], targets)
        inner = K.get_value([w for w in model.weights if K.int_shape(w) == (64,)][0])
        apart.append(np.abs(inner[0::2] - inner[1::2]).max())
    assert apart[0] < 1e-7 and apart[1] > 100 * max(apart[0], 1e-8)


def test_the_bundled_encoder(tmp_path):
    loaded = load("me5-zh-char-mlm", num_hidden_layers=1, with_mlm="linear", keep_tokens=list(range(1000)))
    save(loaded, tmp_path / "small")
    report = enlarge(tmp_path / "small", tmp_path / "large", k=2)
    assert report.hidden_size == 768
    assert check_lossless(str(tmp_path / "small"), str(tmp_path / "large")).lossless


@pytest.mark.parametrize("k", [1, 1.5, 0, "two", True])
def test_other_ratios_are_refused_with_the_reason(tmp_path, k):
    with pytest.raises(
        ValueError, match="k must be a whole number >= 2.*repeat some components more often than others"
    ):
        enlarge("me5-zh-char", tmp_path / "large", k=k)


def test_refusals(tmp_path):
    albert = os.path.join(FIXTURES, "albert")
    with pytest.raises(WeightsError, match="'albert'; there are rules for BERT, RoFormer, T5 and mT5"):
        enlarge(albert, tmp_path / "large", k=2)
    for word in ("mode", "rope", "format"):
        with pytest.raises(ValueError, match="enlarge: %s must be" % word):
            enlarge("me5-zh-char", tmp_path / "large", k=2, **{word: "x"})
    with pytest.raises(ValueError, match="noise_std must be a number >= 0"):
        enlarge("me5-zh-char", tmp_path / "large", k=2, noise_std=-1)
    with pytest.raises(WeightsError, match="no rule by which my_head/kernel"):
        Enlargement({}, "bert", 2, "size").apply("my_head/kernel", np.zeros((2, 2)))
    assert not os.path.exists(str(tmp_path / "large"))


def test_the_command(tmp_path, capsys):
    from kexue_keras.cli.main import main

    small = tiny_bert_folder(tmp_path / "small", num_hidden_layers=1)
    assert main(["convert", small, str(tmp_path / "large"), "--enlarge", "2", "--format", "tensorflow"]) == 0
    assert "2 times as wide: hidden size 32, exact" in capsys.readouterr().out
    assert check_lossless(small, str(tmp_path / "large")).lossless
    assert main(["convert", small, str(tmp_path / "other"), "--enlarge", "1.5"]) == 2
    assert "whole number >= 2" in capsys.readouterr().err
