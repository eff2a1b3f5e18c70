"""`kexue-keras search`: what can be varied, trials, pruning, going on after a kill, what is written."""

import json
import os

import pytest
from helpers import tiny_bert_folder
from reviews import reviews, write_rows

from kexue_keras.backend import K
from kexue_keras.cli import main as cli
from kexue_keras.errors import UserError
from kexue_keras.search import Space, _study, search_options

SMALL = dict(epochs=1, batch_size=8, max_length=16, quiet=True, seed=3, num_hidden_layers=1)
VARY = ["learning-rate=1e-4..1e-2:log", "ema=0,0.9"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    K.clear_session()
    tiny_bert_folder(folder / "tiny", num_hidden_layers=1)
    K.clear_session()
    write_rows(folder / "train.tsv", reviews(24, seed=1))
    return folder


@pytest.fixture
def fine(monkeypatch):
    """A stand-in for `finetune`: a trial's scores are a function of its options; `calls` are what it was given."""
    calls = []

    def finetune(say, callbacks, **given):
        calls.append(given)
        os.makedirs(given["out"], exist_ok=True)
        if given["learning_rate"] > 8e-3:
            raise UserError("training diverged: the loss became nan at step 3")
        history = []
        for epoch in range(given["epochs"]):
            score = 1 - 100 * abs(given["learning_rate"] - 2e-3) + 0.01 * epoch
            history.append({"valid_score": score})
            for callback in callbacks:
                callback.on_epoch_end(epoch, {"val_score": score})
            finetune.after_epoch(len(calls), epoch)
        return {"history": history}

    finetune.calls, finetune.after_epoch = calls, lambda call, epoch: None
    monkeypatch.setattr(_study, "finetune", finetune)
    return finetune


def table_of(out):
    with open(str(out / "trials.tsv"), encoding="utf-8") as handle:
        rows = [line.rstrip("\n").split("\t") for line in handle]
    return [dict(zip(rows[0], row)) for row in rows[1:]]


@pytest.mark.parametrize(
    "vary, message",
    [
        ("fgm", "expected NAME=VALUE"),
        ("fgm=", "expected NAME=VALUE"),
        ("no-such=1,2", "finetune has no option --no-such"),
        ("seed=1,2", "the same in all trials"),
        ("test=a,b", "the same in all trials"),
        ("fgm=1", "at least two different values"),
        ("fgm=1,1", "at least two different values"),
        ("learning-rate=1e-3..1e-5", "the lower number first"),
        ("learning-rate=0..1e-3:log", "above 0"),
        ("learning-rate=0..1e-3", "--learning-rate is 0"),
        ("learning-rate=a..b", "two numbers"),
        ("learning-rate=1e-5..1e-3:cubic", "LOW..HIGH:log"),
        ("epochs=1.5..4", "whole numbers"),
        ("pooling=mean,median", "--pooling is 'median'"),
    ],
)
def test_what_cannot_be_varied_is_refused(vary, message):
    with pytest.raises(UserError) as caught:
        Space([vary])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_space_says_what_it_is_and_reads_that_again():
    space = Space(["--learning_rate=1e-5..5e-4:log", "epochs=1..3", "dropout-rate=none,0.1", "pooling=mean,cls"])
    lines = space.describe()
    assert lines[1:] == ["epochs=1..3", "dropout_rate=null,0.1", 'pooling="mean","cls"']
    assert Space(lines).describe() == lines
    with pytest.raises(UserError, match="--vary fgm appears twice"):
        Space(["fgm=0,1", "fgm=0,2"])
    for task in ("classification", "similarity", "math-word-problems"):
        assert Space(task=task).options[0].name == "learning_rate"


def test_the_best_trial_is_kept_and_bad_ones_are_pruned(fine, place, tmp_path):
    pytest.importorskip("optuna")
    said, out = [], tmp_path / "out"
    given = dict(vary=["learning-rate=1e-4..1e-2:log"], epochs=3, seed=1)
    found = search_options(place / "tiny", place / "train.tsv", out, trials=12, say=said.append, **given)
    rows = table_of(out)
    assert len(rows) == 12 == len(found["trials"])
    states = [row["state"] for row in rows]
    assert set(states) == {"complete", "pruned", "refused"}
    refused = next(row for row in rows if row["state"] == "refused")
    assert "training diverged" in refused["why"] and float(refused["learning_rate"]) > 8e-3
    assert all(int(row["epochs"]) < 3 for row in rows if row["state"] == "pruned")
    best = max((row for row in rows if row["state"] == "complete"), key=lambda row: float(row["score"]))
    assert found["best"]["trial"] == int(best["trial"])
    # The runs of the others are gone; what was found is what `finetune --config` takes.
    assert os.listdir(str(out / "trials")) == ["%04d" % found["best"]["trial"]]
    kept = json.loads((out / "config.json").read_text())
    assert kept["options"]["learning_rate"] == float(best["learning_rate"]) and kept["options"]["epochs"] == 3
    assert kept["options"]["data"] == str(place / "train.tsv") and "out" not in kept["options"]
    assert all("test" not in call or call["test"] is None for call in fine.calls)
    assert any("best of 12 trials" in line for line in said)
    # More trials go on from the file; nothing is tried twice.
    before = len(fine.calls)
    more = search_options(place / "tiny", place / "train.tsv", out, trials=14, resume=True, say=said.append, **given)
    assert len(more["trials"]) == 14 and len(fine.calls) == before + 2
    assert more["trials"][:12] == found["trials"]
    for change, message in [
        ({"resume": False}, "there is a search already"),
        ({"vary": ["fgm=0,1"]}, "started with other space"),
        ({"epochs": 4}, "started with other options"),
        ({"test": place / "train.tsv"}, "--test does not go with a search: a search must not see it"),
        ({"trials": 0}, "--trials is 0"),
    ]:
        arguments = dict(dict(given, trials=14, resume=True), **change)
        with pytest.raises(UserError, match=message):
            search_options(place / "tiny", place / "train.tsv", out, say=said.append, **arguments)
    with pytest.raises(UserError, match="holds no search"):
        search_options(place / "tiny", place / "train.tsv", place, **given)


def test_a_trial_that_was_killed_is_taken_up_again(fine, place, tmp_path):
    pytest.importorskip("optuna")

    class Kill(BaseException):
        pass

    def after_epoch(call, epoch):
        if call == 2 and epoch == 0:
            raise Kill

    fine.after_epoch, out = after_epoch, tmp_path / "out"
    given = dict(vary=["learning-rate=1e-4..4e-3:log"], epochs=2, seed=5, trials=3, say=lambda line: None)
    with pytest.raises(Kill):
        search_options(place / "tiny", place / "train.tsv", out, **given)
    fine.after_epoch = lambda call, epoch: None
    found = search_options(place / "tiny", place / "train.tsv", out, resume=True, **given)
    killed, again = fine.calls[1], fine.calls[2]
    assert again["learning_rate"] == killed["learning_rate"] and again["out"] == killed["out"]
    assert again["resume"] and not killed["resume"]
    assert [row["state"] for row in found["trials"]] == ["complete"] * 3


def test_the_command_searches_and_finetune_takes_what_it_found(place, tmp_path, capsys):
    pytest.importorskip("optuna")
    out, small = str(tmp_path / "out"), []
    for name, value in SMALL.items():
        small += ["--" + name.replace("_", "-")] + ([] if value is True else [str(value)])
    common = ["--model", str(place / "tiny"), "--data", str(place / "train.tsv")]
    vary = [word for one in VARY for word in ("--vary", one)]
    assert cli.main(["search", "--out", out, "--trials", "1"] + common + vary + small) == 0
    # All that was given lies in the folder; there are as many trials already.
    assert cli.main(["search", "--out", out, "--trials", "1", "--resume"]) == 0
    said = capsys.readouterr()
    assert said.out.count("best of 1 trials") == 2 and said.err == ""
    with open(os.path.join(out, "config.json")) as handle:
        found = json.load(handle)
    run = str(tmp_path / "run")
    assert cli.main(["finetune", "--config", os.path.join(out, "config.json"), "--out", run]) == 0
    with open(os.path.join(run, "metrics.json")) as handle:
        scores = [row["valid_score"] for row in json.load(handle)["history"]]
    assert max(scores) == pytest.approx(found["search"]["score"], abs=1e-6)
    assert cli.main(["search", "--out", out, "--trials", "1", "--vary", "fgm"] + common) == 2


def test_without_optuna_one_line_says_what_to_install(place, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(UserError, match="pip install 'kexue-keras\\[search\\]'"):
        search_options(place / "tiny", place / "train.tsv", tmp_path / "out")
    assert not os.path.exists(str(tmp_path / "out"))
