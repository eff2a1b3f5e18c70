"""`finetune --task math-word-problems`: the whole way, the command, TeaForN, what is refused."""

import json
import os

import pytest
from tasks import write_maths_model, write_problems

from kexue_keras.backend import K
from kexue_keras.cli import main as cli
from kexue_keras.errors import UserError
from kexue_keras.finetune import finetune
from kexue_keras.finetune.math_word_problems import MathSolver, answer_accuracy

SMALL = dict(
    task="math-word-problems",
    num_hidden_layers=1,
    epochs=2,
    batch_size=8,
    max_length=24,
    max_equation_length=10,
    learning_rate=2e-3,
    valid_share=0.2,
    quiet=True,
    seed=3,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("problems")
    write_maths_model(str(folder / "maths"))
    write_problems(str(folder / "train.json"), 30)
    write_problems(str(folder / "test.json"), 6)
    return folder


def options_of(place, out, **changes):
    return dict(
        SMALL,
        model=str(place / "maths"),
        data=str(place / "train.json"),
        test=str(place / "test.json"),
        out=str(place / out),
        **changes,
    )


def rows_of(path):
    with open(str(path), encoding="utf-8") as handle:
        return [line.rstrip("\n").split("\t") for line in handle]


def test_trained_scored_saved_and_asked(place, capsys):
    K.clear_session()
    options = options_of(place, "run", beams=2)
    metrics = finetune(**options)
    assert metrics["main_metric"] == "accuracy" and len(metrics["history"]) == 2 and metrics["beams"] == 2
    assert {"valid_loss", "valid_accuracy", "valid_unreadable", "train_loss"} <= set(metrics["history"][0])
    assert metrics["test"]["total"] == 6 and metrics["valid"]["total"] == 6
    low, high = metrics["test"]["accuracy_interval"]
    assert 0 <= low <= metrics["test"]["accuracy"] <= high <= 1
    assert finetune(resume=True, **options) == metrics
    with open(str(place / "run" / "config.json"), encoding="utf-8") as handle:
        config = json.load(handle)
    assert config["writing"]["signs"] and config["texts"] == {"train": 24, "valid": 6, "test": 6}
    rows = rows_of(place / "run" / "predictions.tsv")
    assert rows.pop(0)[:5] == ["id", "right", "equation", "value", "answer"] and len(rows) == 6
    assert sum(int(row[1]) for row in rows) == metrics["test"]["right"]
    # The saved model, and the command, write the same equations.
    K.clear_session()
    solver = MathSolver.load(str(place / "run"))
    assert solver.seq2seq.pretrained.config["vocab_size"] < 100
    equations = solver.equations([row[6] for row in rows], beams=2)
    assert equations == [row[2] for row in rows]
    scores = answer_accuracy(equations, [row[5] for row in rows])
    assert scores["right"] == metrics["test"]["right"]
    capsys.readouterr()
    K.clear_session()
    assert cli.main(["predict", "--run", str(place / "run"), "--data", str(place / "test.json"), "--quiet"]) == 0
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == ["equation", "answer", "text"] and [row[0] for row in printed[1:]] == equations


def test_teaforn_without_signs_and_with_all_brackets(place):
    K.clear_session()
    said = []
    changes = dict(teaforn=2, copy=False, pi=False, brackets="none", epochs=1, quiet=False)
    metrics = finetune(say=said.append, **options_of(place, "teaforn", **changes))
    plain = [line for line in said if "best epoch" in line]
    assert plain and "answers right" in plain[0] and "interval" in plain[0]
    # The summed loss of two orders is above that of one.
    assert metrics["history"][0]["train_loss"] > metrics["history"][0]["valid_loss"]
    K.clear_session()
    solver = MathSolver.load(str(place / "teaforn"))
    assert (solver.writing.signs, solver.writing.pi) == ("", "")
    assert not any("TeaForN" in layer.name for layer in solver.seq2seq.model.layers)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"rdrop": 4.0, "teaforn": 2}, "--rdrop does not go with --teaforn 2"),
        ({"class_weights": "balanced"}, "there are no classes"),
        ({"label_separator": "|"}, "--label-separator does not go"),
        ({"text_column": "1"}, "--text-column does not go"),
        ({"train_layers": 1}, "--train-layers does not go"),
        ({"head_lr_multiplier": 5.0}, "--head-lr-multiplier does not go"),
        ({"beams": 0}, "--beams"),
        ({"teaforn": 0}, "--teaforn"),
        ({"brackets": "some"}, "--brackets"),
        ({"num_hidden_layers": 13}, "13"),
        ({"max_length": 600}, "positions"),
        ({"valid_share": 0.99}, "leaves none"),
        ({"model": "no-such-model"}, "neither a bundled name"),
    ],
)
def test_refused(place, options, message):
    given = options_of(place, "refused")
    given.update(options)
    with pytest.raises(UserError, match=message):
        finetune(**given)
    assert not os.path.exists(str(place / "refused"))


def test_a_run_of_another_task_is_no_solver(tmp_path):
    with pytest.raises(UserError, match="config.json"):
        MathSolver.load(str(tmp_path))
