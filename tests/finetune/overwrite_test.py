"""`finetune --overwrite` and --resume with a real run: what is left of it, and of its files, when they fail."""

import json
import os
import resource

import pytest
from helpers import tiny_bert_folder
from reviews import reviews, write_rows

from kexue_keras.backend import K
from kexue_keras.cli import main as cli
from kexue_keras.trainer import Trainer

SMALL = "--epochs 1 --batch-size 16 --max-length 24 --learning-rate 3e-3 --quiet --num-hidden-layers 1".split()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a tiny model, data, and a finished run."""
    folder = tmp_path_factory.mktemp("overwrite")
    K.clear_session()
    tiny_bert_folder(folder / "tiny", num_hidden_layers=1)
    write_rows(folder / "train.tsv", reviews(40, seed=1))
    (folder / "weights.tsv").write_text("好评\t1\n差评\t2\n", encoding="utf-8")
    assert cli.main(["finetune", *arguments(folder)]) == 0
    (folder / "run" / "notes.2021.tmp").write_text("mine")
    K.clear_session()
    return folder


def arguments(place, **changes):
    given = {"model": "tiny", "data": "train.tsv", "out": "run", "class-weights": "weights.tsv"}
    given = {name: str(place / value) for name, value in given.items()}
    given.update({name.replace("_", "-"): value for name, value in changes.items()})
    return [part for name, value in given.items() for part in ("--" + name, str(value))] + SMALL


def contents(folder):
    """Dict of all files below a folder."""
    found = {}
    for where, _, names in os.walk(str(folder)):
        for name in names:
            with open(os.path.join(where, name), "rb") as handle:
                found[os.path.relpath(os.path.join(where, name), str(folder))] = handle.read()
    return found


def failure(capsys, *args):
    capsys.readouterr()
    assert cli.main([str(a) for a in args]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "Traceback" not in said, said
    return said


@pytest.mark.parametrize("how", ["diverges", "disk"])
def test_a_run_that_fails_leaves_the_one_it_would_replace(place, capsys, monkeypatch, how):
    before = contents(place)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    if how == "diverges":
        ok = Trainer._train_on_batch

        def explode(trainer, step, made):
            return [float("nan"), 0.0] if step == 1 else ok(trainer, step, made)

        monkeypatch.setattr(Trainer, "_train_on_batch", explode)
    try:
        if how == "disk":
            resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))
        line = failure(capsys, "finetune", *arguments(place), "--overwrite")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ("the loss became nan" if how == "diverges" else "best.npz: File too large; the limit for files") in line
    assert contents(place) == before


def test_what_a_run_is_made_of_is_not_replaced_by_it(place, capsys):
    before = contents(place)
    line = failure(capsys, "finetune", *arguments(place, data=place / "run" / "predictions.tsv"), "--overwrite")
    assert "predictions.tsv: this belongs to the run that --overwrite replaces" in line
    line = failure(capsys, "finetune", *arguments(place, out=place / "tiny"), "--overwrite")
    assert "tiny: the folder is not empty and holds no run" in line
    for data in ("-", "/dev/null"):
        assert "this can be read only once" in failure(capsys, "finetune", *arguments(place, data=data))
    for out, words in [
        (place / "train.tsv" / "below", "--out is a file"),
        (place / ("a" * 300), "File name too long; choose a shorter name"),
    ]:
        assert words in failure(capsys, "finetune", *arguments(place, out=out), "--overwrite")
    assert contents(place) == before


@pytest.mark.parametrize("name", ["train.tsv", "weights.tsv", "tiny/vocab.txt"])
def test_resuming_with_another_file_is_refused(place, capsys, name):
    path = place / name
    before = path.read_bytes()
    try:
        path.write_bytes(before + b"\n")
        assert "--resume: the file has changed" in failure(capsys, "finetune", "--resume", "--out", place / "run")
        os.remove(str(path))
        line = failure(capsys, "finetune", "--resume", "--out", place / "run")
        # Class weights are looked for before anything is compared.
        assert "%s: " % path in line and "no such file" in line
    finally:
        path.write_bytes(before)
    assert cli.main(["finetune", "--resume", "--out", str(place / "run")]) == 0


def test_resuming_on_another_stack_is_refused(place, capsys):
    path = place / "run" / "config.json"
    before = path.read_text(encoding="utf-8")
    config = json.loads(before)
    config["stack"] = "keras" if config["stack"] == "tf.keras" else "tf.keras"
    try:
        path.write_text(json.dumps(config), encoding="utf-8")
        assert "the run was made on the stack" in failure(capsys, "finetune", "--resume", "--out", place / "run")
    finally:
        path.write_text(before, encoding="utf-8")


def test_predictions_replace_nothing_that_is_read(place, capsys):
    before = contents(place)
    (place / "texts.tsv").write_text("好书\n", encoding="utf-8")
    for out, words in [
        ("", "--out is an empty name"),
        (place / "run", "this is a folder"),
        (place / "texts.tsv", "--out would replace a file that is being read"),
        (place / "run" / "head.npz", "--out would replace a file that is being read"),
        (place / "train.tsv" / "below", "Not a directory; a part of the path is a file"),
        (place / "nowhere" / "x.tsv", "nowhere: no such folder"),
        (place / ("a" * 300), "File name too long"),
    ]:
        line = failure(
            capsys, "predict", "--run", place / "run", "--data", place / "texts.tsv", "--out", out, "--overwrite"
        )
        assert words in line
    os.remove(str(place / "texts.tsv"))
    assert contents(place) == before
