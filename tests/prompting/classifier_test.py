"""The prompt classifier on a tiny model: probabilities, training, P-tuning, the check of the head, files."""

import json

import numpy as np
import pytest
from prompts import PATTERN, VOCABULARY, WORDS, tiny_mlm, tokenizer
from reviews import reviews

from kexue_keras.backend import K, keras
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.losses import MaskedCrossentropy
from kexue_keras.prompting import Pattern, PromptClassifier, UntrainedHeadWarning, Verbalizer
from kexue_keras.prompting._rows import TrainingRows
from kexue_keras.trainer import Trainer

TEXTS = [text for text, _ in reviews(7)]


def make(pretrained=None, patterns=PATTERN, words=None, **options):
    options = dict({"max_length": 32, "allow_untrained_head": True, "batch_size": 3}, **options)
    return PromptClassifier(pretrained or tiny_mlm(), patterns, words or WORDS, **options)


def whole_model(pretrained, template, text, word):
    """Sum of the log-probabilities of a word at the slots, by the ordinary model over all places."""
    prompt = Pattern(template).compile(tokenizer(), 32).encode(text)
    logits = pretrained.model.predict([np.array([prompt.token_ids]), np.array([prompt.segment_ids])])[0]
    log_p = logits.astype("float64") - np.log(np.exp(logits.astype("float64")).sum(axis=-1, keepdims=True))
    return sum(log_p[slot, VOCABULARY.index(c)] for slot, c in zip(prompt.slots, word))


def test_probabilities_and_losses_are_those_of_the_whole_model():
    pretrained = tiny_mlm()
    templates = [PATTERN, "{text}好{mask}{mask}"]
    words = Verbalizer({"差评": ["不", "讨厌"], "好评": "很"}, normalize_length=True)
    classifier = make(pretrained, templates, words)
    each = []
    for template in templates:
        one, two = (Pattern(template).with_slots(k).template for k in (1, 2))
        scores = []
        for text in TEXTS:
            bad = [whole_model(pretrained, one, text, "不"), whole_model(pretrained, two, text, "讨厌") / 2]
            scores.append([np.mean(bad), whole_model(pretrained, one, text, "很")])
        scores = np.exp(np.array(scores))
        each.append(scores / scores.sum(axis=1, keepdims=True))
    got = classifier.predict_proba(TEXTS)
    np.testing.assert_allclose(got, np.mean(each, axis=0), atol=1e-5)
    # In whatever batch and padding.
    np.testing.assert_allclose(classifier.predict_proba(TEXTS[4:5]), got[4:5], atol=1e-6)
    assert classifier.predict_proba([]).shape == (0, 2)
    assert set(classifier.predict(TEXTS)) <= {"差评", "好评"}
    labelled = [(text, ["差评", "好评"][i % 2]) for i, text in enumerate(TEXTS)]
    classifier.weigh_patterns(labelled)
    right = [np.mean(one.argmax(axis=1) == np.arange(len(TEXTS)) % 2) for one in each]
    np.testing.assert_allclose(classifier.weights, np.array(right) / sum(right))

    classifier = make(pretrained)
    expected = -np.mean([whole_model(pretrained, PATTERN, t, WORDS[label]) for t, label in labelled[:3]])
    before = K.batch_get_value(classifier.model.trainable_weights)
    # Rows without a slot are 0 alone, not NaN, ...
    assert classifier.fit([], TEXTS, epochs=1, mask_rate=0.0) == [{"epoch": 1, "loss": 0.0}]
    for old, new in zip(before, K.batch_get_value(classifier.model.trainable_weights)):
        np.testing.assert_array_equal(old, new)
    # ... and change nothing beside others.
    classifier.model.compile("sgd", MaskedCrossentropy())
    for unlabelled in ([], TEXTS[3:]):
        rows = TrainingRows(
            classifier._compiled,
            classifier._words,
            [(text, classifier.labels.index(label)) for text, label in labelled[:3]],
            unlabelled,
            batch_size=9,
            max_length=32,
            mask_rate=0.0,
        )
        loss = classifier.model.test_on_batch(*rows.batch(np.arange(3 + len(unlabelled)), 0))
        assert abs(loss - expected) < 1e-5


