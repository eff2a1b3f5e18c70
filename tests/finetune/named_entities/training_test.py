"""`finetune --task ner`: the whole way with each head, nested entities, the command, what is refused."""

import json
import os

import numpy as np
import pytest
from helpers import tiny_bert_folder
from tasks import write_entities

from kexue_keras.backend import K
from kexue_keras.cli import main as cli
from kexue_keras.data import read_entities
from kexue_keras.errors import UserError
from kexue_keras.finetune import Classifier, EntityRecognizer, finetune
from kexue_keras.finetune.named_entities import Entity

SMALL = dict(
    task="ner",
    num_hidden_layers=1,
    head_size=16,
    epochs=6,
    batch_size=8,
    max_length=24,
    learning_rate=1e-2,
    dropout_rate=0.0,
    valid_share=0.2,
    quiet=True,
    seed=3,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("entities")
    K.clear_session()
    tiny_bert_folder(str(folder / "tiny"), num_hidden_layers=1)
    write_entities(str(folder / "train.bmes"), 48)
    examples = read_entities(folder / "train.bmes")
    with open(str(folder / "nested.jsonl"), "w", encoding="utf-8") as handle:
        for text, spans in zip(examples.texts, examples.labels):
            whole = (1, 7, "ALL")
            rows = [{"start": s, "end": e, "label": label} for s, e, label in spans + (whole,)]
            handle.write(json.dumps({"text": text, "entities": rows}, ensure_ascii=False) + "\n")
    return folder


def options_of(place, out, **changes):
    options = dict(SMALL, model=str(place / "tiny"), data=str(place / "train.bmes"), out=str(place / out))
    return dict(options, **changes)


LOAD = """
import sys
from kexue_keras.finetune import EntityRecognizer
for entity in EntityRecognizer.load(sys.argv[1]).predict([sys.argv[2]])[0]:
    print("%d %d %s %s %.4f" % entity)
"""


@pytest.mark.parametrize("head", ["global-pointer", "efficient-global-pointer", "crf"])
def test_trained_scored_saved_and_asked(head, place, run_python):
    K.clear_session()
    options = options_of(place, head, head=head, test=str(place / "train.bmes"))
    metrics = finetune(**options)
    assert metrics["main_metric"] == "f1" and len(metrics["history"]) == 6
    best = max(metrics["history"], key=lambda row: row["valid_f1"])
    assert best["valid_f1"] == metrics["history"][metrics["best_epoch"] - 1]["valid_f1"] > 0.5
    test = metrics["test"]
    assert test["entities"] == 96 and set(test["classes"]) == {"PER", "LOC"} and test["f1"] > 0.5
    assert abs(test["seqeval"]["f1"] - test["f1"]) < 1e-12
    low, high = test["f1_interval"]
    assert 0 <= low <= test["f1"] <= high <= 1
    assert finetune(resume=True, **options) == metrics
    rows = rows_of(place / head / "predictions.tsv")
    assert rows.pop(0) == ["line", "start", "end", "label", "verdict", "score", "entity"]
    verdicts = [row[4] for row in rows]
    assert verdicts.count("right") + verdicts.count("missed") == 96
    assert verdicts.count("right") / (96 + verdicts.count("right") + verdicts.count("wrong")) * 2 == test["f1"]
    # The saved run says the same, here and in a fresh process, whatever the characters are like.
    K.clear_session()
    recognizer = EntityRecognizer.load(place / head)
    examples = read_entities(place / "train.bmes")
    found = recognizer.predict(examples.texts)
    right = sum(len(set(spans) & {e[:3] for e in one}) for spans, one in zip(examples.labels, found))
    assert right == verdicts.count("right") and recognizer.truncated == 0
    assert recognizer.predict([]) == [] and recognizer.predict(["", " \u200b"]) == [[], []]
    text = "\u3000他的一在\u200b店\ufe0f有书好😀"
    (entities,) = recognizer.predict([text])
    printed = run_python(LOAD, place / head, text).splitlines()
    assert printed == ["%d %d %s %s %.4f" % entity for entity in entities]
    for entity in entities:
        assert isinstance(entity, Entity) and entity.text == text[entity.start : entity.end] and 0 < entity.score <= 1


def rows_of(path):
    with open(str(path), encoding="utf-8") as handle:
        return [line.rstrip("\n").split("\t") for line in handle]


def test_nested_entities_and_the_command(place, capsys, tmp_path):
    K.clear_session()
    options = options_of(
        place, "nested", data=str(place / "nested.jsonl"), head="global-pointer", epochs=8, quiet=False
    )
    said = []
    metrics = finetune(say=said.append, **options)
    assert metrics["valid"]["classes"]["ALL"]["f1"] > 0.5 and metrics["valid"]["seqeval"] is None
    assert any("some entities overlap" in line for line in said)
    assert any("no scores of seqeval: entities overlap" in line for line in said)
    texts = ["他的一在店有书好", " 他一是在有书房好好"]
    (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    K.clear_session()
    capsys.readouterr()
    command = ["predict", "--run", str(place / "nested"), "--data", str(tmp_path / "texts.txt"), "--quiet"]
    assert cli.main(command) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["text"] for row in rows] == texts
    for row in rows:
        for entity in row["entities"]:
            assert entity["text"] == row["text"][entity["start"] : entity["end"]] and set(entity) == set(Entity._fields)
    # As JSON lines what is found can be trained on; as TSV it is a table.
    out = str(tmp_path / "found.jsonl")
    assert cli.main(command + ["--out", out]) == 0
    if any(row["entities"] for row in rows):
        again = read_entities(out)
        assert [len(spans) for spans in again.labels] == [len(row["entities"]) for row in rows]
    assert cli.main(command + ["--out", str(tmp_path / "found.tsv")]) == 0
    table = rows_of(tmp_path / "found.tsv")
    assert table[0] == ["number", "start", "end", "label", "score", "entity"]
    assert len(table) == 1 + sum(len(row["entities"]) for row in rows)
    assert cli.main(command + ["--no-text"]) == 0
    assert "text" not in json.loads(capsys.readouterr().out.splitlines()[0])
    # A run of entities is none of labels, and the other way round.
    with pytest.raises(UserError, match="read it with EntityRecognizer.load"):
        Classifier.load(place / "nested")
    for name, message in (("export", "cannot be exported yet"), ("serve", "cannot be served")):
        given = (
            [str(place / "nested"), "--out", str(tmp_path / "x")]
            if name == "export"
            else ["--run", str(place / "nested")]
        )
        assert cli.main([name] + given) == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data": "nested.jsonl", "head": "crf"}, r"nested.jsonl:1: the entities .* overlap, and a CRF gives each"),
        ({"test": "other.jsonl"}, "other.jsonl:1: unknown label 'X'; .*train.bmes has LOC, PER"),
        ({"data": "none.jsonl"}, "none.jsonl: there is no entity in it"),
        ({"rdrop": 4.0, "dropout_rate": 0.1}, "--rdrop does not go with --task ner"),
        ({"gradient_penalty": 1.0, "head": "crf"}, "--gradient-penalty does not go with --head crf"),
        ({"text_b_column": "b"}, "--text-b-column does not go with --task ner"),
        ({"class_weights": "balanced"}, "--class-weights does not go with --task ner"),
        ({"max_length": 2}, "--max-length is 2"),
        ({"head": "softmax"}, "--head is 'softmax'"),
        ({"head_size": 7}, "--head-size is 7; .*an even whole number from 2"),
        ({"format": "csv"}, "--format csv does not go with --task ner"),
    ],
)
def test_what_is_refused(changes, message, place):
    rows = {"other.jsonl": [{"start": 0, "end": 1, "label": "X"}], "none.jsonl": []}
    for name, entities in rows.items():
        (place / name).write_text(json.dumps({"text": "好书", "entities": entities}) + "\n", encoding="utf-8")
    changes = {key: str(place / value) if key in ("data", "test") else value for key, value in changes.items()}
    with pytest.raises(UserError, match=message):
        finetune(**options_of(place, "refused", **changes))
    assert not os.path.exists(str(place / "refused"))


