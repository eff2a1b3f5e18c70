"""What the tools do without PyTorch: masking and batches of tools/pretrain_mlm_torch.py, its first and last command."""

import importlib.util
import json
import os

import numpy as np
import pytest
from conftest import ROOT
from prompts import tiny_mlm

from kexue_keras.models import load, save


@pytest.fixture(scope="module")
def tool():
    path = os.path.join(ROOT, "tools", "pretrain_mlm_torch.py")
    spec = importlib.util.spec_from_file_location("pretrain_mlm_torch", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tokens_are_hidden_as_bert_does(tool, rng):
    tokens = rng.randint(10, 90, (400, 30))
    lengths = rng.randint(5, 31, 400)
    tokens[:, 0] = 2
    for row, length in zip(tokens, lengths):
        row[length - 1], row[length:] = 3, 0
    seen, chosen = tool.hide(tokens, lengths, np.random.RandomState(1), [0, 2, 3, 4], 4, 0.2)
    inside = (np.arange(30) < lengths[:, None]) & ~np.isin(tokens, [2, 3])
    assert not chosen[~inside].any() and abs(chosen[inside].mean() - 0.2) < 0.02
    assert (seen[~chosen] == tokens[~chosen]).all()
    masked, kept = (seen == 4)[chosen].mean(), (seen == tokens)[chosen].mean()
    assert abs(masked - 0.8) < 0.04 and abs(kept - 0.1) < 0.03 and seen[chosen].min() >= 4


def test_every_row_is_in_one_batch_with_rows_of_its_length(tool, rng):
    lengths = rng.randint(1, 65, 1003)
    batches = tool.batches_of_like_length(lengths, 16, np.random.RandomState(1))
    assert sorted(np.concatenate(batches)) == list(range(1003)) and max(map(len, batches)) == 16
    padding = sum(lengths[batch].max() * len(batch) for batch in batches) / lengths.sum()
    assert padding < 1.1
    assert not np.array_equal(batches[0], tool.batches_of_like_length(lengths, 16, np.random.RandomState(2))[0])


def test_prepare_and_measure(tool, tmp_path, capsys):
    save(tiny_mlm(), str(tmp_path / "tiny"))
    (tmp_path / "texts.txt").write_text("\n".join("我看书店的电影，不%s好" % ("很" * i) for i in range(40)), encoding="utf-8")
    work = str(tmp_path / "work")
    common = ["--work", work, "--max-length", "16"]
    tool.main(
        ["prepare", "--base", str(tmp_path / "tiny"), "--text", str(tmp_path / "texts.txt")]
        + common
        + ["--held-out", "10"]
    )
    with np.load(os.path.join(work, "rows.npz")) as rows:
        assert (
            rows["lengths"].sum() == len(rows["tokens"]) and len(rows["lengths"]) == 30 and rows["lengths"].max() == 16
        )
    start = os.path.join(work, "start")
    assert load(start, with_mlm="linear").config["vocab_size"] == tiny_mlm().config["vocab_size"]
    tool.main(["measure", "--model", start] + common)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["tokens"] > 0
