"""The few-shot recipe: each method on a tiny model, files with wrong labels, rows that are there already."""

import json

import few_shot
import few_shot_distillation
import few_shot_prompted
import few_shot_tasks
import few_shot_untrained
import numpy as np
import pytest
from few_shot_methods import FewShot
from few_shot_tasks import read_labelled, read_unlabelled
from prompts import PATTERN, WORDS, tiny_lm, tiny_mlm
from record import rows
from reviews import reviews

from kexue_keras.backend import K
from kexue_keras.errors import UserError
from kexue_keras.models import load, save
from kexue_keras.prompting import Pattern, PromptClassifier, Verbalizer


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("model") / "tiny")
    K.clear_session()
    save(tiny_mlm(), folder)
    K.clear_session()
    return folder


def few_of(model, folder, **changes):
    """A small task."""
    settings = dict(
        patterns=[PATTERN],
        soft_pattern="[unused1]{mask}[unused2]{text}",
        words=WORDS,
        model=model,
        folder=str(folder),
        max_length=24,
        epochs=2,
        steps=8,
        num_hidden_layers=1,
        train_layers=1,
        allow_untrained_head=True,
    )
    unlabelled = [text for text, _ in reviews(4, 3)]
    return FewShot(reviews(16), reviews(4, 1), reviews(6, 2), unlabelled, **dict(settings, **changes))


def test_a_gpt_reads_left_to_right(tmp_path):
    save(tiny_lm("gpt2"), str(tmp_path / "gpt2"))
    few = FewShot(
        reviews(4),
        reviews(4, 1),
        reviews(4, 2),
        [],
        patterns=["{text}。{mask}"],
        soft_pattern="[unused1]{text}[unused2]{mask}",
        words=WORDS,
        model=str(tmp_path / "gpt2"),
        folder=str(tmp_path),
        max_length=24,
        epochs=1,
        steps=1,
        train_layers=1,
        load={"kind": "gpt2"},
        allow_untrained_head=True,
    )
    assert 0 <= few.run("P-tuning")["accuracy"] <= 1
    few.patterns = [PATTERN]
    with pytest.raises(UserError, match="nothing may follow the answer"):
        few.run("PET")


@pytest.mark.dear
# The training of both is tested where it is written.
@pytest.mark.parametrize(
    "method",
    [
        "P-tuning",
        "PET + unlabelled",
        "PET, all patterns",
        "continued MLM, then PET, all patterns",
        "PET, answers alone",
        "PET + R-Drop",
        "PET, distilled",
    ],
)
def test_methods(tiny, tmp_path, monkeypatch, method):
    fitted, taught = [], []

    def fit(classifier, labelled, unlabelled=None, **options):
        frozen = not classifier.pretrained.bert.layers["Embedding-Token"].trainable_weights
        head = classifier.pretrained.bert.layers["MLM-Bias"].get_weights()[0]
        fitted.append(dict(options, trained=classifier.trained, unlabelled=len(unlabelled), frozen=frozen, head=head))
        return [{"valid": 0.5}, {"valid": 0.25}]

    def distilled(few, texts, probabilities):
        taught.append((texts, probabilities))
        return 0.75, 0.5

    monkeypatch.setattr(PromptClassifier, "fit", fit)
    monkeypatch.setattr(few_shot_prompted, "distilled", distilled)
    few = few_of(tiny, tmp_path / "task-0", patterns=[PATTERN, "{text}{mask}"] if "all" in method else [PATTERN])
    few.mlm = {"texts": few.unlabelled, "steps": 2, "learning_rate": 1e-2}
    row = few.run(method)
    assert fitted[0]["head"].any() == ("MLM" in method)  # a bias that nothing has trained is zero
    assert row["method"] == method and row["texts"] == 6 and 0 <= row["accuracy"] <= 1
    assert (
        row["valid"] == 0.5
        and fitted[0]["repeats"] == (2 if "all" in method else 4)
        and fitted[0]["valid"] == few.valid
    )
    assert fitted[0]["trained"] == ("soft_tokens" if method == "P-tuning" else "all")
    assert fitted[0]["frozen"] == (method != "P-tuning")
    assert fitted[0]["learning_rate"] == (5e-3 if method == "P-tuning" else 1e-4)
    assert fitted[0]["unlabelled"] == (4 if method == "PET + unlabelled" else 0)
    assert fitted[0].get("mask_rate") == (0.0 if "alone" in method else None)
    assert getattr(fitted[0].get("techniques"), "rdrop", 0) == (4.0 if "R-Drop" in method else 0)
    if method == "PET, distilled":
        assert row["accuracy"] == 0.75 and row["unlabelled"] == 4 and 0 <= row["ensemble"] <= 1
        (texts, probabilities), *rest = taught
        assert texts == few.unlabelled and not rest
        np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(4), rtol=1e-6)


