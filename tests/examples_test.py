"""Every example runs as a user starts it, only with less: the settings on its top lines are made small."""

import glob
import os
import re

import pytest
from conftest import ROOT
from scripts import script_names

from kexue_keras import backend
from kexue_keras.backend import K

EXAMPLES = sorted(os.path.basename(path) for path in glob.glob(os.path.join(ROOT, "examples", "*.py")))
EXAMPLES.remove("demo.py")  # `.ci/run` runs it, in a process of its own
FEW = {"train": 8, "valid": 4, "test": 8}
SMALL = {
    "num_hidden_layers": "1",
    "num_latent_layers": "1",
    "epochs": "1",
    "warm_epochs": "1",
    "steps": "2",
    "trials": "1",
    "max_length": "10",
    "max_source_length": "10",
    "max_target_length": "5",
    "batch_size": "4",
    "chunk_size": "2",
    "vocabulary": "100",
    "lengths": "[16, 32]",
    "texts_to_write": "2",
    "samples": "4",
    "min_score": "-1.0",
}


def small(source, name):
    """The source of an example with small settings; every setting of the table that it has is replaced."""
    replaced = set()

    def setting(match):
        replaced.add(match.group(1))
        return "%s = %s" % (match.group(1), SMALL[match.group(1)])

    source = re.sub(r"^(%s) = .*$" % "|".join(SMALL), setting, source, flags=re.MULTILINE)
    source = re.sub(r"\bnum_hidden_layers=\d+", "num_hidden_layers=1", source)  # of a model that has no checkpoint
    rows = re.compile(r"^rows = dict\((.*)\)$", re.MULTILINE)
    if rows.search(source):
        replaced.add("rows")
        source = rows.sub("rows = %r" % FEW, source)
    assert replaced & {"epochs", "steps", "texts_to_write", "samples"}, (
        "%s has no setting that says how long it runs" % name
    )
    # A text that is not among the few reviews would be one of the whole list.
    return source.replace("split_reviews(train=400,", "split_reviews(train=4,")


@pytest.mark.alternating
@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with open(os.path.join(ROOT, "examples", name), encoding="utf-8") as handle:
        source = small(handle.read(), name)
    path = tmp_path / name
    path.write_text(source, encoding="utf-8")
    K.clear_session()  # as a user starts it: nothing has a session yet
    try:
        with script_names(__file__=str(path)) as names:
            exec(compile(source, str(path), "exec"), names)
    finally:
        backend.exchange_mixed_precision(False)  # a script leaves it on
    assert re.search(r"\d", capsys.readouterr().out), "%s prints no number" % name


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_is_short_and_has_no_command_line(name):
    with open(os.path.join(ROOT, "examples", name), encoding="utf-8") as handle:
        source = handle.read()
    assert source.count("\n") <= 130, "%s is longer than people copy" % name
    assert "argparse" not in source and "shared" not in source
    assert "# <-" in source or "prompting.Pattern" in source, "%s marks no line of this package" % name
    assert re.search(r"kexue\.fm/archives/\d+", source) or name == "cached_decoding.py", "%s names no article" % name


def test_every_example_is_in_their_list():
    with open(os.path.join(ROOT, "examples", "README.md"), encoding="utf-8") as handle:
        listed = set(re.findall(r"\]\((\w+\.py)\)", handle.read()))
    assert listed == set(EXAMPLES) | {"demo.py"}
