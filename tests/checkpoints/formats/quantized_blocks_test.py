"""Weights in blocks, and what was trained further in a bundled model as a packed difference."""

import importlib.util
import os

import numpy as np
import pytest
from conftest import ROOT

from kexue_keras.checkpoints._bundled import BUNDLED
from kexue_keras.checkpoints._bundled_changes import apply_changes, pack_changes
from kexue_keras.checkpoints.formats.quantized_blocks import pack_blocks, unpack_blocks
from kexue_keras.errors import WeightsError
from kexue_keras.models import load


def test_four_bits_are_scale_times_nibble_minus_eight():
    rng = np.random.RandomState(0)
    blocks = rng.randint(0, 256, (5, 18)).astype("uint8")
    blocks[:, :2] = rng.rand(5, 1).astype("<f2").view("uint8").reshape(5, 2)
    expected = []
    for block in blocks:
        scale = float(np.frombuffer(block[:2].tobytes(), "<f2")[0])
        expected += [scale * ((byte & 15) - 8) for byte in map(int, block[2:])]
        expected += [scale * ((byte >> 4) - 8) for byte in map(int, block[2:])]
    np.testing.assert_allclose(unpack_blocks(blocks), np.array(expected).astype("float32"), rtol=1e-6)


def test_eight_bits_are_scale_times_signed_byte():
    block = np.frombuffer(np.float16(0.25).tobytes() + bytes([129, 127] + [0] * 30), "uint8")
    assert unpack_blocks(block[None])[:3].tolist() == [-31.75, 31.75, 0]


def test_eight_bits_are_half_a_step_off_at_most(rng):
    weights = rng.randn(3, 5, 96) * 10.0 ** rng.randint(-3, 3, (3, 5, 1))
    weights[0, 0] = 0
    packed = pack_blocks(weights, 8)
    assert packed.shape == (3, 5, 3, 34) and packed.dtype == np.uint8
    got = unpack_blocks(packed).reshape(weights.shape)
    largest = np.abs(weights).reshape(3, 5, 3, 32).max(axis=-1).repeat(32, axis=-1).reshape(weights.shape)
    assert (np.abs(got - weights) <= largest / 126 * 0.52 + 1e-6).all()
    assert not got[0, 0].any()


@pytest.mark.parametrize("bits", [3, 4])
def test_few_bits_take_the_best_of_several_scales(rng, bits):
    weights = rng.randn(40, 32) * 10.0 ** rng.randint(-3, 3, (40, 1))
    weights[0] = 0
    packed = pack_blocks(weights, bits)
    assert packed.shape == (40, 1, 18) and packed.dtype == np.uint8
    got = unpack_blocks(packed).reshape(weights.shape)
    assert not got[0].any()
    lowest, highest = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    for block, found in zip(weights[1:], got[1:]):
        step = found[found != 0][np.abs(found[found != 0]).argmin()]
        assert set(np.rint(found / step)) <= set(range(-8, 9))
        # No worse than the scale that the largest weight asks for, nor than any of a fine grid by much.
        errors = []
        for shrunk in np.linspace(0.4, 1.0, 61):
            scale = shrunk * block[np.abs(block).argmax()] / lowest
            errors.append(np.square(np.clip(np.rint(block / scale), lowest, highest) * scale - block).sum())
        error = np.square(found - block).sum()
        assert error <= errors[-1] * 1.01 and error <= 1.25 * min(errors)


def test_a_block_that_few_bits_can_hold_comes_back_exactly():
    for lowest, bits in ((-4, 3), (-8, 4)):
        values = np.resize(np.arange(lowest, -lowest), 32) * 0.25
        np.testing.assert_array_equal(unpack_blocks(pack_blocks(values, bits)), values)


def test_what_cannot_be_packed():
    with pytest.raises(ValueError, match="bits is 5"):
        pack_blocks(np.zeros(32), 5)
    with pytest.raises(ValueError, match="no multiple of 32"):
        pack_blocks(np.zeros(33), 4)
    with pytest.raises(ValueError, match="float16"):
        pack_blocks(np.full(32, 1e9), 8)
    with pytest.raises(ValueError, match="first of them a"):
        pack_changes({}, {"a": np.zeros(1)})


def test_changes_hold_only_what_differs_and_come_back(rng, tmp_path):
    base = {"kernel": rng.randn(64, 64), "same": rng.randn(4, 64), "bias": rng.randn(5)}
    trained = {"kernel": base["kernel"] + 0.01 * rng.randn(64, 64), "same": base["same"], "bias": base["bias"] + 0.1}
    trained["head/kernel"], trained["head/bias"] = rng.randn(64, 64), rng.randn(7)
    changes = pack_changes(trained, base)
    assert sorted(changes) == ["bias", "head/bias", "head/kernel", "kernel"]
    path = str(tmp_path / "changes.npz")
    np.savez(path, **changes)
    got = apply_changes(base, path)
    assert set(got) == set(trained) and got["same"] is base["same"]
    # A small difference in 4 bits is nearer than the weights themselves would be in 8.
    for name, tolerance in [("kernel", 0.006), ("head/kernel", 0.02), ("bias", 1e-4), ("head/bias", 2e-3)]:
        np.testing.assert_allclose(got[name], trained[name], atol=tolerance, err_msg=name)
    with pytest.raises(WeightsError, match="does not belong to this model: kernel"):
        apply_changes(dict(base, kernel=np.zeros((2, 2))), path)
    (tmp_path / "broken.npz").write_bytes(b"PK nothing")
    with pytest.raises(WeightsError, match="broken.npz cannot be read"):
        apply_changes(base, str(tmp_path / "broken.npz"))


def test_the_script_packs_a_folder(rng, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("pack_bundled", os.path.join(ROOT, "tools", "pack_bundled.py"))
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    base = {"bert/encoder/layer_0/kernel": rng.randn(2, 32)}
    trained = {"bert/encoder/layer_0/kernel": base["bert/encoder/layer_0/kernel"] + 0.1, "electra/x": np.zeros(1)}
    trained["cls/predictions/output_bias"], trained["bert/encoder/embed_positions"] = rng.randn(3), rng.randn(2, 32)
    base["bert/embeddings/position_embeddings"] = rng.randn(2, 32)
    monkeypatch.setattr(script, "bundled_variables", lambda name: base)
    monkeypatch.setattr(script, "read_folder", lambda folder: ("bert", {}, trained, None))
    lines = script.pack("roformer-sim-zh-small", "a folder", str(tmp_path / "out.npz"))
    # Neither the table of rotary positions, which is computed, nor what the first model alone has.
    assert "2 arrays" in lines[0] and "largest error" in lines[1] and "%" in lines[2]
    got = apply_changes(base, str(tmp_path / "out.npz"))
    np.testing.assert_allclose(got["bert/encoder/layer_0/kernel"], trained["bert/encoder/layer_0/kernel"], atol=0.02)


def test_a_bundled_model_whose_file_is_not_there(monkeypatch):
    absent = BUNDLED["me5-zh-char-mlm"]._replace(changes="no_such_file.npz")
    monkeypatch.setitem(BUNDLED, "me5-zh-char-mlm", absent)
    with pytest.raises(
        WeightsError, match="me5-zh-char-mlm: this installation lacks its file .*no_such_file.npz"
    ) as info:
        load("me5-zh-char-mlm", with_mlm="linear")
    assert "\n" not in str(info.value)
