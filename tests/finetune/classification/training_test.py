"""Fine-tuning as a function: pairs, several labels, frozen layers, class weights, what is refused and what is said."""

import json
import os

import numpy as np
import pytest
from reviews import reviews, write_rows

from kexue_keras.backend import keras
from kexue_keras.errors import UserError
from kexue_keras.finetune import Classifier, finetune
from kexue_keras.finetune._schedule import warmup_updates
from kexue_keras.finetune.classification._class_weights import read_weights
from kexue_keras.options.finetune import defaults, make_options
from kexue_keras.similarity import Reranker
from kexue_keras.trainer import Techniques, Trainer

SMALL = dict(epochs=1, batch_size=16, max_length=24, learning_rate=3e-3, quiet=True, seed=3)


def test_pairs_in_a_table_with_header_and_prediction_by_order(tiny, tmp_path):
    rows = [("query", "label", "reply")] + [
        (a, "01"[i % 2], b) for i, ((a, _), (b, _)) in enumerate(zip(reviews(40), reviews(40, 1)))
    ]
    data = write_rows(tmp_path / "train.tsv", rows)
    said = []
    options = dict(SMALL, quiet=False, max_length=12, num_hidden_layers=1)
    metrics = finetune(
        tiny,
        data,
        str(tmp_path / "run"),
        text_column="query",
        text_b_column="reply",
        pooling="cls",
        say=said.append,
        **options,
    )
    assert metrics["valid"]["texts"] == 4
    said = "\n".join(said)
    assert "text = 'query', text b = 'reply', label = 'label'" in said
    assert "texts are longer than 12 tokens and were truncated" in said
    classifier = Classifier.load(str(tmp_path / "run"))
    pairs = [(a, b) for (a, _), (b, _) in zip(reviews(21, 5), reviews(21, 6))]
    together = classifier.probabilities(pairs)
    assert together.shape == (21, 2) and np.allclose(together.sum(axis=1), 1)
    # Whatever batch and padding a pair is in, it gets the same probabilities, in the order of the input.
    alone = np.concatenate([classifier.probabilities([pair]) for pair in pairs])
    assert np.allclose(together, alone, atol=1e-5)
    assert np.ptp(together[:, 0]) > 0
    np.testing.assert_array_equal(Reranker(classifier).score(pairs), together[:, classifier.labels.index("1")])
    with pytest.raises(UserError, match="takes pairs"):
        classifier.predict(["好书"])
    assert classifier.predict([]) == []
    with open(str(tmp_path / "run" / "config.json"), encoding="utf-8") as handle:
        config = json.load(handle)
    assert config["columns"] == {"text": "query", "text_b": "reply", "label": "label"}
    assert config["options"]["data"] == data and os.path.isabs(config["options"]["data"])


def test_several_labels_and_max_pooling(tiny, tmp_path):
    rows = []
    for i, (text, label) in enumerate(reviews(40)):
        rows.append((label if i % 3 else label + "|长", text))
    data = write_rows(tmp_path / "train.csv", [("label", "content")] + rows, separator=",")
    metrics = finetune(
        tiny, data, str(tmp_path / "run"), label_separator="|", pooling="max", **dict(SMALL, num_hidden_layers=1)
    )
    assert metrics["main_metric"] == "micro_f1" and metrics["majority"] is None
    assert set(metrics["valid"]["classes"]) == {"好评", "差评", "长"}
    labels, probabilities = Classifier.load(str(tmp_path / "run")).predict(["好书"])[0]
    assert isinstance(labels, list) and len(labels) == len(probabilities)


