"""Exported folders say what the model says: runs with one label, several, pairs; encoders; without TensorFlow."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from helpers import CHARACTERS, tiny_bert_folder
from reviews import reviews, write_rows

from kexue_keras.backend import K
from kexue_keras.cli import main as cli
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.export import export_model
from kexue_keras.exported.graphs import open_graph, usable_cores
from kexue_keras.exported.model import ExportedModel
from kexue_keras.finetune import Classifier, finetune
from kexue_keras.similarity import SentenceEncoder

pytest.importorskip("tf2onnx")
pytest.importorskip("onnxruntime")
TEXTS = [CHARACTERS[i : i + 2 + i % 5] for i in range(12)]
SMALL = dict(epochs=1, batch_size=8, max_length=16, learning_rate=3e-3, quiet=True, seed=3)

# What is printed has to come from a process in which nothing but the exported folder is known.
ALONE = """
import json, sys
import kexue_keras_exported
model = kexue_keras_exported.load(sys.argv[1], threads=1)
found = model.encode(sys.argv[2:]).tolist() if model.labels is None else model.predict(sys.argv[2:])
print(json.dumps([found, sorted({"tensorflow", "keras", "tf_keras", "bert4keras.backend"} & set(sys.modules))]))
"""


def alone(folder, texts):
    """What a process without TensorFlow says of texts."""
    done = subprocess.run(
        [sys.executable, "-c", ALONE, str(folder)] + texts,
        stdout=subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=ROOT, PYTHONIOENCODING="utf-8"),
        check=True,
        timeout=120,
    )
    found, heavy = json.loads(done.stdout.decode("utf-8"))
    assert heavy == []
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Folder with a tiny model."""
    folder = tmp_path_factory.mktemp("export")
    K.clear_session()
    tiny_bert_folder(folder / "tiny", num_hidden_layers=1)
    K.clear_session()
    return folder


def run_of(place, name, rows, **options):
    write_rows(place / (name + ".tsv"), rows)
    finetune(model=str(place / "tiny"), data=str(place / (name + ".tsv")), out=str(place / name), **SMALL, **options)
    return str(place / name)


ROWS = {
    "single": [(text, label) for text, label in reviews(24)],
    "several": [(text, label + "|书" if i % 3 else label) for i, (text, label) in enumerate(reviews(24))],
    "pairs": [(text, text[:3], label) for text, label in reviews(24)],
}


@pytest.mark.all_stacks
def test_a_run_says_the_same_without_tensorflow(place, capsys):
    run = run_of(place, "run", ROWS["single"])
    K.clear_session()
    assert cli.main(["export", run, "--out", str(place / "onnx")]) == 0
    assert "onnx: onnx, " in capsys.readouterr().out
    expected = Classifier.load(run).predict(TEXTS)
    found = alone(place / "onnx", TEXTS)
    assert [label for label, _ in found] == [label for label, _ in expected]
    assert np.allclose([p for _, p in found], [p for _, p in expected], atol=1e-5)
    # The command, which reads its columns from the export as from the run.
    write_rows(place / "test.tsv", [(text,) for text in TEXTS])
    printed = []
    for folder in (run, str(place / "onnx")):
        assert cli.main(["predict", "--run", folder, "--data", str(place / "test.tsv"), "--quiet"]) == 0
        printed.append([line.split("\t") for line in capsys.readouterr().out.splitlines()])
    assert [row[::2] for row in printed[0]] == [row[::2] for row in printed[1]]


@pytest.mark.dear
@pytest.mark.parametrize(
    "kind, format", [("several", "onnx"), ("pairs", "onnx"), ("single", "onnx-int8"), ("single", "savedmodel")]
)
def test_other_heads_and_formats(place, kind, format):
    name = "%s-%s" % (kind, format)
    run = run_of(place, name, ROWS[kind], **({"label_separator": "|"} if kind == "several" else {}))
    K.clear_session()
    done = export_model(run, str(place / (name + "-out")), format=format)
    texts = [(text, text[:2]) for text in TEXTS] if kind == "pairs" else TEXTS
    expected = Classifier.load(run).predict(texts)
    found = ExportedModel(str(place / (name + "-out"))).predict(texts)
    if format == "onnx-int8":
        assert 0 < done.difference < 0.05
        assert np.allclose([p for _, p in found], [p for _, p in expected], atol=0.05)
        return
    assert done.difference < 1e-5 and done.format == format
    assert [label for label, _ in found] == [label for label, _ in expected]
    for (_, a), (_, b) in zip(found, expected):
        assert np.allclose(a, b, atol=1e-5)