@pytest.mark.parametrize("front", ["", "continued MLM, then "])
def test_what_calibrated_prompts_say_is_learnt(tiny, tmp_path, monkeypatch, front):
    taught = []
    distilled = lambda *given, **options: taught.append((given, options)) or (0.75, 0.5)  # noqa: E731
    monkeypatch.setattr(few_shot_prompted, "distilled", distilled)
    monkeypatch.setattr(few_shot_prompted, "SENTENCES", tiny)
    calibration = [text for text, _ in reviews(5, 4)]
    few = few_of(tiny, tmp_path / "task-0", calibration=calibration, patterns=[PATTERN, "{text}{mask}"])
    few.mlm = {"texts": calibration, "steps": 2, "learning_rate": 1e-2}
    row = few.run(front + "zero-shot, distilled")
    assert (row["accuracy"], row["valid"], row["unlabelled"]) == (0.75, 0.5, 4)
    ((_, texts, probabilities), options), *rest = taught
    assert texts == few.unlabelled and options == ({"model": tiny} if front else {}) and not rest
    few.model = str(tmp_path / "task-mlm-2-0.01") if front else tiny
    each, ensemble = [], 0
    for pattern in few.patterns:
        classifier = few.classifier(pattern)
        classifier.calibrate(calibration)
        each.append(classifier.predict_proba(few.unlabelled))
        ensemble = ensemble + classifier.predict_proba([text for text, _ in few.test])
    np.testing.assert_allclose(probabilities, np.mean(each, axis=0), rtol=1e-4)
    assert row["ensemble"] == few_shot_untrained.accuracy(ensemble, few.test, few)
    if front:
        K.clear_session()
        answers = [few.verbalizer.labels[i] for i in np.argmax(probabilities, axis=1)]
        few.train = few.train + list(zip(few.unlabelled, answers))
        assert (row["frozen"], row["student"]) == (few_shot_untrained.frozen(few, tiny)["accuracy"], tiny)


@pytest.mark.parametrize("front", ["", "continued MLM, "])
def test_two_teachers_are_weighed_by_what_they_say_of_the_validation_texts(tiny, tmp_path, monkeypatch, front):
    taught = []
    monkeypatch.setattr(
        PromptClassifier, "fit", lambda classifier, labelled, unlabelled=None, **options: [{"valid": 1}]
    )
    monkeypatch.setattr(few_shot_prompted, "SENTENCES", tiny)
    distilled = lambda *given, **options: taught.append((given, options)) or (0.75, 0.5)  # noqa: E731
    monkeypatch.setattr(few_shot_prompted, "distilled", distilled)
    few = few_of(tiny, tmp_path / "task-0", patterns=[PATTERN, "{text}{mask}"])
    few.mlm = {"texts": few.unlabelled, "steps": 2, "learning_rate": 1e-2}
    row = few.run(front + "PET and frozen, distilled")
    assert (row["accuracy"], row["valid"], row["unlabelled"], row["student"]) == (0.75, 0.5, 4, tiny)
    ((_, texts, probabilities), options), *rest = taught
    assert texts == few.unlabelled and options == {"model": tiny} and not rest
    np.testing.assert_allclose(probabilities.sum(axis=1), np.ones(4), rtol=1e-6)
    assert row["frozen"] == few.run("frozen")["accuracy"] and len(row["weights"]) == 3
    ask, _ = few_shot_untrained.regression(few, tiny)
    assert row.get("texts for MLM") == (4 if front else None)
    few.model = str(tmp_path / "task-mlm-2-0.01") if front else tiny
    classifier, labels = few.classifier(few.patterns), few.verbalizer.labels
    assert row["PET"] == classifier.accuracy(few.test)
    parts = [[text for text, _ in few.valid], few.unlabelled]
    plain = [classifier.predict_proba(part) for part in parts]
    classifier.calibrate(few.unlabelled)
    assert row["PET, calibrated"] == classifier.accuracy(few.test)
    teachers = [[ask(part), one, classifier.predict_proba(part)] for part, one in zip(parts, plain)]
    answers = [labels.index(label) for _, label in few.valid]
    weights = few_shot_distillation.likeliest_weights(np.log(teachers[0]), answers)
    np.testing.assert_allclose(row["weights"], weights, atol=0.02, rtol=0.02)
    together = np.tensordot(weights, np.log(teachers[1]), 1)
    # A teacher that hardly tells texts apart has a weight of thousands; what all labels share would underflow.
    together = np.exp(together - together.max(axis=1, keepdims=True))
    np.testing.assert_allclose(probabilities, together / together.sum(axis=1, keepdims=True), atol=0.01)


