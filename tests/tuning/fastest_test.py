"""find_fastest: modes that give NaN, run out of memory, die or hang are dropped; the choice is remembered."""

import json
import os
import signal
import time

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import keras
from kexue_keras.optimizers import AdamW
from kexue_keras.tuning import _fastest as fastest
from kexue_keras.tuning import _trial, find_fastest
from kexue_keras.tuning._fastest import choose, table
from kexue_keras.tuning._trial import Trial, enable_mode, missing, mode_parts, train_in_mode, try_mode


def build():
    """What users write: a compiled model and a batch."""
    model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,), kernel_initializer="ones")])
    model.compile(AdamW(1e-2), "mse")
    return model, np.ones((4, 3)), np.ones((4, 1))


def build_nan():
    model, x, y = build()
    return model, x * np.nan, y


def build_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def build_hangs():
    time.sleep(600)


def build_two_lengths():
    def batches():
        for _ in range(2):
            for rows in (2, 5):
                yield np.ones((rows, 3)), np.ones((rows, 1))

    return build()[0], list(batches())


def not_importable():
    return lambda: build()


GOOD = Trial("off", "ok", 0.010, 0.5, 0.1, 2**20)


def fake(results):
    """In place of the processes: dict name -> `Trial`; what was asked for is kept in `.calls`."""

    def run(build, name, **options):
        run.calls.append((name, options))
        return results[name]

    run.calls = []
    return run


@pytest.fixture
def everything_there(monkeypatch):
    monkeypatch.setattr(fastest, "missing", lambda name: None)


@pytest.mark.parametrize(
    "name, parts",
    [("off", (False, None)), ("amp", (True, None)), ("xla", (False, "auto")), ("amp+xla-lite", (True, "lite"))],
)
def test_names_of_modes(name, parts):
    assert mode_parts(name) == parts


@pytest.mark.parametrize("name", ["", "fp16", "amp+off", "xla+xla-lite", "amp+amp", None, "amp+"])
def test_unknown_modes_are_refused(name):
    with pytest.raises(ValueError, match="is no mode"):
        mode_parts(name)
    with pytest.raises(ValueError, match="is no mode"):
        find_fastest(build, modes=("off", name), cache=None)


def test_the_fastest_is_chosen_and_of_equals_the_plainest():
    rows = [GOOD._replace(name="amp+xla", seconds=0.0100), GOOD._replace(name="xla", seconds=0.0101)]
    assert choose(rows + [GOOD._replace(seconds=0.02)]) == "xla"
    assert choose(rows + [GOOD._replace(seconds=0.005)]) == "off"
    assert choose(rows + [Trial("off", "out of memory", None, None, None, None)]) == "xla"
    assert choose([Trial("off", "out of memory", None, None, None, None)]) is None


def test_one_mode_in_this_process():
    status, seconds, first, loss, memory = train_in_mode(build, "off", steps=2, warmup=1)
    assert status == "ok" and 0 < seconds and 0 < first and np.isfinite(loss) and memory > 2**20
    assert train_in_mode(build_two_lengths, "off", steps=6, warmup=1)[0] == "ok"
    assert train_in_mode(build_nan, "off", steps=2, warmup=1)[0] == "the loss became nan at step 1"
    for wrong in (lambda: (1, 2, 3), lambda: (build()[0],)):
        with pytest.raises(ValueError, match="build has to return"):
            train_in_mode(wrong, "off")
    with pytest.raises(ValueError, match="a compiled model"):
        train_in_mode(lambda: (keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))]), 1, 2), "off")


def test_what_happens_to_a_process_is_told():
    killed = try_mode(build_killed, "off")
    assert killed.name == "off" and "killed (signal 9), which is what Linux does when memory runs out" in killed.status
    aborted = _trial._death(-6, ["", "I am fine", "F tensorflow: out of something ", ""])
    assert aborted == "its process died (signal 6): F tensorflow: out of something"
    assert _trial._death(3, []) == "its process died (exit code 3)"


