"""The command `kexue-keras`: the whole way, kill -9 and --resume, prediction in a fresh process, bad input."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from helpers import plain_session, tiny_bert_folder
from reviews import reviews, write_rows

from kexue_keras.backend import K, stack_name, tf1
from kexue_keras.cli import main as cli
from kexue_keras.finetune import Classifier

SMALL = (
    "--epochs 2 --batch-size 8 --max-length 24 --learning-rate 3e-3 --dropout-rate 0.2 --save-every 4 --seed 5".split()
)
FILES = "config.json confusion.png confusion.tsv curves.png encoder head.npz logs metrics.json predictions.tsv".split()


def kexue_keras(*args, stdin=None, python=sys.executable, **variables):
    """Run the command in a fresh process, with further environment variables; returns (stdout, stderr)."""
    environment = dict(os.environ, TF_CPP_MIN_LOG_LEVEL="3", PYTHONWARNINGS="ignore", PYTHONPATH=ROOT, **variables)
    done = subprocess.run(
        [python, "-m", "kexue_keras_launcher"] + [str(a) for a in args],
        input=None if stdin is None else stdin.encode("utf-8"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, "%s\n%s\n%s" % (done.returncode, done.stdout.decode(), done.stderr.decode())
    return done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a tiny model and data."""
    folder = tmp_path_factory.mktemp("cli")
    K.clear_session()
    tiny_bert_folder(folder / "tiny", num_hidden_layers=1)
    K.clear_session()
    write_rows(folder / "train.tsv", reviews(90, seed=1))
    write_rows(folder / "test.tsv", reviews(30, seed=2))
    return folder


@pytest.fixture(scope="module")
def run(place):
    """A finished run, made as in a process of its own, with the session that the tests have."""
    K.clear_session()
    tf1.keras.backend.set_session(tf1.Session(config=plain_session()))
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert cli.main([str(a) for a in ["finetune", *paths(place, "run"), *SMALL]]) == 0
    K.clear_session()
    out, err = out.getvalue(), err.getvalue()
    assert "Traceback" not in err
    assert "columns: text = column 1, label = column 2 (no header)" in out
    assert "9 of 90 texts split off" in out or "no --valid" in out
    assert "epoch 2/2" in err and "loss" in err
    return place / "run"


def paths(place, out):
    return [
        "--model",
        place / "tiny",
        "--data",
        place / "train.tsv",
        "--test",
        place / "test.tsv",
        "--out",
        place / out,
    ]


def metrics_of(folder):
    with open(str(folder / "metrics.json"), encoding="utf-8") as handle:
        metrics = json.load(handle)
    metrics.pop("seconds")
    return metrics