def test_likeliest_weights_are_where_the_gradient_vanishes(rng):
    scores, answers = np.log(rng.dirichlet(np.ones(4), size=(3, 50))), rng.randint(4, size=50)
    scores[0] += 3 * np.eye(4)[answers]  # often right
    scores[1] -= 2 * np.eye(4)[answers]  # rather wrong than right
    weights = few_shot_distillation.likeliest_weights(list(scores), answers.tolist())
    spread = np.std(scores - scores.mean(axis=-1, keepdims=True), axis=(1, 2))
    p = np.exp(np.tensordot(weights, scores, 1))
    p /= p.sum(axis=1, keepdims=True)
    gradient = np.sum(scores * (p - np.eye(4)[answers]), axis=(1, 2)) + weights * spread**2
    assert weights[0] > 0.3 and weights[1] == 0 and gradient[1] > 0
    free = weights > 0
    np.testing.assert_allclose(gradient[free] / spread[free], 0, atol=1e-3)


def test_scores_of_a_classifier_are_those_that_it_says_itself(tiny, tmp_path):
    few = few_of(tiny, tmp_path, calibration=[text for text, _ in reviews(5, 4)], patterns=[PATTERN, "{text}{mask}"])
    classifier = few.classifier(few.patterns)
    found = few.scores_of(classifier)
    assert found["accuracy"] == classifier.accuracy(few.test)
    classifier.calibrate(few.calibration)
    assert found["calibrated"] == classifier.accuracy(few.test)
    assert found["calibrated_valid"] == classifier.accuracy(few.valid)


def test_distillation_learns_what_the_teachers_say(tiny, tmp_path):
    few = few_of(tiny, tmp_path, train_layers=None, learning_rate=1e-2)
    texts = ["好" * (1 + i % 5) for i in range(16)] + ["坏" * (1 + i % 5) for i in range(16)]
    labels = few.verbalizer.labels
    few.valid = few.test = [(text, labels[int("坏" in text)]) for text in texts]
    probabilities = np.array([[0.99, 0.01]] * 16 + [[0.01, 0.99]] * 16)
    assert few_shot_distillation.distilled(few, texts, probabilities, epochs=4) == (1.0, 1.0)


def test_softened_crossentropy_is_that_of_numpy(rng):
    logits, p = rng.randn(5, 3), rng.dirichlet(np.ones(3), 5)
    q = p**0.5 / (p**0.5).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(few_shot_distillation.softened(p), q, rtol=1e-12)
    log_p = logits / 2 - np.log(np.exp(logits / 2).sum(axis=1, keepdims=True))
    loss = few_shot_distillation.softened_crossentropy(K.constant(q), K.constant(logits))
    np.testing.assert_allclose(K.eval(loss), -4 * (q * log_p).sum(axis=1), rtol=1e-5)


def test_causal_p_tuning_asks_at_the_end(tmp_path, monkeypatch):
    folder = str(tmp_path / "unilm")
    save(tiny_lm("unilm"), folder)
    K.clear_session()
    monkeypatch.setattr(few_shot_prompted, "UNILM", folder)
    few = few_of("no model", tmp_path, soft_pattern="[unused1]{mask}[unused2]{text}", epochs=1, steps=1)
    row = few.run("causal P-tuning, UniLM")
    assert row["pattern"] == "[unused1][unused2]{text}[SEP]{mask}" and 0 <= row["accuracy"] <= 1


def test_nothing_is_trained_and_the_model_is_asked_once(tiny, tmp_path, monkeypatch):
    texts, asked = [text for text, _ in reviews(6, 3)], []
    other = ("{text}很{mask}", {"差评": "差", "好评": "好"})
    few = FewShot(
        reviews(12),
        reviews(8, 1),
        reviews(30, 2),
        [],
        patterns=[PATTERN],
        prompts=[other],
        soft_pattern=PATTERN,
        words=WORDS,
        model=tiny,
        folder=str(tmp_path / "task-0"),
        max_length=24,
        calibration=texts,
        allow_untrained_head=True,
    )
    expected = {}
    for calibrate in (None, texts):
        K.clear_session()
        options = {"max_length": 24, "allow_untrained_head": True, "calibrate": calibrate}
        each = [
            PromptClassifier(load(tiny, with_mlm="linear"), *prompt, **options) for prompt in ((PATTERN, WORDS), other)
        ]
        on_valid = [one.accuracy(few.valid) for one in each]
        together = sum(one.predict_proba([text for text, _ in few.test]) for one in each)
        right = [each[0].labels[i] == label for i, (_, label) in zip(together.argmax(axis=1), few.test)]
        front = "calibrated " if calibrate else ""
        expected[front + "zero-shot"] = each[0].accuracy(few.test)
        expected[front + "zero-shot, pattern by dev"] = each[on_valid.index(max(on_valid))].accuracy(few.test)
        expected[front + "zero-shot, all patterns"] = sum(right) / 30
    own = few_shot_untrained.PromptClassifier.predict_proba
    count = lambda one, texts: asked.append(len(texts)) or own(one, texts)  # noqa: E731
    monkeypatch.setattr(few_shot_untrained.PromptClassifier, "predict_proba", count)
    assert {name: few.run(name)["accuracy"] for name in expected} == expected
    assert sum(asked) <= 2 * (8 + 30 + 6)  # each text once a prompt, whatever the methods
    few.mlm, few.train_layers = {"texts": texts, "steps": 2, "learning_rate": 1e-2}, 1
    row = few.run("continued MLM, then zero-shot")
    assert row["accuracy"] == row["calibrated chosen"] and row["texts for MLM"] == 6
    trained = K.clear_session() or load(str(tmp_path / "task-mlm-2-0.01"), with_mlm="linear")
    assert row["first"] == PromptClassifier(trained, PATTERN, WORDS, max_length=24).accuracy(few.test)
    assert few.run("continued MLM, then zero-shot") == dict(row, seconds=0.0)  # trained and asked once
    found = few.run("frozen")
    assert 0 <= found["accuracy"] <= 1 and found["C"] in few_shot_untrained.REGRESSION_C
    few.train = reviews(12, 7)  # another split, with new texts
    assert 0 <= few.run("frozen")["accuracy"] <= 1
    few.train, few.valid, few.test = ([((text, text[:3]), label) for text, label in reviews(12, i)] for i in range(3))
    assert 0 <= few.run("frozen")["accuracy"] <= 1