def test_what_is_masked_in_which_row():
    words = Verbalizer({"a": ["喜欢", "很好"], "b": "讨厌"}).compile(tokenizer())
    pattern = {2: Pattern("{mask}{mask}电影。{text}").compile(tokenizer(), 16)}
    labelled, plain = [("书房书店" * 9, 0)] * 40, ["书房书店" * 9] * 40
    rows = TrainingRows([pattern], words, labelled, plain, batch_size=80, max_length=16, repeats=2, mask_rate=0.3)
    assert len(rows.batches.encoded) == 120
    inputs, labels = rows.batch(np.arange(120), 0)
    again, same = rows.batch(np.arange(120), 0)
    np.testing.assert_array_equal(inputs[0], again[0])
    np.testing.assert_array_equal(labels, same)
    dense = np.zeros(inputs[0].shape, int)
    for row in range(120):
        dense[row, inputs[2][row]] += labels[row, :, 0]
    mask = VOCABULARY.index("[MASK]")
    assert (inputs[0][:80, 1:3] == mask).all() and not dense[80:, 0].any()
    asked = {"".join(VOCABULARY[i] for i in row) for row in dense[:80, 1:3]}
    assert asked == {"喜欢", "很好"}  # drawn anew each time
    assert not dense[:80, 3:6].any() and not dense[:, -1].any()  # neither the pattern nor [SEP]
    assert 0.2 < (dense[:80, 6:-1] > 0).mean() < 0.4 and 0.2 < (dense[80:, 1:-1] > 0).mean() < 0.4
    rows = TrainingRows([pattern], words, labelled, batch_size=80, max_length=16, mask_rate=0.5, mask_pattern=True)
    inputs, labels = rows.batch(np.arange(40), 0)
    assert any(3 in places[kept[:, 0] > 0] for places, kept in zip(inputs[2], labels))


def test_p_tuning_moves_the_soft_tokens_alone_and_is_saved_as_an_ordinary_model(tmp_path, run_python):
    pretrained = tiny_mlm()
    layers = {name: layer for name, layer in pretrained.bert.layers.items() if isinstance(layer, keras.layers.Layer)}
    before = {name: layer.get_weights() for name, layer in layers.items()}
    template = "[unused1]{mask}[unused2]{text}"
    classifier = make(pretrained, template, trained="soft_tokens")
    scores = np.exp([whole_model(pretrained, template, TEXTS[0], WORDS[label]) for label in classifier.labels])
    np.testing.assert_allclose(classifier.predict_proba(TEXTS[:1]), [scores / scores.sum()], atol=1e-6)
    assert [K.int_shape(w) for w in classifier.model.trainable_weights] == [(2, 16)]
    classifier.fit(reviews(8), TEXTS[:2], epochs=1, optimizer=keras.optimizers.SGD(0.5))
    expected = classifier.predict_proba(TEXTS)
    classifier.save(str(tmp_path / "saved"))
    soft = [VOCABULARY.index("[unused1]"), VOCABULARY.index("[unused2]")]
    for name, weights in before.items():
        for old, new in zip(weights, layers[name].get_weights()):
            changed = np.flatnonzero((old != new).reshape(len(old), -1).any(axis=1))
            assert list(changed) == (soft if name == "Embedding-Token" else []), name
    out = run_python(
        "import sys, json; from kexue_keras.prompting import PromptClassifier; c = PromptClassifier.load(sys.argv[1], "
        "allow_untrained_head=True); print(json.dumps([c.labels, c.predict_proba(sys.argv[2:]).tolist()]))",
        tmp_path / "saved",
        *TEXTS,
    )
    labels, probabilities = json.loads(out.splitlines()[-1])
    assert labels == classifier.labels
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    with pytest.raises(WeightsError, match="holds no prompt classifier"):
        PromptClassifier.load(str(tmp_path))


def test_what_the_patterns_prefer_is_taken_off_and_saved(tmp_path, run_python):
    pretrained, templates = tiny_mlm(), [PATTERN, "{text}很{mask}"]
    classifier = make(pretrained, templates, calibrate=iter(TEXTS[:5]))

    def expected():
        each = []
        for template in templates:
            scores = [[whole_model(pretrained, template, text, WORDS[w]) for w in WORDS] for text in TEXTS]
            log_p = np.array(scores) - np.log(np.exp(scores).sum(axis=1, keepdims=True))
            prior = log_p[:5].mean(axis=0)
            p = np.exp(log_p - prior)
            each.append((prior, p / p.sum(axis=1, keepdims=True)))
        return each

    before = expected()
    np.testing.assert_allclose(classifier.predict_proba(TEXTS), np.mean([p for _, p in before], axis=0), atol=1e-6)
    np.testing.assert_allclose(classifier.prior, [prior for prior, _ in before], atol=1e-5)
    plain = make(pretrained, templates)
    assert plain.prior is None and np.abs(plain.predict_proba(TEXTS) - classifier.predict_proba(TEXTS)).max() > 1e-3
    # Training moves the prior, and the epochs are judged by the new one.
    valid = [(text, list(WORDS)[i % 2]) for i, text in enumerate(TEXTS)]
    history = classifier.fit(reviews(8), epochs=1, learning_rate=1e-2, valid=valid)
    after = expected()
    assert np.abs(after[0][0] - before[0][0]).max() > 1e-2
    np.testing.assert_allclose(classifier.prior, [prior for prior, _ in after], atol=1e-5)
    assert history[0]["valid"] == classifier.accuracy(valid)
    classifier.save(str(tmp_path / "saved"))
    out = run_python(
        "import sys, json; from kexue_keras.prompting import PromptClassifier; c = PromptClassifier.load(sys.argv[1], "
        "allow_untrained_head=True); print(json.dumps(c.predict_proba(sys.argv[2:]).tolist()))",
        tmp_path / "saved",
        *TEXTS,
    )
    np.testing.assert_allclose(json.loads(out.splitlines()[-1]), classifier.predict_proba(TEXTS), atol=1e-6)
    loaded = PromptClassifier.load(str(tmp_path / "saved"), allow_untrained_head=True)
    with pytest.raises(ValueError, match="saved with a calibration, whose texts are not with it.*call calibrate"):
        loaded.fit(reviews(8), epochs=1)
    loaded.calibrate(None)
    assert loaded.prior is None and loaded.fit(reviews(8), epochs=1)[0]["epoch"] == 1
    for texts, words in [
        ([], "calibrate has no texts; give some hundreds without labels, or None"),
        ("书店", "calibrate is one str; give a list of texts"),
        (["书", ("书", "店")], r"calibrate.1. is .*; a str is needed"),
        ([3], "calibrate.0. is 3"),
    ]:
        with pytest.raises(ValueError, match=words):
            make(pretrained, calibrate=texts)
        with pytest.raises(ValueError, match=words):
            plain.calibrate(texts)
    assert plain.prior is None


