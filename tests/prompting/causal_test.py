"""Prompts for models that read left to right: scores against float64 numpy, training, P-tuning, files, refusals."""

import json
import types

import numpy as np
import pytest
from bert4keras.models import build_transformer_model
from numpy_bert import bert_forward, masked_language_model
from prompts import CAUSAL, CAUSAL_CONFIG, VOCABULARY, WORDS, tiny_lm, tokenizer
from reviews import reviews

from kexue_keras import models
from kexue_keras.backend import K, keras
from kexue_keras.checkpoints._write import weights_of
from kexue_keras.errors import WeightsError
from kexue_keras.models._causal_lm import next_token_accuracy, predict_next_at, reading_of
from kexue_keras.prompting import Pattern, PromptClassifier, UntrainedHeadWarning, Verbalizer
from kexue_keras.prompting._causal import CausalPattern, CausalRows, check_answer_at_end

TEXTS = [text for text, _ in reviews(5)]
PATTERN = "喜欢{text}。{mask}"


def make(pretrained, patterns=PATTERN, words=None, **options):
    options = dict({"max_length": 32, "allow_untrained_head": True, "batch_size": 3}, **options)
    return PromptClassifier(pretrained, patterns, words or WORDS, **options)


def log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def log_likelihood(pretrained, tokens, segments, answer):
    """float64: sum of log p(answer_j | tokens, answer_1 ... answer_{j-1}), one token after the other."""
    total, tokens, segments = 0.0, list(tokens), list(segments)
    for token in answer:
        total += next_log_probabilities(pretrained, tokens, segments)[token]
        tokens, segments = tokens + [token], segments + [1]
    return total


def next_log_probabilities(pretrained, tokens, segments):
    if pretrained.kind != "bert":
        inputs = [np.array([tokens]), np.array([segments])][: len(pretrained.model.inputs)]
        probabilities = pretrained.model.predict(inputs[0] if len(inputs) == 1 else inputs)
        return np.log(probabilities[0, -1].astype("float64"))
    before = np.cumsum(segments) if reading_of(pretrained.bert) == "unilm" else np.arange(len(tokens))
    variables = {name: np.asarray(value, "float64") for name, value in weights_of(pretrained.bert).items()}
    hidden = bert_forward(variables, tokens, 2, 1, segment_ids=segments, visible=before <= before[:, None])
    return log_softmax(masked_language_model(variables, hidden))[-1]


def spelled(text):
    return [VOCABULARY.index(token) for token in text]


def prompt_of(text):
    """PATTERN with a text, by hand: [CLS] and no [SEP], since nothing ends before the answer."""
    return [VOCABULARY.index("[CLS]")] + spelled("喜欢" + text + "。")


@pytest.mark.dear
@pytest.mark.parametrize("name", sorted(CAUSAL))
def test_scores_are_log_likelihoods_of_the_answer_token_by_token(name):
    pretrained = tiny_lm(name)
    words = Verbalizer({"差评": ["不", "讨厌"], "好评": ["喜欢", "很"], "中评": "喜好"}, normalize_length=True)
    got = make(pretrained, words=words).predict_proba(TEXTS)
    for i, text in enumerate(TEXTS):
        tokens = prompt_of(text)
        score = {
            w: log_likelihood(pretrained, tokens, [0] * len(tokens), spelled(w)) / len(w)
            for w in ("不", "讨厌", "喜欢", "很", "喜好")
        }
        each = np.array([score["不"] + score["讨厌"], score["喜欢"] + score["很"], 2 * score["喜好"]]) / 2
        np.testing.assert_allclose(got[i], np.exp(each) / np.exp(each).sum(), atol=2e-5)


def test_words_of_one_length_have_the_sum_and_padding_changes_nothing():
    pretrained = tiny_lm("unilm")
    words = {"差评": "讨厌", "好评": "喜欢"}
    classifier = make(pretrained, "{text}[SEP]{mask}{mask}", words)
    got = classifier.predict_proba(TEXTS)
    for i, text in enumerate(TEXTS):
        np.testing.assert_allclose(classifier.predict_proba([text])[0], got[i], atol=1e-6)
        tokens = [VOCABULARY.index("[CLS]")] + spelled(text) + [VOCABULARY.index("[SEP]")]
        each = [log_likelihood(pretrained, tokens, [0] * len(tokens), spelled(w)) for w in words.values()]
        np.testing.assert_allclose(got[i], np.exp(each) / np.exp(each).sum(), atol=2e-5)
    assert classifier.predict_proba([]).shape == (0, 2)