def failure(capsys, *args):
    """Run in this process; the one line that a user error prints."""
    assert cli.main([str(a) for a in args]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1, captured.err
    assert "Traceback" not in captured.err
    return captured.err


def test_a_run_leaves_everything(run):
    assert set(FILES + ["tokenizer_settings.json"]) <= set(os.listdir(str(run)))
    assert not [name for name in os.listdir(str(run)) if "checkpoint" in name or "best" in name or "tmp" in name]
    metrics = metrics_of(run)
    assert metrics["test"]["texts"] == 30
    assert set(metrics["test"]["classes"]) == {"好评", "差评"}
    assert [row["epoch"] for row in metrics["history"]] == [1, 2]
    with open(str(run / "predictions.tsv"), encoding="utf-8") as handle:
        rows = [line.rstrip("\n").split("\t") for line in handle]
    right = np.mean([row[1] == row[2] for row in rows[1:]])
    assert len(rows) == 31 and np.isclose(right, metrics["test"]["accuracy"])
    assert os.listdir(str(run / "logs"))


def test_predict_in_a_fresh_process_from_standard_input(run, place):
    with open(str(run / "predictions.tsv"), encoding="utf-8") as handle:
        expected = [line.rstrip("\n").split("\t") for line in handle][1:]
    texts = "".join(row[4] + "\n" for row in expected)
    out, err = kexue_keras("predict", "--run", run, "--data", "-", stdin=texts)
    # TensorFlow 2 says what it has found on the machine, in lines that no setting keeps back.
    theirs = ("Using TensorFlow backend.", "WARNING: All log messages before absl", "I0000 ", "W0000 ")
    assert [line for line in err.splitlines() if not line.startswith(theirs)] == []
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["label", "probability", "text"]
    assert [row[2] for row in rows[1:]] == [row[4] for row in expected]
    assert [row[0] for row in rows[1:]] == [row[2] for row in expected]
    assert np.allclose([float(row[1]) for row in rows[1:]], [float(row[3]) for row in expected], atol=2e-4)


def stacks_of_this_checkout():
    """Name of a stack -> (Python, environment) for those of `make test`."""
    found = {"keras": (".venv", "0"), "tf.keras": (".venv", "1"), "tf2": (".venv-tf2", "1")}
    if not os.path.exists(os.path.join(ROOT, ".venv-tf2")):
        found["tf2"] = (".venv-tf2.16", "1")
    pythons = {
        name: (os.path.join(ROOT, folder, "bin", "python"), {"TF_KERAS": flag, "TF_USE_LEGACY_KERAS": "1"})
        for name, (folder, flag) in found.items()
    }
    return {name: made for name, made in pythons.items() if os.path.exists(made[0])}


@pytest.mark.all_stacks
def test_a_run_predicts_on_another_stack(run):
    """Each stack reads what one other has written; and no file of a Keras model, which may hold code (a Lambda)."""
    there, stacks = stacks_of_this_checkout(), ["keras", "tf.keras", "tf2"] * 2
    others = [other for other in stacks[stacks.index(stack_name()) + 1 :][:2] if other in there]
    if not others:
        pytest.skip("no other stack is here")
    python, variables = there[others[0]]
    # TensorFlow 2 sets it, and 1.15 would run eagerly by it.
    variables["TF2_BEHAVIOR"] = "0"
    texts = ["书很好", "很差的书，退货了"]
    out, _ = kexue_keras("predict", "--run", run, "--data", "-", stdin="\n".join(texts), python=python, **variables)
    here = Classifier.load(str(run)).predict(texts)
    rows = [line.split("\t") for line in out.splitlines()[1:]]
    assert [row[0] for row in rows] == [label for label, _ in here]
    assert np.allclose([float(row[1]) for row in rows], [probability for _, probability in here], atol=2e-4)


def test_kill_and_resume_end_with_the_same_metrics(run, place, fresh_python, capsys):
    # The 13th step is in the second epoch, one after a saved point (11 batches an epoch, a point every 4 steps).
    source = """if True:
        import sys
        from kexue_keras.cli import main as cli
        from kexue_keras.backend import tf1
        # The same session as here: graph rewriting rounds differently.
        sys.path.insert(0, sys.argv.pop(1))
        from helpers import plain_session
        from tasks import killed_at
        killed_at(13)
        tf1.keras.backend.set_session(tf1.Session(config=plain_session()))
        cli.main(sys.argv[1:])
    """
    args = [os.path.join(ROOT, "tests"), "finetune"] + paths(place, "killed") + SMALL
    fresh_python(source, *args, expect=-9)
    assert not os.path.exists(str(place / "killed" / "metrics.json"))
    assert os.path.exists(str(place / "killed" / "checkpoint.npz"))
    assert cli.main(["finetune", "--resume", "--out", str(place / "killed")]) == 0
    assert "resuming after epoch 1, batch 1 (step 12 of 22)" in capsys.readouterr().out
    assert metrics_of(place / "killed") == metrics_of(run)
    for name in ("predictions.tsv", "confusion.tsv"):
        with open(str(place / "killed" / name)) as a, open(str(run / name)) as b:
            assert a.read() == b.read()


def test_config_repeats_the_run_and_options_beside_it_count(run, place, capsys):
    assert cli.main(["finetune", "--config", str(run / "config.json"), "--out", str(place / "again"), "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    got, expected = metrics_of(place / "again"), metrics_of(run)
    assert np.isclose(got["test"]["loss"], expected["test"]["loss"], atol=1e-5)
    assert got["history"][0]["train_loss"] == pytest.approx(expected["history"][0]["train_loss"], abs=1e-5)


def test_a_run_is_not_overwritten(run, place, capsys):
    before = metrics_of(run)
    line = failure(capsys, "finetune", *paths(place, "run"), *SMALL)
    assert "there is a run already; --resume continues it, --overwrite replaces it" in line
    line = failure(capsys, "finetune", *paths(place, "run"), *SMALL, "--resume", "--epochs", "3")
    assert "--resume: epochs was 2 and is 3 now" in line
    shutil.copytree(str(run), str(place / "changed"))
    other = write_rows(place / "other.tsv", reviews(30, seed=9))
    with open(str(place / "changed" / "config.json")) as handle:
        config = json.load(handle)
    config["options"]["test"] = other
    with open(str(place / "changed" / "config.json"), "w") as handle:
        json.dump(config, handle)
    line = failure(capsys, "finetune", "--resume", "--out", place / "changed")
    assert "other.tsv: --resume: the file has changed" in line
    assert cli.main(["finetune", "--resume", "--out", str(run)]) == 0
    assert "finished already" in capsys.readouterr().out
    assert metrics_of(run) == before


def test_a_folder_with_something_else_is_never_touched(place, capsys):
    (place / "photos").mkdir()
    (place / "photos" / "cat.jpg").write_text("cat")
    line = failure(capsys, "finetune", *paths(place, "photos"), "--overwrite")
    assert "is not empty and holds no run" in line
    assert os.listdir(str(place / "photos")) == ["cat.jpg"]
    line = failure(capsys, "finetune", *paths(place, "train.tsv"))
    assert "--out is a file" in line


GOOD = "".join("\t".join(row) + "\n" for row in reviews(40))
BAD_INPUT = [
    # training file, option and other file, expected place, words
    (None, "", "train.tsv: ", "no such file"),
    ("", "", "train.tsv: ", "empty"),
    ("好书\t好评\n \t差评\n", "", "train.tsv:2: ", "the text is empty"),
    ("好书\t好评\n差书\t\n", "", "train.tsv:2: ", "the label is missing"),
    ("text\tlabel\n好书\t好评\n很好\t好评\n", "", "train.tsv: ", "only one class (好评)"),
    ("好书\t好评\n" + "差" * 21000 + "\t差评\n", "", "train.tsv:2: ", "longer than 20000 characters; --max-line"),
    (GOOD.encode("gb18030"), "", "train.tsv:1: ", "not UTF-8"),
    (GOOD, "--text-column body", "train.tsv:1: ", "no column 'body'"),
    (GOOD, "--label-column 3", "train.tsv:1: ", "no column '3'"),
    (GOOD, "--valid none.tsv", "none.tsv: ", "no such file"),
    (GOOD, "--test other.tsv", "other.tsv:3: ", "unknown label '中评'"),
    (GOOD, "--class-weights none.tsv", "none.tsv: ", "no such file"),
    (GOOD, "--class-weights weights.tsv", "weights.tsv:2: ", "the weight 'many' is no positive number"),
    (GOOD, "--train-layers -1", "", "--train-layers: -1 is not a whole number from 0"),
    (GOOD, "--max-length 400", "", "has 64 positions"),
    (GOOD, "--model nowhere", "", "no model"),
    (GOOD, "--config other.tsv", "other.tsv: ", "cannot be read"),
    (GOOD, "--resume --overwrite", "", "exclude each other"),
]


@pytest.mark.parametrize("content, options, where, words", BAD_INPUT, ids=[row[3] for row in BAD_INPUT])
def test_bad_input_gives_one_line_and_touches_nothing(tmp_path, place, capsys, content, options, where, words):
    if content is not None:
        content = content if isinstance(content, bytes) else content.encode("utf-8")
        (tmp_path / "train.tsv").write_bytes(content)
    (tmp_path / "other.tsv").write_text("好书\t好评\n差书\t差评\n书\t中评\n", encoding="utf-8")
    (tmp_path / "weights.tsv").write_text("好评\t1\n差评\tmany\n", encoding="utf-8")
    before = sorted(os.listdir(str(tmp_path)))
    options = [str(tmp_path / o) if o.endswith(".tsv") else o for o in options.split()]
    args = ["--model", place / "tiny", "--data", tmp_path / "train.tsv", "--out", tmp_path / "run"]
    line = failure(capsys, "finetune", *args, *options)
    assert words in line
    assert not where or str(tmp_path / where) in line
    assert sorted(os.listdir(str(tmp_path))) == before


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["fine-tune"], "invalid choice: 'fine-tune'"),
        (["finetune", "--modle", "x"], "unrecognized arguments: --modle x"),
        (["finetune", "--epochs", "0"], "--epochs"),
        (["finetune", "--dropout-rate", "1"], "1 is not a number from 0 to below 1"),
        (["finetune", "--learning-rate", "-1"], "above 0"),
        (["finetune"], "missing: --model, --data, --out"),
        (["predict", "--run", "nowhere", "--data", "-"], "no config.json in it"),
        (["predict", "--run", "nowhere"], "--data"),
        (["list", "--search", "nothing has this"], "nothing with"),
    ],
)
def test_bad_usage(capsys, arguments, words):
    assert words in failure(capsys, *arguments)


