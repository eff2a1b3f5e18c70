"""`kexue-keras explain` and `plot`."""

import pytest
from reviews import reviews, write_rows

from kexue_keras.cli.main import main
from kexue_keras.finetune import finetune


@pytest.fixture
def run(tiny, tmp_path):
    data = write_rows(tmp_path / "train.tsv", [("text", "label")] + reviews(40), separator="\t")
    options = dict(epochs=1, max_length=24, num_hidden_layers=1)
    finetune(tiny, data, str(tmp_path / "run"), frozen=True, quiet=True, **options)
    return str(tmp_path / "run")


def test_explain_and_plot(run, tiny, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["explain", "今天电影很好", "书店服务差", "--run", run, "--out", str(page), "--steps", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].count(",") == 4 and lines[2] == "written to %s" % page
    assert page.read_text(encoding="utf-8").count('class="text"') == 2
    assert (
        main(["explain", "今天电影", "--model", tiny, "--attention", "--layer", "1", "--out", str(tmp_path / "a.png")]) == 0
    )
    assert main(["explain", "今天电影", "--run", run, "--attention", "--out", str(tmp_path / "a.html")]) == 0
    data = write_rows(tmp_path / "rows.tsv", [("text", "label")] + reviews(12), separator="\t")
    assert main(["plot", "--data", data, "--model", tiny, "--out", str(tmp_path / "v.png"), "--write-texts"]) == 0
    assert "12 texts in" in capsys.readouterr().out
    for name in ("a", "v"):
        assert (tmp_path / (name + ".png")).read_bytes()[:4] == b"\x89PNG"
    for arguments, message in (
        (["a", "b", "--run", run, "--out", "x.png"], "2 texts do not go into one picture"),
        (["a", "--run", run, "--out", "x.html", "--label", "x"], "no label 'x'; there are"),
        (["a", "--run", run, "--attention", "--layer", "7", "--out", "x.png"], "layer is 7, but there are 1"),
        (["a", "--model", "no-such-model", "--attention", "--out", "x.png"], "no-such-model"),
    ):
        assert main(["explain"] + arguments) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["explain", "a", "--run", "r", "--out", "x.pdf"], "it must end with .png or .html"),
        (["explain", "a", "--out", "x.png"], "give --run RUN, or --attention with --model M"),
        (["explain", "a", "--model", "m", "--out", "x.png"], "it goes with --attention"),
        (["explain", "a", "--run", "r", "--attention", "--label", "l", "--out", "x.png"], "--label goes without"),
        (["explain", "a", "--run", "r", "--head", "1", "--out", "x.png"], "--layer and --head go with --attention"),
        (["plot", "--data", "d", "--out", "x.html"], "it must end with .png"),
    ],
)
def test_options_that_do_not_go_together(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
