"""Paired runs: what a variant changes, which texts a seed draws, and going on where a run was cut off."""

import gzip
import json

import intervals
import numpy as np
import paired
import paired_measures
import paired_sets
import paired_similarity
import paired_titles
import pytest
from intervals import packed
from prompts import tiny_mlm
from reviews import reviews

from kexue_keras.backend import K
from kexue_keras.data import split_reviews
from kexue_keras.finetune import MaskedLanguageModel
from kexue_keras.models import load, save


def test_a_variant_changes_one_thing():
    plain = paired.budget_of("sentiment", "plain")
    assert plain["epochs"] == 3 and plain["max_length"] == 64
    for experiment, sizes in paired_sets.EXPERIMENTS.items():
        plain = dict(paired_sets.BUDGET, **dict(sizes["budget"], **sizes.get("chosen", {})))
        for variant, changed in sizes["variants"].items():
            budget = paired.budget_of(experiment, variant)
            if changed.get("frozen"):
                rival = {"model": "me5-zh-sp", "max_length": plain["max_length"]}
                assert budget == dict(rival, **changed)
                continue
            differ = {name for name in budget if budget[name] != plain.get(name)}
            named = {"epochs" if name == "epochs times" else name for name in changed}
            assert differ <= named and (differ or not changed or variant.startswith(("head", "continued")))
    assert paired.budget_of("sentiment", "plain, twice the epochs")["epochs"] == 6
    candidate = paired.budget_of("sentiment", "me5-zh-char-mlm, rate of the head x 10")
    assert candidate == dict(paired_sets.BUDGET, max_length=64, head_lr_multiplier=10.0)
    # What the budget has for all is not run twice, and what an experiment lacks not at all.
    assert "head from the regression" not in list(paired.variants_of("tnews", None))
    assert list(paired.variants_of("duee", ["plain", "ZLPR"])) == ["ZLPR"]


def test_a_seed_draws_what_is_learnt_from(tmp_path):
    folder = tmp_path / "sentiment"
    folder.mkdir()
    lines = ["第%d条\t%d" % (i, i % 2) for i in range(3000)]
    with gzip.open(str(folder / "sentiment.train.data.gz"), "wt", encoding="utf-8") as handle:
        handle.write("\n".join(lines[:1500]))
    (folder / "sentiment.valid.data").write_text("\n".join(lines[1500:2000]), encoding="utf-8")
    (folder / "sentiment.test.data").write_text("\n".join(lines[2000:]), encoding="utf-8")
    first, again, other = (paired_sets.read_parts(str(tmp_path), "sentiment", seed) for seed in (1, 1, 2))
    assert first == again and first[0] != other[0] and first[1] != other[1] and first[2] == other[2]
    assert [len(part) for part in first[:4]] == [1000, 300, 1000, 500] and first[2][0] == ("第2000条", "0")
    assert len(set(first[0])) == 1000


def test_headlines_are_read_with_all_their_labels(tmp_path):
    folder = tmp_path / "fewclue" / "tnews"
    folder.mkdir(parents=True)
    rows = "".join(json.dumps({"sentence": "标题%d" % i, "label": 100 + i % 3}) + "\n" for i in range(400))
    for name in ("train_few_all.json", "dev_few_all.json"):
        (folder / name).write_text(rows, encoding="utf-8")
    with gzip.open(str(folder / "test_public.json.gz"), "wt", encoding="utf-8") as handle:
        handle.write(rows)
    train, valid, test, unlabelled, _ = paired_sets.read_parts(str(tmp_path), "tnews", 1)
    assert not unlabelled
    assert (len(train), len(valid), len(test)) == (400, 300, 400) and {label for _, label in train} == {
        "100",
        "101",
        "102",
    }


