"""`finetune --folds`: how texts are dealt out, the runs, what they say together, going on."""

import json
import os
import shutil

import numpy as np
import pytest
from helpers import tiny_bert_folder
from reviews import reviews, write_rows

from kexue_keras.backend import K
from kexue_keras.cli import main as cli
from kexue_keras.data._folds import check_labels_in_folds, deal_folds, row_groups
from kexue_keras.errors import UserError
from kexue_keras.finetune import finetune
from kexue_keras.finetune.folds._scores import out_of_fold_scores

SMALL = dict(epochs=1, batch_size=8, max_length=16, learning_rate=3e-3, quiet=True, seed=3, num_hidden_layers=1)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("folds")
    K.clear_session()
    tiny_bert_folder(folder / "tiny", num_hidden_layers=1)
    K.clear_session()
    rows = reviews(36, seed=1)
    write_rows(folder / "train.tsv", rows + rows[:4])  # four texts stand there twice
    pairs = [(a[0], b[0], str(i % 4)) for i, (a, b) in enumerate(zip(reviews(30, seed=2), reviews(30, seed=3)))]
    write_rows(folder / "pairs.tsv", pairs)
    return folder


def test_each_fold_has_its_share_of_each_label_and_equal_texts_stay_together(rng):
    texts = ["t%d" % i for i in rng.randint(0, 150, 200)]
    labels = [("a", "b", "c")[int(text[1:]) % 7 // 3] for text in texts]
    groups = row_groups(texts)
    numbers = deal_folds(groups, labels, 5, seed=4)
    for text in set(texts):
        assert len({number for other, number in zip(texts, numbers) if other == text}) == 1
    for label in "abc":
        counts = np.bincount([number for other, number in zip(labels, numbers) if other == label], minlength=5)
        assert np.ptp(counts) <= max(np.bincount(groups))
    assert np.ptp(np.bincount(numbers)) <= 3 * max(np.bincount(groups))
    assert (deal_folds(groups, labels, 5, seed=4) == numbers).all()
    assert (deal_folds(groups, labels, 5, seed=5) != numbers).any()
    with pytest.raises(UserError, match="--folds 9: there are 2 different texts"):
        deal_folds([0, 1, 1], "xxx", 9, seed=0)
    with pytest.raises(UserError, match="all texts of the label 'y' would be in one fold"):
        check_labels_in_folds(["x", "x", ("y", "x")], [0, 1, 1], "f")


def test_scores_are_those_of_scikit_learn_and_intervals_cover_them(rng):
    sklearn = pytest.importorskip("sklearn.metrics")
    true = [str(i) for i in rng.randint(0, 3, 300)]
    predicted = [label if rng.rand() < 0.7 else "2" for label in true]
    found = out_of_fold_scores("classification", true, predicted, list(range(300)), draws=200)
    assert found["accuracy"] == pytest.approx(sklearn.accuracy_score(true, predicted), abs=1e-6)
    for name in ("macro", "micro"):
        wanted = sklearn.f1_score(true, predicted, average=name)
        assert found[name + "_f1"] == pytest.approx(wanted, abs=1e-6)
        low, high = found[name + "_f1_interval"]
        assert low < wanted < high and 0.05 < high - low < 0.17
    several = out_of_fold_scores("classification", ["a|b", "a\\|b"], ["a", "a\\|b"], [0, 1], several=True, draws=9)
    assert several["accuracy"] == 0.5 and several["micro_f1"] == pytest.approx(0.8)
    # Rows that are drawn together say less than as many that are not.
    scores, cosines = rng.rand(60), rng.rand(60)
    scores = scores + cosines

    def width(groups, times):
        one = out_of_fold_scores("similarity", list(scores) * times, list(cosines) * times, groups, draws=200)
        return one["spearman_interval"][1] - one["spearman_interval"][0]

    alone = width(list(range(60)), 1)
    assert width(list(range(60)) * 4, 4) == pytest.approx(alone, rel=0.3)
    assert width(list(range(240)), 4) < 0.7 * alone
    # Cosines of equal texts differ by rounding errors alone, and are equal.
    noisy = [0.2, 0.4, 1 + 2e-7, 1 - 1e-7, 1 + 1e-7, 1 - 2e-7]
    found = [out_of_fold_scores("similarity", [0, 1, 2, 3, 3, 2], [round(one, 3) for one in noisy], list(range(6)))]
    found.append(out_of_fold_scores("similarity", [0, 1, 2, 3, 3, 2], noisy, list(range(6))))
    assert found[1]["spearman"] == pytest.approx(found[0]["spearman"], abs=1e-9)


def test_the_folds_of_a_classification_and_going_on_with_them(place, tmp_path, capsys):
    out = tmp_path / "out"
    given = dict(model=str(place / "tiny"), data=str(place / "train.tsv"), out=str(out), folds=2, **SMALL)
    metrics = finetune(**given)
    with open(str(out / "predictions.tsv"), encoding="utf-8") as handle:
        table = [line.rstrip("\n").split("\t") for line in handle]
    assert table[0] == ["line", "fold", "label", "predicted", "probability", "text"]
    assert [int(row[0]) for row in table[1:]] == list(range(1, 41))
    for row, again in zip(table[1:5], table[37:]):
        assert row[1] == again[1] and row[5] == again[5]
    share = np.mean([row[2] == row[3] for row in table[1:]])
    assert metrics["out_of_fold"]["accuracy"] == pytest.approx(share)
    assert metrics["out_of_fold"]["texts"] == 40 and len(metrics["each"]) == 2
    assert json.loads((out / "metrics.json").read_text()) == metrics
    runs = [json.loads((out / ("fold-%d" % k) / "metrics.json").read_text()) for k in (1, 2)]
    assert [one["test"]["accuracy"] for one in runs] == [one["accuracy"] for one in metrics["each"]]
    assert metrics["accuracy"]["mean"] == pytest.approx(np.mean([one["test"]["accuracy"] for one in runs]), abs=1e-6)
    # Killed after the first fold: the second is made again, to the same numbers, with no options given.
    before = (out / "fold-1" / "metrics.json").stat().st_mtime
    os.remove(str(out / "metrics.json"))
    shutil.rmtree(str(out / "fold-2"))
    capsys.readouterr()
    assert cli.main(["finetune", "--out", str(out), "--resume"]) == 0
    again = json.loads((out / "metrics.json").read_text())
    assert (out / "fold-1" / "metrics.json").stat().st_mtime == before
    assert again["out_of_fold"] == metrics["out_of_fold"]
    for change, message in [
        ({}, "there are folds already"),
        ({"folds": 3, "resume": True}, "another --folds"),
        ({"folds": 3, "overwrite": True}, "another --folds"),
        ({"out": str(place)}, "holds no folds"),
        ({"test": str(place / "train.tsv")}, "leave --test out"),
        ({"task": "math-word-problems"}, "goes with --task classification and similarity"),
    ]:
        with pytest.raises(UserError, match=message):
            finetune(**dict(given, **change))


def test_the_folds_of_pairs(place, tmp_path):
    given = dict(model=str(place / "tiny"), data=str(place / "pairs.tsv"), out=str(tmp_path / "out"), folds=2, **SMALL)
    metrics = finetune(task="similarity", metric="pearson", **given)
    whole = metrics["out_of_fold"]
    assert whole["texts"] == 30 and whole["spearman_interval"][0] <= whole["spearman"] <= whole["spearman_interval"][1]
    assert metrics["main_metric"] == "pearson"
    card = (tmp_path / "out" / "fold-1" / "README.md").read_text(encoding="utf-8")
    assert 'pipeline_tag: "sentence-similarity"' in card and "spearmanr" in card and "test-1.jsonl" in card