@pytest.mark.all_stacks
def test_an_encoder_with_whitening(place):
    encoder = SentenceEncoder(str(place / "tiny"), pooling="first-last", max_length=9)
    encoder.fit_whitening(TEXTS * 3, components=4).save(str(place / "encoder"))
    expected = encoder.encode(TEXTS)
    cosines = encoder.similarity(TEXTS[:5], TEXTS[5:10])
    K.clear_session()
    export_model(str(place / "encoder"), str(place / "vectors"))
    assert np.allclose(alone(place / "vectors", TEXTS), expected, atol=1e-4)
    model = ExportedModel(str(place / "vectors"))
    assert np.allclose(model.similarity(TEXTS[:5], TEXTS[5:10], batch_size=3), cosines, atol=1e-4)
    assert model.max_length == 9 and model.encode([]).size == 0
    with pytest.raises(UserError, match="vectors and no labels"):
        model.predict(TEXTS)
    with pytest.raises(UserError, match="one str"):
        model.encode("好")


def test_what_is_refused(place, tmp_path, capsys):
    with pytest.raises(ValueError, match="format"):
        export_model(str(place / "tiny"), str(tmp_path / "x"), format="tflite")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    with pytest.raises(WeightsError, match="mine"):
        export_model(str(place / "tiny"), str(tmp_path / "mine"))
    assert cli.main(["export", "no-such-model", "--out", str(tmp_path / "x")]) == 2
    said = capsys.readouterr().err
    assert "no-such-model" in said and said.count("\n") == 1 and not (tmp_path / "x").exists()
    with pytest.raises(UserError, match="no exported.json"):
        ExportedModel(str(tmp_path))


def test_a_damaged_export_is_refused(place, tmp_path):
    folder = str(tmp_path / "out")
    export_model(str(place / "tiny"), folder, max_length=8)
    with open(os.path.join(folder, "exported.json"), encoding="utf-8") as handle:
        facts = json.load(handle)
    for name, value in (("max_length", 1), ("task", "classification"), ("format", "tflite")):
        with open(os.path.join(folder, "exported.json"), "w", encoding="utf-8") as handle:
            json.dump(dict(facts, **{name: value}), handle)
        with pytest.raises(UserError, match=name):
            ExportedModel(folder)
    with open(os.path.join(folder, "exported.json"), "w", encoding="utf-8") as handle:
        json.dump(facts, handle)
    with open(os.path.join(folder, "model.onnx"), "r+b") as handle:
        handle.truncate(100)
    with pytest.raises(UserError, match="onnxruntime cannot read it"):
        ExportedModel(folder)
    os.remove(os.path.join(folder, "model.onnx"))
    with pytest.raises(UserError, match="no such file"):
        ExportedModel(folder)


def test_a_session_takes_all_cores_unless_it_is_told(monkeypatch, tmp_path):
    """Old versions of onnxruntime take half of them by themselves."""
    onnxruntime = pytest.importorskip("onnxruntime")
    taken, cores = [], usable_cores_of_this_machine()

    def session(path, options, providers):
        taken.append(options.intra_op_num_threads)

    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    (tmp_path / "model.onnx").write_bytes(b"")
    open_graph(str(tmp_path), "onnx")
    open_graph(str(tmp_path), "onnx", threads=3)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {10**6, 10**6 + 1, 10**6 + 2})
    open_graph(str(tmp_path), "onnx-int8")
    assert taken == [cores, 3, 3]
    monkeypatch.delattr(os, "sched_getaffinity")
    assert usable_cores() == os.cpu_count()


def usable_cores_of_this_machine():
    out = subprocess.run(["lscpu", "-p=cpu,core,socket"], stdout=subprocess.PIPE, universal_newlines=True, check=True)
    rows = [line.split(",") for line in out.stdout.splitlines() if not line.startswith("#")]
    return len({tuple(row[1:]) for row in rows if int(row[0]) in os.sched_getaffinity(0)})