def test_it_goes_on_where_it_was_cut_off(tmp_path, monkeypatch, capsys):
    ran = []

    def measure(parts, budget, *, seed, folder):
        ran.append((seed, budget.get("ema", 0)))
        right = [True, seed > 1, bool(budget.get("ema")), False]
        return {"": {"accuracy": sum(right) / 4, "seconds": 1.0, "texts": 4, "right": packed(right)}}

    monkeypatch.setattr(paired, "measure", measure)
    monkeypatch.setattr(paired, "read_parts", lambda *of: paired_sets.made_up(2))
    arguments = ["--data", "somewhere", "--out", str(tmp_path), "--results", str(tmp_path), "--seeds", "1", "2"]
    arguments += ["--experiments", "sentiment", "--variants", "plain", "EMA 0.98"]
    paired.main(arguments)
    assert ran == [(1, 0), (1, 0.98), (2, 0), (2, 0.98)]
    path = tmp_path / "paired.jsonl"
    path.write_text("".join(path.read_text().splitlines(True)[:3]))
    capsys.readouterr()
    rows = paired.main(arguments)
    assert len(ran) == 5 and len(rows) == 4
    said = capsys.readouterr().out
    assert "| sentiment | EMA 0.98 | 62.50 ± 17.68 | 2 | +25.00 (" in said
    with pytest.raises(SystemExit):
        paired.parse(["--experiments", "sentiment"])


def test_several_labels_are_drawn_and_thresholds_tuned(tmp_path):
    folder = tmp_path / "duee_multilabel"
    folder.mkdir()
    lines = "label,content\n" + "".join("%s,事件%d\n" % ("a|b" if i % 2 else "c", i) for i in range(4600))
    with gzip.open(str(folder / "train.csv.gz"), "wt", encoding="utf-8") as handle:
        handle.write(lines)
    (folder / "test.csv").write_text(lines, encoding="utf-8")
    parts = paired_sets.read_parts(str(tmp_path), "duee", 1)
    assert [len(part) for part in parts[:3]] == [4000, 500, 1498] and parts.test[1] == ("事件1", "a|b")
    assert not set(parts.train) & set(parts.valid)  # drawn from one file
    logits = np.array([[-1.0, -3.0], [-2.0, -2.9], [-4.0, -3.5]])
    targets = np.array([[1, 0], [1, 0], [0, 0]])
    counts = paired_measures.counted(logits > 0, targets)
    assert counts.tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 0]] and paired_measures.f1(counts) == 0
    tuned = paired_measures.best_threshold(logits, targets)
    assert -2.9 <= tuned < -2 and paired_measures.f1(paired_measures.counted(logits > tuned, targets)) == 1
    each = paired_measures.thresholds_of_labels(logits, targets, usual=0.5, least=2)
    assert -4 <= each[0] < -2 and each[1] == 0.5


def test_the_demo_is_tested_on_its_own_reviews_whatever_is_drawn():
    first, other = (paired_sets.read_parts("", "demo", seed) for seed in (1, 2))
    assert [len(part) for part in first[:3]] == [400, 200, 4000] and first.test == other.test
    assert first.test == split_reviews(train=400, valid=200, test=4000, seed=2021)[2]
    assert len(set(first.train + first.valid)) == 600 and not set(first.train + first.valid) & set(first.test)