@pytest.mark.parametrize(
    "error, status",
    [
        (MemoryError(), "out of memory"),
        (tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"), "out of memory"),
        (KeyError("x"), "KeyError: 'x'"),
        (RuntimeError("first line\nsecond"), "RuntimeError: first line"),
    ],
)
def test_what_a_model_throws_drops_the_mode(error, status):
    sent = []

    class Pipe:
        send = sent.append

        def close(self):
            sent.append("closed")

    def build():
        raise error

    _trial._trial(Pipe(), build, "off", 1000.0, 1, 1)
    assert sent[0][0] == status and sent[0][1:] == (None,) * 4 and sent[1] == "closed"


def test_a_mode_that_hangs_is_ended():
    began = time.time()
    assert try_mode(build_hangs, "off", timeout=1).status == "not done after 1 seconds"
    assert time.time() - began < 60


def test_on_this_machine_for_real(tmp_path):
    cache, said = str(tmp_path / "sub" / "fastest.json"), []
    options = dict(modes=("amp", "off"), steps=3, warmup=1, cache=cache, say=said.append)
    found = find_fastest(build, **options)
    assert found.name == "off" and not found.from_cache
    status = {r.name: r.status for r in found.trials}
    assert status["off"] == "ok"
    assert status["amp"] == "mixed precision needs a GPU"
    assert any("* off" in line for line in said)
    began = time.time()
    again = find_fastest(build, **options)
    assert again.from_cache and again.name == "off" and time.time() - began < 5
    assert again.trials == found.trials and "as found earlier" in said[-1]
    with again.enable() as on:
        optimizer = AdamW(1e-3)
        assert on.scale(optimizer) is optimizer


def test_what_is_remembered_depends_on_everything(tmp_path, monkeypatch, everything_there):
    run = fake({"off": GOOD, "xla": GOOD._replace(name="xla", seconds=0.001)})
    monkeypatch.setattr(fastest, "try_mode", run)
    cache = str(tmp_path / "fastest.json")

    def find(function=build, **options):
        before = len(run.calls)
        found = find_fastest(function, **dict(dict(modes=("xla", "off"), cache=cache, say=None), **options))
        assert found.from_cache == (len(run.calls) == before)
        return len(run.calls) - before

    assert find() == 2 and find() == 0
    assert find(refresh=True) == 2
    assert find(build_nan) == 2 and find(build_nan) == 0
    assert find(modes=("off",)) == 1
    assert find(loss_scale="dynamic") == 2
    assert find(cache=None) == 2
    monkeypatch.setattr(fastest, "_gpus", lambda: ["Another card"])
    assert find() == 2 and find() == 0
    with open(cache) as handle:
        assert len(json.load(handle)) == 5
    # Something has cut the file short: it is written anew.
    with open(cache, "w") as handle:
        handle.write('{"half')
    assert find() == 2 and find() == 0
    # So is what somebody has changed.
    trials = [["xla", "ok", "0.1", 1, 1, 1]], [["xla"]], [1], "xla", [["xla", "no", None, None, None, None]]
    for wrong in [[], {"name": "xla"}] + [{"name": "xla", "trials": one} for one in trials]:
        with open(cache) as handle:
            known = json.load(handle)
        with open(cache, "w") as handle:
            json.dump({key: wrong for key in known}, handle)
        assert find() == 2 and find() == 0
    with open(cache, "w") as handle:
        handle.write("[" * 100000)
    assert find() == 2
    assert os.listdir(str(tmp_path)) == ["fastest.json"]


def test_bad_modes_are_dropped_and_shown(monkeypatch, everything_there, tmp_path):
    bad = dict(seconds=None, first_seconds=None, loss=None, memory=None)
    run = fake(
        {
            "amp": Trial("amp", "the loss became nan at step 3", **bad),
            "xla": Trial("xla", "out of memory", **bad),
            "off": GOOD,
        }
    )
    monkeypatch.setattr(fastest, "try_mode", run)
    found = find_fastest(build, modes=("amp", "xla", "off"), cache=None, say=None, steps=7, warmup=2, timeout=5)
    assert found.name == "off"
    assert run.calls[0] == ("amp", dict(loss_scale=1000.0, steps=7, warmup=2, timeout=5))
    text = str(found)
    assert "dropped: the loss became nan at step 3" in text and "dropped: out of memory" in text
    assert "* off" in text and "10.0" in text
    cache = tmp_path / "none.json"
    with pytest.raises(RuntimeError, match="none of the modes works(.|\n)*out of memory"):
        find_fastest(build, modes=("xla",), cache=str(cache), say=None)
    assert not cache.exists()


def test_build_has_to_be_importable(everything_there):
    for wrong in (lambda: None, not_importable(), 3, "build"):
        with pytest.raises(ValueError, match="a function defined at the top of a file"):
            find_fastest(wrong, cache=None)
    with pytest.raises(ValueError, match="scale must be a number > 0, but is -1"):
        find_fastest(build, loss_scale=-1, cache=None)
    with pytest.raises(ValueError, match="modes must be one or more names of modes, but is ()"):
        find_fastest(build, modes=(), cache=None)


def test_what_is_not_to_be_had_needs_no_process():
    assert missing("off") is None and missing("xla") is None
    assert "mixed precision needs" in missing("amp+xla").status


def test_enabling_half_of_a_mode_leaves_nothing_on(monkeypatch):
    undone = []
    monkeypatch.setattr(_trial, "enable_xla", lambda mode: _trial.Acceleration(lambda: undone.append(mode), "xla"))

    def fail(loss_scale):
        raise RuntimeError("too late")

    monkeypatch.setattr(_trial, "enable_mixed_precision", fail)
    with pytest.raises(RuntimeError, match="too late"):
        enable_mode("amp+xla")
    assert undone == ["auto"]
    monkeypatch.setattr(
        _trial, "enable_mixed_precision", lambda scale: _trial.Acceleration(lambda: undone.append(scale), "")
    )
    with enable_mode("amp+xla-lite", 512) as on:
        assert on.loss_scale == 512
    assert undone == ["auto", 512, "lite"]


def test_table_lines_up():
    lines = table([GOOD, GOOD._replace(name="amp+xla-lite", seconds=1.5)], "off").splitlines()
    assert len({len(line) for line in lines[1:]}) == 1 and lines[1].startswith("* off")


def test_a_place_that_cannot_be_written_costs_the_memory_and_not_the_result(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.warns(UserWarning, match="what is fastest cannot be remembered: .*file"):
        fastest._remember(str(tmp_path / "file" / "fastest.json"), "key", fastest.Fastest(None, [], None))