def test_rows_end_with_the_answer():
    tokens = tokenizer()
    tokens._token_mask_id = tokens._token_unk_id  # a vocabulary without [MASK], as a GPT's may be
    pattern = CausalPattern(Pattern("[unused1]{text}[SEP]{mask}{mask}"), tokens, 12, slots=2, longest=3)
    prompt = pattern.encode("书" * 20)
    # Two places are kept for the answer but its last token: 12 - 2 = 10.
    spell = ["[CLS]", "[unused1]"] + ["书"] * 7 + ["[SEP]", "[PAD]"]
    assert [VOCABULARY[i] for i in prompt.token_ids] == spell and pattern.truncated == 1
    assert prompt.segment_ids == [0] * 10 + [1] and prompt.slots == [9, 10]
    assert prompt.fixed == [True] * 2 + [False] * 7 + [True] * 2
    for template, behind in [
        ("{mask}满意。{text}", "满意。{text}"),
        ("{text}{mask}。", "。"),
        ("{text}{mask}喜{mask}", "喜"),
        ("{mask}{text}{mask}", "{text}"),
    ]:
        with pytest.raises(ValueError, match="nothing may follow the answer, but '%s' does; move" % behind):
            check_answer_at_end(Pattern(template))
    check_answer_at_end(Pattern("{text_a}{text_b} {mask}{mask} "))


@pytest.mark.parametrize("reading", ["lm", "unilm"])
def test_what_is_asked_for_in_training(reading):
    words = Verbalizer({"a": ["喜欢", "喜好"], "b": "讨厌"}).compile(tokenizer())
    pattern = {2: CausalPattern(Pattern("好{text}。{mask}{mask}"), tokenizer(), 16, slots=2, longest=2)}

    class Model:
        inputs = [0, 1, 2]

    options = dict(batch_size=80, max_length=16, mask_rate=0.3, reading=reading, model=Model())
    rows = CausalRows([pattern], words, [("书房书店不", 0)] * 60, ["书房书店不"] * 60, **options)
    (tokens, segments, places), labels = rows.batch(np.arange(120), 0)
    again, same = rows.batch(np.arange(120), 0)
    np.testing.assert_array_equal(tokens, again[0])
    np.testing.assert_array_equal(labels, same)
    dense = np.zeros(tokens.shape, int)
    for row in range(120):
        dense[row, places[row]] += labels[row, :, 0]
    # [CLS] 好 书 房 书 店 不 。 and the first token of the answer, which is what its second is predicted from.
    asked = {"".join(VOCABULARY[i] for i in row) for row in dense[:60, 7:9]}
    assert asked == {"喜欢", "喜好"}
    np.testing.assert_array_equal(tokens[:60, 8], dense[:60, 7])
    assert (segments[:60, 8] == 1).all() and not segments[:60, :8].any()
    text = spelled("书房书店不")
    if reading == "unilm":  # the text sees all of itself
        assert not dense[:60, :7].any() and not dense[60:].any()
    else:
        for first, part in ((1, dense[:60, 1:6]), (0, dense[60:, 0:5])):
            assert set(np.unique(part)) <= set(text + [0]) and 0.2 < (part > 0).mean() < 0.4
            assert all((column == 0).all() or column.max() == text[i] for i, column in enumerate(part.T))
        assert not dense[:60, [0, 6]].any() and not dense[60:, 5:].any()  # neither the pattern nor [SEP]
        assert (tokens[60:, 1:6] == text).all()  # nothing is hidden


@pytest.mark.parametrize("name", ["gpt2", "unilm"])
def test_the_loss_is_that_of_the_answers_and_training_lowers_it(name):
    pretrained = tiny_lm(name)
    words = {"差评": "讨厌", "好评": "喜欢"}
    classifier = make(pretrained, PATTERN + "{mask}", words)
    labelled = reviews(8)
    expected = 0.0
    for text, label in labelled:
        tokens = prompt_of(text)
        expected -= log_likelihood(pretrained, tokens, [0] * len(tokens), spelled(words[label])) / 2 / len(labelled)
    options = {"mask_rate": 0.0, "batch_size": 8}
    history = classifier.fit(labelled, epochs=6, optimizer=keras.optimizers.SGD(0.3), **options)
    assert history[0]["loss"] == pytest.approx(expected, rel=1e-4)
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]