def test_pairs_are_trained_and_compared_as_they_are(tmp_path):
    folder, questions = (tmp_path / "senteval_cn" / name for name in ("STS-B", "LCQMC"))
    inference = tmp_path / "ocnli"
    for one in (folder, questions, inference):
        one.mkdir(parents=True)
    texts = [text for text, _ in paired_sets.made_up(8).train]
    lines = ["%s\t%s\t%d" % (a, b, (i + j) % 6) for i, a in enumerate(texts) for j, b in enumerate(texts[:2])]
    for part in ("train", "valid", "test"):
        (folder / ("STS-B.%s.data" % part)).write_text("\n".join(lines), encoding="utf-8")
    (questions / "LCQMC.valid.data").write_text("a\tb\t1\nc\td\t0\n", encoding="utf-8")
    with gzip.open(str(questions / "LCQMC.test.data.gz"), "wt", encoding="utf-8") as handle:
        handle.write("今天\t今天天气\t1\n东西\t天气\t0\n")
    row = {"sentence1": "他在看书", "sentence2": "他醒着", "label": "entailment"}
    (inference / "train.10k.json").write_text(json.dumps(row) + "\n", encoding="utf-8")
    parts = paired_sets.read_parts(str(tmp_path), "sts-b", 1)
    assert [len(part) for part in parts[:4]] == [32, 32, 32, 0] and parts.test[1] == ((texts[0], texts[1]), "1")
    assert sorted(parts.train) == sorted(parts.test) and parts.train != parts.test
    first = "CoSENT, first questions and inference"
    for variant in ("CoSENT", first, "only questions and inference", "not trained", "frozen, ridge regression"):
        budget = dict(paired.budget_of("sts-b", variant), num_hidden_layers=1, max_length=16)
        if "epochs" in budget:
            budget.update(train_layers=1, epochs=min(budget["epochs"], 1))
        if "first" in budget:
            budget["first"] = {"steps": 3, "batch_size": 2, "learning_rate": 0.1}
        found = paired.measure(parts, budget, seed=1, folder=str(tmp_path / "run"))[""]
        assert -1 <= found["spearman"] <= 1 and len(found["resampled"]) == intervals.DRAWS
        assert abs(np.mean(found["resampled"]) / 1e4 - found["spearman"]) < 0.1
        before, after = found.get("opposites", ([0], [1]))
        assert before != after and len(before) == len(after) and found.get("best_epoch", 1) == 1
    again = paired.measure(parts, budget, seed=2, folder=str(tmp_path / "run"))[""]
    assert again["resampled"] == found["resampled"]  # nothing in it is drawn, and the draws are the same


def test_the_mean_of_several_runs_is_between_them_and_the_start(tmp_path, monkeypatch):
    texts = [text for text, _ in paired_sets.made_up(4).train]
    pairs = [((a, b), "%d" % ((i + j) % 6)) for i, a in enumerate(texts) for j, b in enumerate(texts)]
    parts = paired_sets.Parts(pairs[:8], pairs[8:24], pairs[8:], [], {})
    budget = dict(paired.budget_of("sts-b", "CoSENT"), num_hidden_layers=1, max_length=16, train_layers=1, epochs=1)

    def run(seed, **more):
        return paired.measure(parts, dict(budget, **more), seed=seed, folder=str(tmp_path / "run"))[""]

    single, found = [run(seed) for seed in (1, 2)], run(1, runs=2)
    assert list(found["shares"]) == ["0.5", "0.6", "0.7", "0.8", "0.9", "1"]
    assert found["share"] in paired_similarity.SHARES
    # With one run and all of the way, it is that run.
    monkeypatch.setattr(paired_similarity, "SHARES", (1.0,))
    monkeypatch.setattr(paired_similarity, "trained_encoder", lambda *given: pytest.fail("trained again"))
    for seed in (1, 2):
        again = run(seed, runs=1)
        assert again["spearman"] == pytest.approx(single[seed - 1]["spearman"], abs=1e-6)
    monkeypatch.setattr(paired_similarity, "SHARES", (0.0,))
    untrained = paired.measure(parts, dict(budget, frozen="cosine"), seed=1, folder="")[""]["spearman"]
    assert run(1, runs=2)["spearman"] == pytest.approx(untrained, abs=1e-6)