def test_tasks_are_said_in_the_bundled_vocabulary(tmp_path):
    tokenizer = load("me5-zh-char-mlm", num_hidden_layers=1).tokenizer
    for task in few_shot_tasks.TASKS.values():
        prompts = [(pattern, task["words"]) for pattern in task["patterns"] + [task["soft_pattern"]]]
        for pattern, words in prompts + [(pattern, words or task["words"]) for pattern, words in task["prompts"]]:
            words = Verbalizer(words).compile(tokenizer)
            assert words.lengths == [Pattern(pattern).slots] and words.labels == list(task["words"])
            Pattern(pattern).compile(tokenizer, task["max_length"])
    rows = [{"id": 0, "abst": "摘要", "keyword": ["一", "二"], "label": "1"}]
    for name in ("train_0", "dev_0", "train_few_all", "test_public"):
        (tmp_path / "csl").mkdir(exist_ok=True)
        (tmp_path / "csl" / (name + ".json")).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    train, _, _, unlabelled = few_shot_tasks.read_task(str(tmp_path), "csl", 0, 5)
    assert train == [(("摘要", "一、二"), "1")] and unlabelled == [("摘要", "一、二")]


def test_what_is_refused(tmp_path):
    few = FewShot([], [], [], [], patterns=[PATTERN], soft_pattern=PATTERN, words=WORDS, model="no such model")
    with pytest.raises(UserError, match="no method 'PTE'; there are zero-shot, .*PET"):
        few.run("PTE")
    with pytest.raises(UserError, match="no model 'no such model'"):
        few.run("PET")
    path = tmp_path / "train.json"
    rows = [{"sentence": "好书", "label": "好评"}, {"sentence": "坏书", "label": "中评"}]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    with pytest.raises(UserError, match="train.json:2: unknown label '中评'; the verbalizer has 差评, 好评"):
        read_labelled(str(path), list(WORDS))
    path.write_text("\n".join(json.dumps({"id": i, "sentence": "书%d" % i, "label": 102}) for i in range(9)))
    assert read_labelled(str(path), ["102"])[3] == ("书3", "102")
    assert len(read_unlabelled(str(path), 5, 0)) == 5 and len(set(read_unlabelled(str(path), 50, 0))) == 9


def test_the_experiment_goes_on_with_what_is_missing(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(few_shot.FewShot, "run", lambda few, method: ran.append(method) or {"accuracy": 0.1 * len(ran)})
    arguments = ["--quick", "--out", str(tmp_path)]
    assert len(few_shot.main(arguments)) == 2 and ran == ["zero-shot", "PET + unlabelled"]
    with open(str(tmp_path / "few_shot.jsonl"), encoding="utf-8") as handle:
        first = handle.readline()
    (tmp_path / "few_shot.jsonl").write_text(first, encoding="utf-8")
    assert [row["accuracy"] for row in few_shot.main(arguments)] == [0.1, pytest.approx(0.3)] and len(ran) == 3
    assert len(rows("few_shot", str(tmp_path))) == 2
    assert "| zero-shot | 10.00 ± 0.00 (1) |" in capsys.readouterr().out
    assert all(len(task["patterns"] + task["prompts"]) >= 3 for task in few_shot.TASKS.values())
    assert {len(word) for word in few_shot.TASKS["tnews"]["words"].values()} == {2}
