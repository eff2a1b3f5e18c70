"""Rows of runs: found by all that tells them apart."""

import os

import pytest
import similarity_cosent
from record import last_row, record, recorded, rows


def test_a_row_is_found_by_all_of_its_key(tmp_path):
    results = str(tmp_path)
    key = {"method": "甲", "seed": None, "settings": {"epochs": 2}}
    assert last_row("rows", results, **key) is None and rows("rows", results) == []
    record("rows", {"method": "甲", "settings": {"epochs": 2}, "score": 0.1}, results)
    assert not recorded("rows", results, **key), "a row without the name is none with the value None"
    record("rows", dict(key, score=0.2), results)
    record("rows", dict(key, score=0.3), results)
    assert last_row("rows", results, **key)["score"] == 0.3 and len(rows("rows", results)) == 3
    assert recorded("rows", results, **key)
    assert not recorded("rows", results, **dict(key, settings={"epochs": 3}))


def test_the_similarity_experiment_runs_again_when_a_setting_changes(tmp_path, monkeypatch):
    ran = []

    def run(options, files, method, seed, out):
        ran.append((method, os.path.relpath(out, str(tmp_path))))
        return {"spearman": 0.1 * len(ran)}

    monkeypatch.setattr(similarity_cosent, "run", run)
    arguments = ["--quick", "--out", str(tmp_path)]
    assert [row["spearman"] for row in similarity_cosent.main(arguments)] == pytest.approx([0.1, 0.2])
    assert ran == [("zero-shot", "made-up-zero-shot-seed1"), ("cosent", "made-up-cosent-seed1")]
    assert len(similarity_cosent.main(arguments)) == 2 and len(ran) == 2
    # What is not trained does not hang on the learning rate.
    assert [row["spearman"] for row in similarity_cosent.main(arguments + ["--learning-rate", "1"])] == pytest.approx(
        [0.1, 0.3]
    )
    assert len(similarity_cosent.main(arguments + ["--pooling", "max"])) == 2 and len(ran) == 5