def test_titles_are_written_or_copied(tmp_path):
    texts = ["今天天气很好，我们去公园看花，下次还来。明天下雨。", "这家书店的书不贵，服务也周到，可以常去；离家不远。"]
    rows = [(text, text[5:11]) for text in texts] * 2
    parts = paired_sets.Parts(rows, rows[:2], rows[:2], [], {})
    plain = dict(paired.budget_of("titles", "UniLM"), num_hidden_layers=1, max_length=16, max_target_length=6)
    for variant in ("UniLM", "R-Drop, alpha 4, dropout 0.3", "first sentence", "first characters", "nearest clause"):
        budget = paired.budget_of("titles", variant)
        if "frozen" not in budget:
            budget = dict(plain, epochs=1, **{name: budget[name] for name in budget if name not in plain})
        found = paired.measure(parts, budget, seed=1, folder=str(tmp_path / "titles"))[""]
        assert 0 <= found["rouge_l"] <= 1 and len(found["each"]) == 2 and not (tmp_path / "titles").exists()
    assert paired_titles.first_sentence(parts, {}) == ["今天天气很好，我们去公园看花，下次还来", "这家书店的书不贵，服务也周到，可以常去"]
    assert paired_titles.scored(["abcd", ""], [("", "abcd"), ("", "efgh")])["each"] == [10000, 0]
    one = {"experiment": "titles", "variant": "UniLM", "budget": {}, "seconds": 1.0, "texts": 2}
    rows = [dict(one, seed=seed, rouge_l=0.5, each=[10000, 0]) for seed in (1, 2)]
    rows += [dict(one, seed=seed, rouge_l=0.25, each=[5000, 0], variant="first sentence") for seed in (1, 2)]
    plain, rival = intervals.comparisons(rows, plain_of=paired_sets.plain_of)
    assert rival["difference"][0] == -0.25 and rival["difference"][1] < -0.25 < rival["difference"][2]


def test_a_second_phase_goes_on_from_the_first(tmp_path):
    parts = paired_sets.made_up(6)
    budget = dict(paired.budget_of("tnews", "one more epoch"), model="me5-zh-char", head_init="random", epochs=1)
    budget.update(num_hidden_layers=1, train_layers=1, max_length=24)
    found = paired.measure(parts, budget, seed=1, folder=str(tmp_path / "phases"))
    assert set(found) == {" of EXACT", " of cross-entropy"}
    assert all(len(one["right"]) and one["texts"] == 12 for one in found.values())


def test_prompts_learn_from_what_has_no_label(tmp_path):
    parts = paired_sets.made_up(3)
    budget = dict(paired.budget_of("chnsenticorp-200", "PET, with unlabelled"), max_length=24, repeats=1)
    budget.update(num_hidden_layers=1)
    parts = parts._replace(unlabelled=parts.unlabelled[:2], test=parts.test[::3])
    found = paired.measure(parts, dict(budget, train_layers=1), seed=1, folder=str(tmp_path / "pet-1"))
    assert set(found) == {"", ", calibrated"} and found[""]["texts"] == 2
    assert found[""]["accuracy"] in (0.0, 0.5, 1.0) and "right" in found[", calibrated"]


def test_masked_language_modelling_on_all_texts_is_done_once(tmp_path, monkeypatch):
    folders = [str(tmp_path / name) for name in ("tiny", "trained")]
    save(tiny_mlm(), folders[0])
    K.clear_session()
    monkeypatch.setattr(paired_measures, "MLM_MODEL", folders[0])
    monkeypatch.setattr(paired_measures, "MLM_STEPS", 2)
    trained = []
    train = MaskedLanguageModel.train
    monkeypatch.setattr(
        MaskedLanguageModel, "train", lambda self, texts, **how: trained.append(texts) or train(self, texts, **how)
    )
    texts = [text for text, _ in reviews(6)]
    parts = paired_sets.Parts([(text, "1") for text in texts[:4]], [], [], texts[4:], None)
    options = {"max_length": 24, "train_layers": 1, "batch_size": 4, "learning_rate": 1e-2}
    for _ in range(2):
        assert paired_measures.continued_mlm(parts, options, folders[1]) == folders[1]
    assert trained == [sorted(texts)]
    layers = [load(folder, with_mlm="linear").bert.layers for folder in folders]
    before, after = (of["MLM-Bias"].get_weights()[0] for of in layers)
    assert not before.any() and after.any()
    before, after = (of["Embedding-Token"].get_weights()[0] for of in layers)
    np.testing.assert_array_equal(before, after)  # below the layers that are trained
    K.clear_session()
