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
    short = tool.epoch(np.minimum(lengths, 48), np.ones(1003), 1024, np.random.RandomState(1), longest=50)
    assert {length for _, length in short} == {16, 24, 32, 40, 48, 50}
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
    """A script or code of tools/ where PyTorch is: KEXUE_TORCH names that interpreter."""
    import subprocess

    python = os.environ.get("KEXUE_TORCH")
    if not python:
        pytest.skip("KEXUE_TORCH names no interpreter with torch and safetensors")
    command = [python] + list(arguments)
    environment = dict(os.environ, PYTHONPATH=TOOLS)
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout.decode()


LOGITS = """
import sys, json, torch
from torch_encoder import Encoder, read_config
model = Encoder(read_config(sys.argv[1], sys.argv[2]))
assert not model.fill(sys.argv[1])
tokens = torch.tensor([json.loads(sys.argv[3])])
hidden = model.eval()(tokens, torch.zeros_like(tokens), torch.ones(1, 1, 1, tokens.shape[1], dtype=torch.bool))
print(json.dumps(model.logits(hidden)[0].tolist()))
"""


def test_a_tiny_training_of_both_kinds_loads_and_says_the_same_here(work):
    script = os.path.join(TOOLS, "train_bundled.py")
    how = ["--work", work, "--tokens", "256", "--every", "0"]
    said = run_torch(script, "mlm", "--steps", "12", "--learning-rate", "3e-3", *how)
    assert said.count("masked accuracy") >= 12
    before, after = (tiny_loss(said, number) for number in (1, 12))
    assert after < before
    check_logits(os.path.join(work, "trained"), "bert")
    os.remove(os.path.join(work, "point.pt"))
    said = run_torch(
        script, "roformer-sim", "--steps", "6", "--learning-rate", "1e-3", "1e-3", "--batch-pairs", "8", *how
    )
    assert "nearest is right" in said
    check_logits(os.path.join(work, "trained"), "roformer")
    similar = load(os.path.join(work, "trained"), application="unilm", with_pool="linear", with_mlm="linear")
    assert similar.kind == "roformer"


def check_logits(folder, kind):
    """PyTorch and the model loaded here say the same."""
    here = load(folder, with_mlm="linear")
    tokens = here.tokenizer.encode("我看书店的电影")[0]
    expected = json.loads(run_torch("-c", LOGITS, folder, kind, json.dumps([int(i) for i in tokens])))
    got = here.model.predict([np.array([tokens]), np.zeros((1, len(tokens)))])[0]
    np.testing.assert_allclose(got, expected, atol=2e-5)


def tiny_loss(said, step):
    """The loss that was said at a step."""
    line = next(line for line in said.splitlines() if line.startswith("step %d," % step))
    return float(line.split("losses ")[1].split()[0].rstrip(","))
