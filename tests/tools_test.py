"""tools/train_bundled.py: its batches, what it prepares, and, where PyTorch is there, a tiny training of both kinds."""

import importlib.util
import json
import os

import numpy as np
import pytest
from conftest import ROOT
from prompts import tiny_mlm

from kexue_keras.models import load, save

TOOLS = os.path.join(ROOT, "tools")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("train_bundled", os.path.join(TOOLS, "train_bundled.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def work(tool, tmp_path):
    """Folder that `prepare` has filled."""
    save(tiny_mlm(), str(tmp_path / "tiny"))
    texts = ["我看书店的电影，不%s好" % ("很" * i) for i in range(40)]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    pairs = ["我看%s书店\t书店的电影%s" % ("很" * i, "好" * i) for i in range(30)]
    (tmp_path / "pairs.tsv").write_text("\n".join(pairs), encoding="utf-8")
    folder = str(tmp_path / "work")
    arguments = ["prepare", "--work", folder, "--start", str(tmp_path / "tiny"), "--teacher", str(tmp_path / "tiny")]
    arguments += ["--text", "%s=2.5" % (tmp_path / "texts.txt"), "--pairs", str(tmp_path / "pairs.tsv")]
    tool.main(arguments + ["--held-out", "10"])
    return folder


def test_every_row_is_in_as_many_batches_as_it_is_to_come(tool, rng):
    lengths = rng.randint(1, 127, 1003)
    batches = tool.epoch(lengths, np.full(1003, 2.0), 1024, np.random.RandomState(1))
    assert sorted(np.concatenate([rows for rows, _ in batches])) == sorted(list(range(1003)) * 2)
    for rows, length in batches:
        assert length in tool.BUCKETS and len(rows) * length <= 1024 and lengths[rows].max() + 2 <= max(length, 128)
    cells = sum(len(rows) * length for rows, length in batches)
    assert cells / (2 * (lengths + 2).sum()) < 1.2
    some = tool.epoch(lengths, np.full(1003, 0.25), 1024, np.random.RandomState(1))
    assert 200 < sum(len(rows) for rows, _ in some) < 300


def test_what_is_prepared(tool, work, tmp_path):
    with np.load(os.path.join(work, "texts.npz")) as texts:
        assert len(texts["lengths"]) == 30 and texts["lengths"].sum() == len(texts["tokens"])
        assert set(texts["times"]) == {2.5} and texts["tokens"].min() > 0
    with np.load(os.path.join(work, "pairs.npz")) as pairs:
        assert len(pairs["lengths"]) == 60 and pairs["held_out"] == 5
    with open(os.path.join(work, "tokens.json")) as handle:
        special = json.load(handle)
    tokenizer = tiny_mlm().tokenizer
    assert special["[MASK]"] == tokenizer._token_mask_id and special["new_head"] is False
    assert load(os.path.join(work, "start"), with_mlm="linear").config["vocab_size"] == tokenizer._vocab_size


def run_torch(*arguments):
    """The tool where PyTorch is: KEXUE_TORCH names that interpreter."""
    import subprocess

    python = os.environ.get("KEXUE_TORCH")
    if not python:
        pytest.skip("KEXUE_TORCH names no interpreter with torch and safetensors")
    command = [python, os.path.join(TOOLS, "train_bundled.py")] + list(arguments)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout.decode()


def test_a_tiny_training_of_both_kinds_loads(work):
    how = ["--work", work, "--tokens", "256", "--every", "0"]
    said = run_torch("mlm", "--steps", "12", "--learning-rate", "3e-3", *how)
    assert said.count("masked accuracy") >= 12
    before, after = (tiny_loss(said, number) for number in (1, 12))
    assert after < before
    trained = load(os.path.join(work, "trained"), with_mlm="linear")
    # The same weights in another library: the loss that PyTorch found is that of the loaded model's head.
    assert trained.config["hidden_size"] == tiny_mlm().config["hidden_size"]
    os.remove(os.path.join(work, "point.pt"))
    said = run_torch("roformer-sim", "--steps", "6", "--learning-rate", "1e-3", "1e-3", "--batch-pairs", "8", *how)
    assert "nearest is right" in said
    similar = load(os.path.join(work, "trained"), application="unilm", with_pool="linear", with_mlm="linear")
    assert similar.kind == "roformer"


def tiny_loss(said, step):
    """The loss that was said at a step."""
    line = next(line for line in said.splitlines() if line.startswith("step %d," % step))
    return float(line.split("losses ")[1].split()[0].rstrip(","))