def test_p_tuning_of_a_gpt2_is_saved_and_loaded_in_a_fresh_process(tmp_path, run_python):
    pretrained = tiny_lm("gpt2")
    layers = {name: layer for name, layer in pretrained.bert.layers.items() if isinstance(layer, keras.layers.Layer)}
    before = {name: layer.get_weights() for name, layer in layers.items()}
    classifier = make(pretrained, "[unused1]{text}[unused2]{mask}", trained="soft_tokens")
    plain = make(pretrained, "[unused1]{text}[unused2]{mask}")
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), plain.predict_proba(TEXTS), atol=1e-6)
    assert [K.int_shape(w) for w in classifier.model.trainable_weights] == [(2, 16)]
    classifier.fit(reviews(8), TEXTS[:2], epochs=1, optimizer=keras.optimizers.SGD(0.5))
    expected = classifier.predict_proba(TEXTS)
    classifier.save(str(tmp_path / "saved"))
    soft = [VOCABULARY.index("[unused1]"), VOCABULARY.index("[unused2]")]
    for name, weights in before.items():
        for old, new in zip(weights, layers[name].get_weights()):
            changed = np.flatnonzero((old != new).reshape(len(old), -1).any(axis=1))
            assert list(changed) == (soft if name == "Embedding-Token" else []), name
    unilm = make(tiny_lm("unilm"))
    unilm.save(str(tmp_path / "unilm"))
    for folder, reading, wanted in (("saved", "lm", expected), ("unilm", "unilm", unilm.predict_proba(TEXTS))):
        out = run_python(
            "import sys, json; from kexue_keras.prompting import PromptClassifier; "
            "c = PromptClassifier.load(sys.argv[1], allow_untrained_head=True); "
            "print(json.dumps([c.reading, c.predict_proba(sys.argv[2:]).tolist()]))",
            tmp_path / folder,
            *TEXTS,
        )
        found, probabilities = json.loads(out.splitlines()[-1])
        assert found == reading
        np.testing.assert_allclose(probabilities, wanted, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt", "gpt2_ml", "lm"])
def test_all_kinds_are_saved_and_loaded(tmp_path, name):
    classifier = make(tiny_lm(name))
    classifier.save(str(tmp_path / "saved"))
    again = PromptClassifier.load(str(tmp_path / "saved"), trained="all", allow_untrained_head=True)
    assert again.reading == "lm" and again.pretrained.kind == classifier.pretrained.kind
    np.testing.assert_allclose(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS), rtol=1e-5)


def test_next_tokens_are_measured_and_what_does_not_fit_is_refused():
    pretrained = tiny_lm("gpt2")
    with pytest.warns(
        UntrainedHeadWarning, match="left-to-right language modelling.*NOT BETTER THAN CHANCE.*next tokens"
    ):
        make(pretrained, allow_untrained_head=False).predict([text for text, _ in reviews(40)])
    tokens = prompt_of(TEXTS[0])[1:]
    hidden = next_token_accuracy(predict_next_at(pretrained.bert), tokenizer(), ["喜欢" + TEXTS[0] + "。"])
    start = [VOCABULARY.index("[CLS]")]
    each = [-next_log_probabilities(pretrained, start + tokens[:i], [0] * (i + 1))[t] for i, t in enumerate(tokens)]
    assert hidden["tokens"] == len(tokens) and hidden["loss"] == pytest.approx(np.mean(each), abs=2e-4)
    with pytest.raises(ValueError, match="pattern '{mask}喜欢。{text}'.*reads left to right.*'喜欢。{text}' does"):
        make(pretrained, "{mask}喜欢。{text}")
    with pytest.raises(ValueError, match="different numbers of tokens"):
        make(pretrained, PATTERN + "{mask}", {"a": "很", "b": "讨厌"})
    with pytest.raises(ValueError, match="has 1 slot.s., but the labels' words have 2"):
        make(pretrained, words={"a": "喜欢", "b": "讨厌"})
    with pytest.raises(ValueError, match="UniLM, which sees a whole text at once, so of 1 unlabelled"):
        make(tiny_lm("unilm")).fit(reviews(2), ["书店"])
    with pytest.raises(ValueError, match="T5 has its text in an encoder.*take a GPT"):
        config = dict(CAUSAL_CONFIG, version="t5.1.1", max_position=8)
        make(types.SimpleNamespace(name="t5", tokenizer=tokenizer(), transformer=models.T5(**config)))
    bert = build_transformer_model(model="bert", with_mlm="linear", return_keras_model=False, **CAUSAL_CONFIG)
    with pytest.raises(WeightsError, match="BERT reads in both directions.*application='lm'"):
        predict_next_at(bert)
