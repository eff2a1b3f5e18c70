"""`kexue-keras mine`: triples of a file of pairs, and what it refuses."""

import pytest

from kexue_keras.cli import main as cli

PAIRS = [("今天电影很好", "电影很好看"), ("书店服务差", "书店的服务很差"), ("我喜欢书", "我很喜欢书"), ("我喜欢书", "书很好")]


@pytest.fixture
def files(tmp_path, tiny):
    (tmp_path / "pairs.tsv").write_text("".join("%s\t%s\n" % pair for pair in PAIRS), encoding="utf-8")
    (tmp_path / "corpus.txt").write_text("我讨厌书\n电影很好看\n中国人\n", encoding="utf-8")
    line = ["mine", "--model", tiny, "--data", str(tmp_path / "pairs.tsv"), "--out", str(tmp_path / "out.tsv")]
    return tmp_path, line + ["--relative-margin", "0"]


def triples(folder):
    return [tuple(line.split("\t")) for line in (folder / "out.tsv").read_text(encoding="utf-8").splitlines()]


def test_triples(files, capsys):
    folder, line = files
    assert cli.main(line + ["--negatives", "2"]) == 0
    found = triples(folder)
    assert found and all(len(row) == 3 and row[:2] in PAIRS and row[2] not in row[:2] for row in found)
    right = {answer for question, answer in PAIRS if question == "我喜欢书"}
    assert not {negative for question, _, negative in found if question == "我喜欢书"} & right
    said = capsys.readouterr().err
    assert "%d triples of 4 pairs" % len(found) in said and "pairs have none" in said
    assert cli.main(line) == 2 and "--overwrite replaces it" in capsys.readouterr().err
    assert cli.main(line + ["--overwrite", "--corpus", str(folder / "corpus.txt")]) == 0
    assert {negative for _, _, negative in triples(folder)} <= {"我讨厌书", "电影很好看", "中国人"}


def test_refused(files, capsys):
    folder, line = files
    (folder / "pairs.tsv").write_text("好书\n坏书\n", encoding="utf-8")
    assert cli.main(line) == 2 and "pairs are needed" in capsys.readouterr().err
    assert cli.main(line + ["--reranker", str(folder / "none")]) == 2
    assert not (folder / "out.tsv").exists()
