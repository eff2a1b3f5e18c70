"""Labels, texts and file names as nobody expects them, through a whole run: tables and terminals stay what they are."""

import json
import os
import re
import sys

import pytest
from reviews import reviews

from kexue_keras.cli import main as cli
from kexue_keras.data import read_table
from kexue_keras.data._cells import join, label_cell
from kexue_keras.errors import UserError
from kexue_keras.finetune import Classifier, finetune

LABELS = ["好\t评", "差\n评\x1b[31m|", "②", "C:\\t"]


def unescaped(cell):
    """What `label_cell` made of a label, back again."""
    return cell.encode("ascii", "backslashreplace").decode("unicode_escape")


def test_a_run_with_odd_labels_and_file_names(tiny, tmp_path, capsys, monkeypatch):
    rows = [{"text": text, "label": LABELS[i % 4]} for i, (text, _) in enumerate(reviews(64))]
    data = os.fsdecode(os.path.join(os.fsencode(str(tmp_path)), b"\xff.jsonl"))
    with open(data, "w", encoding="utf-8") as handle:
        handle.writelines(json.dumps(row) + "\n" for row in rows)
    out = str(tmp_path / "run")
    arguments = [
        "--model",
        tiny,
        "--data",
        data,
        "--out",
        out,
        "--epochs",
        "1",
        "--max-length",
        "24",
        "--num-hidden-layers",
        "1",
    ]
    assert cli.main(["finetune"] + arguments) == 0
    said = capsys.readouterr().out
    said.encode("utf-8")
    assert r"差\n评\x1b[31m|" in said and "\x1b" not in said
    # The options with the name of the file come back as they were.
    assert cli.main(["finetune", "--resume", "--out", out]) == 0
    table = read_table(os.path.join(out, "predictions.tsv"))
    assert table.names == ["line", "label", "predicted", "probability", "text"]
    for row in table.rows:
        assert unescaped(row[1]) == rows[int(row[0]) - 1]["label"] and unescaped(row[2]) in LABELS
    table = read_table(os.path.join(out, "confusion.tsv"), header="no")
    assert (
        {unescaped(cell) for cell in table.rows[0][2:]} == {unescaped(row[1]) for row in table.rows[1:]} == set(LABELS)
    )
    capsys.readouterr()

    classifier = Classifier.load(out)
    for wrong in ("好书", ["好", None], ["很差b\ud83d"], [["好"]], b"ab"):
        with pytest.raises(UserError, match="^texts"):
            classifier.predict(wrong)
        with pytest.raises(UserError, match="^texts"):
            classifier.probabilities(wrong)

    # The texts of a file on a terminal; in a pipe they are what they were.
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "书\x1b[2J"}) + "\n", encoding="utf-8")
    monkeypatch.setattr(Classifier, "load", lambda run: classifier)
    for terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        assert cli.main(["predict", "--run", out, "--data", str(tmp_path / "a.jsonl")]) == 0
        assert ("\x1b" in capsys.readouterr().out) != terminal

    # A bar for many texts, on standard error, and in the order of the input.
    many = [text for text, _ in reviews(250, 3)]
    (tmp_path / "b.tsv").write_text("\n".join(many) + "\n", encoding="utf-8")
    answers = []
    for quiet in ([], ["--quiet"]):
        assert cli.main(["predict", "--run", out, "--data", str(tmp_path / "b.tsv"), "--batch-size", "16"] + quiet) == 0
        found = capsys.readouterr()
        assert ("/250" in found.err) != bool(quiet)
        answers.append([line.split("\t") for line in found.out.splitlines()[1:]])
    assert answers[0] == answers[1] and [row[2] for row in answers[0]] == many
    assert [unescaped(row[0]) for row in answers[0]] == [label for label, _ in classifier.predict(many)]


def test_cells_of_labels_come_back():
    for label in LABELS + ["a\x0bb", "a\u2028b", "a\x85", "\\", "\\n", "好|评"]:
        assert len(label_cell(label).splitlines()) == 1 and "\t" not in label_cell(label)
        assert unescaped(label_cell(label)) == label
    assert join(["a|b", "c"]) == "a\\|b|c" and join("a|b") == "a|b"