def test_frozen_layers_class_weights_and_what_callbacks_see(tiny, tmp_path, monkeypatch):
    seen, train = {"logs": []}, Trainer._train

    def spied(trainer):
        seen["before"] = {layer.name: layer.get_weights() for layer in trainer.model.layers}
        see = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen["logs"].append(logs))
        seen["trainer"] = trainer
        trainer.callbacks.append(see)
        train(trainer)

    monkeypatch.setattr(Trainer, "_train", spied)
    rows = reviews(20) + [("好书%s" % ("好" * i), "好评") for i in range(20)]
    (tmp_path / "w.tsv").write_text("好评\t0.5\n差评\t3\n", encoding="utf-8")
    weights, data = str(tmp_path / "w.tsv"), write_rows(tmp_path / "train.tsv", rows)
    finetune(tiny, data, str(tmp_path / "run"), train_layers=1, class_weights=weights, warmup=0, **SMALL)
    (logs,) = seen["logs"]
    assert {"loss", "accuracy", "val_loss", "val_accuracy"} <= set(logs)
    trainer = seen["trainer"]
    assert trainer.progress.steps == 3 == len(trainer.losses)
    moved = {
        layer.name
        for layer in trainer.model.layers
        if any(not np.array_equal(a, b) for a, b in zip(seen["before"][layer.name], layer.get_weights()))
    }
    assert "logits" in moved and "Transformer-1-FeedForward" in moved
    assert not any(name.startswith(("Embedding", "Transformer-0-")) for name in moved)
    labels = Classifier.load(str(tmp_path / "run")).labels
    by_class = np.array([{"好评": 0.5, "差评": 3.0}[name] for name in labels])
    for step in range(3):
        _, targets, given = trainer.make_batch(step)
        assert np.allclose(given, by_class[targets])


def test_a_loss_that_explodes_is_explained(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "_train_on_batch", lambda *_: [float("nan"), 0.0])
    data = write_rows(tmp_path / "train.tsv", reviews(30))
    with pytest.raises(UserError, match="the loss became nan at step 1; a lower --learning-rate"):
        finetune(tiny, data, str(tmp_path / "run"), num_hidden_layers=1, **SMALL)


def test_refused_by_the_function(tiny, tmp_path):
    with pytest.raises(TypeError, match="no option epoch"):
        finetune(tiny, "train.tsv", str(tmp_path / "run"), epoch=3)
    with pytest.raises(UserError, match="--data is needed"):
        finetune(tiny, None, str(tmp_path / "run"))
    with pytest.raises(UserError, match="no config.json"):
        Classifier.load(str(tmp_path))
    data = write_rows(
        tmp_path / "several.csv",
        [("label", "text")] + [("ab"[i % 2] + "|c", t) for i, (t, _) in enumerate(reviews(40))],
        ",",
    )
    with pytest.raises(UserError, match="one label each"):
        finetune(tiny, data, str(tmp_path / "run"), label_separator="|", class_weights="balanced", **SMALL)
    assert not os.path.exists(str(tmp_path / "run"))


def test_an_unfinished_run_cannot_predict(tmp_path):
    (tmp_path / "config.json").write_text('{"options": {}, "fingerprints": {}}')
    with pytest.raises(UserError, match="not finished"):
        Classifier.load(str(tmp_path))


def test_weights_file(tmp_path):
    path = tmp_path / "w.tsv"
    path.write_text("a\t2\nb\t.5\n")
    assert list(read_weights(str(path), ["b", "a"])) == [0.5, 2]
    for content, words in [
        ("a\t1\n", "no weight for b"),
        ("c\t1\n", "unknown label 'c'"),
        ("a\t0\n", "'0' is no positive"),
    ]:
        path.write_text(content)
        with pytest.raises(UserError, match=words):
            read_weights(str(path), ["a", "b"])


def test_options_have_one_source():
    assert make_options(epochs=7).epochs == 7
    known = defaults()
    for name in ("warmup", "schedule", "class_weights", "train_layers", "pooling", "save_every", "bucketing"):
        assert name in known
    # Each setting of a technique is an option of the same name.
    assert set(Techniques.__init__.__kwdefaults__) - {"spelling"} <= set(known)
    assert warmup_updates(0.1, 1000) == 100
    assert warmup_updates(5, 3) == 2