def test_the_head_is_measured_and_what_does_not_fit_is_refused():
    pretrained = tiny_mlm()
    classifier = make(pretrained, allow_untrained_head=False)
    with pytest.warns(UntrainedHeadWarning, match="NOT BETTER THAN CHANCE"):
        classifier.predict([text for text, _ in reviews(64)])
    assert classifier.head_scores["trained"] is False and classifier.head_scores["tokens"] >= 50
    assert classifier.check_head(["书店"])["trained"] is None  # too little to tell
    with pytest.raises(ValueError, match="unknown label '中评' of the text '书'; the verbalizer has 差评, 好评"):
        classifier.fit([("书", "中评")])
    with pytest.raises(ValueError, match="nothing to train on"):
        classifier.fit([])
    with pytest.raises(ValueError, match="takes single texts"):
        classifier.predict([("书", "书")])
    for arguments, words in [
        (dict(words={"a": "喜欢", "b": "讨厌"}), r"has 1 slot.s., but the labels' words have 2 token.s.*that often"),
        (dict(patterns=[PATTERN, "{text_a}{mask}{text_b}"]), "all for single texts or all for pairs"),
        (dict(patterns=[]), "at least one"),
        (dict(trained="soft"), "trained='soft'"),
        (dict(trained="soft_tokens"), r"no pattern has any; write \[unused1\]"),
        (dict(max_length=6), "truncation would cut"),
        (dict(max_length=100), "max_length is 100, but tiny has 64 positions"),
    ]:
        with pytest.raises(ValueError, match=words):
            make(pretrained, **arguments)
    pretrained.fresh_variables = ["cls/predictions/output_bias"]
    with pytest.raises(
        WeightsError, match="no head for masked language modelling .it lacks cls/predictions/output_bias"
    ):
        make(pretrained, allow_untrained_head=False)


def test_the_best_epoch_is_kept(monkeypatch):
    classifier, seen, scores = make(), [], iter([0.5, 0.9, 0.9, 0.1])

    def accuracy(labelled):
        seen.append(K.batch_get_value(classifier.model.trainable_weights))
        return next(scores)

    monkeypatch.setattr(classifier, "accuracy", accuracy)
    said = []
    options = dict(epochs=4, batch_size=8, learning_rate=1e-2, valid=reviews(2), say=said.append)
    history = classifier.fit(reviews(16), **options)
    assert [row["valid"] for row in history] == [0.5, 0.9, 0.9, 0.1] and [row["epoch"] for row in history][-1] == 4
    for kept, best in zip(K.batch_get_value(classifier.model.trainable_weights), seen[1]):
        np.testing.assert_array_equal(kept, best)
    assert "valid score" not in said[1] and said[1].endswith("(best so far)") and "best" not in said[2]
    with pytest.raises(UserError, match="the loss became nan at step 1; a lower learning_rate usually helps"):
        monkeypatch.setattr(Trainer, "_train_on_batch", lambda *_: [float("nan")])
        classifier.fit(reviews(16), epochs=1)


def test_a_run_that_diverges_keeps_the_best_epoch_and_is_an_error(monkeypatch):
    classifier, seen, own = make(), [], Trainer._train_on_batch

    def accuracy(labelled):
        seen.append(K.batch_get_value(classifier.model.trainable_weights))
        return 0.5

    monkeypatch.setattr(classifier, "accuracy", accuracy)
    monkeypatch.setattr(Trainer, "_train_on_batch", lambda t, i, made: [float("inf")] if i == 3 else own(t, i, made))
    with pytest.raises(UserError, match="at step 4; a lower.*the model has the weights of epoch 1, the best before"):
        classifier.fit(reviews(16), epochs=3, batch_size=8, learning_rate=1e-2, valid=reviews(2))
    for kept, best in zip(K.batch_get_value(classifier.model.trainable_weights), seen[0]):
        np.testing.assert_array_equal(kept, best)