def test_a_run_that_was_changed_is_refused(place, tmp_path):
    K.clear_session()
    finetune(**options_of(place, "changed", epochs=1, head="crf"))
    config = json.loads((place / "changed" / "config.json").read_text(encoding="utf-8"))
    with np.load(str(place / "changed" / "head.npz")) as packed:
        arrays = dict(packed)

    def loaded(config=config, arrays=arrays):
        (place / "changed" / "config.json").write_text(json.dumps(config), encoding="utf-8")
        np.savez(str(place / "changed" / "head.npz"), **arrays)
        K.clear_session()
        return EntityRecognizer.load(place / "changed")

    loaded()
    for change, message in (
        ({"config": dict(config, head="softmax")}, "head is \"softmax\"|head is 'softmax'"),
        ({"config": dict(config, flat=None)}, "flat is None; true or false"),
        ({"config": dict(config, labels=["x"])}, "of the head is .*with the encoder and the labels of this run"),
        ({"arrays": dict(arrays, **{"logits/0": arrays["logits/0"] * np.nan})}, "NaN or infinite"),
    ):
        with pytest.raises(UserError, match=message):
            loaded(**change)
    loaded()
    os.remove(str(place / "changed" / "head.npz"))
    with pytest.raises(UserError, match="the run is not finished"):
        EntityRecognizer.load(place / "changed")