def test_bad_input_of_predict(run, place, tmp_path, capsys):
    (tmp_path / "a.tsv").write_text("好书\n\n坏书\n", encoding="utf-8")
    line = failure(capsys, "predict", "--run", run, "--data", tmp_path / "a.tsv")
    assert line.startswith("kexue-keras predict: %s:2: the text is empty" % (tmp_path / "a.tsv"))
    (tmp_path / "b.tsv").write_text("label\tbody\ttail\n1\t好书\t坏\n", encoding="utf-8")
    line = failure(capsys, "predict", "--run", run, "--data", tmp_path / "b.tsv")
    assert "b.tsv:1: which column is the text? There are: label, body, tail" in line
    line = failure(capsys, "predict", "--run", run, "--data", place / "test.tsv", "--out", tmp_path / "a.tsv")
    assert "--overwrite" in line


def test_predict_ignores_labels_and_writes_a_file(run, place, tmp_path, capsys):
    out = str(tmp_path / "labels.tsv")
    assert cli.main(["predict", "--run", str(run), "--data", str(place / "test.tsv"), "--out", out, "--no-text"]) == 0
    assert capsys.readouterr().out == ""
    with open(out, encoding="utf-8") as handle:
        rows = [line.rstrip("\n").split("\t") for line in handle]
    assert rows[0] == ["label", "probability"] and len(rows) == 31


def test_help_and_list(capsys):
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(command in shown for command in ("doctor", "list", "finetune", "predict"))
    assert cli.main(["finetune", "--help"]) == 0
    assert "--class-weights" in capsys.readouterr().out
    assert cli.main([]) == 2
    capsys.readouterr()
    assert cli.main(["list", "--search", "kexue_keras models load".split()[-1], "--all"]) == 0
    assert "https://kexue.fm/archives/" in capsys.readouterr().out


@pytest.mark.parametrize("arguments, code", [(["--help"], 0), (["fine-tune"], 2), ([], 2)])
def test_help_and_a_mistyped_command_answer_without_the_package(arguments, code):
    source = (
        "import sys, kexue_keras_launcher as k; c = k.main(%r); print(c, {'kexue_keras', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", source % arguments],
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=ROOT),
        timeout=60,
        universal_newlines=True,
    )
    assert done.stdout.splitlines()[-1] == "%d set()" % code


def test_every_file_beside_main_is_a_command():
    names = {os.path.splitext(name)[0] for name in os.listdir(os.path.dirname(cli.__file__)) if name.endswith(".py")}
    assert names - {"__init__", "arguments", "main", "output"} == {command.module for command in cli.COMMANDS.values()}