PAIRS = [("好书%d" % i, "坏书%d" % i) for i in range(40)]


@pytest.mark.parametrize(
    "scores, options, message",
    [
        (["1"] * 40, {}, "train.tsv: all 40 scores are 1; there is no order"),
        (
            ["1"] + ["0"] * 39,
            {},
            "train.tsv: the part split off for valid.* 39 of the 40 pairs of the file have the score 0; add",
        ),
        (
            ["3"] + ["1", "2"] * 19 + ["1"],
            {"positive_above": 2.5},
            "no model 'none'",
        ),
        (["3", "2"] * 20, {"positive_above": 5.0}, "--positive-above 5 leaves one class: the scores go from 2 to 3"),
        (["3", "2"] * 20, {"positive_above": float("nan")}, "--positive-above is nan"),
        (["1", "0"] * 20, {"text_column": "²"}, "no column '²'"),
    ],
)
def test_pairs_of_one_class_are_told_from_a_split_of_one_class(tmp_path, scores, options, message):
    path = tmp_path / "train.tsv"
    path.write_text("".join("%s\t%s\t%s\n" % (pair + (score,)) for pair, score in zip(PAIRS, scores)), encoding="utf-8")
    loss = "sbert" if "positive_above" in options else "cosent"
    with pytest.raises(UserError, match=message):
        finetune(
            "none", str(path), str(tmp_path / "run"), task="similarity", similarity_loss=loss, quiet=True, **options
        )


def test_similar_shows_a_bar_and_nothing_that_steers_a_terminal(tiny, tmp_path, capsys, monkeypatch):
    texts = [text for text, _ in reviews(220, 4)]
    rows = [json.dumps({"text": text + "\x1b[2J"}) for text in dict.fromkeys(texts)]
    (tmp_path / "a.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    command = [
        "similar",
        texts[0],
        "--corpus",
        str(tmp_path / "a.jsonl"),
        "--model",
        tiny,
        "--max-length",
        "16",
        "-k",
        "2",
    ]
    for quiet in ([], ["--quiet"]):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: not quiet)
        assert cli.main(command + quiet) == 0
        found = capsys.readouterr()
        assert ("/%d" % len(rows) in found.err) != bool(quiet) and ("\x1b" in found.out) == bool(quiet)
        assert found.out.startswith("1.0000\t" + texts[0])


def test_more_layers_than_there_are(tiny, tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("".join("%s\t%s\n" % row for row in reviews(40)), encoding="utf-8")
    with pytest.raises(UserError, match="--num-hidden-layers is 2000000000, but .* has 2 layers"):
        finetune(tiny, str(path), str(tmp_path / "run"), num_hidden_layers=2 * 10**9, max_length=24, quiet=True)


@pytest.mark.parametrize(
    "raw, words",
    [
        ("今天天气\n".encode() + "不错".encode("gb18030"), r"zh.txt:2: not UTF-8.*GB18030: iconv"),
        ("今天天气\n".encode("utf-16"), "zh.txt:1: not UTF-8.*UTF-16"),
        (b"\xff\n", "zh.txt:1: not UTF-8"),
        (b"\n\n", "the corpus has no text"),
    ],
)
def test_corpora_that_are_not_utf8(tmp_path, capsys, raw, words):
    (tmp_path / "zh.txt").write_bytes(raw)
    target = str(tmp_path / "out")
    assert cli.main(["convert", bundled(tmp_path), target, "--corpus", str(tmp_path / "zh.txt")]) == 2
    said = capsys.readouterr().err
    assert re.search(words, said) and said.count("\n") == 1
    assert not os.path.exists(target)


def bundled(tmp_path):
    """A folder with a SentencePiece model; no weights are looked at before the corpus is read."""
    from kexue_keras.checkpoints._bundled import ASSETS

    folder = tmp_path / "sp"
    folder.mkdir()
    os.symlink(os.path.join(ASSETS, "me5_zh_q4.spiece.model"), str(folder / "spiece.model"))
    return str(folder)
