"""A head that is a regression, at the start of a training or for good: scikit-learn's probabilities, and refusals."""

import os
import warnings

import numpy as np
import pytest
from reviews import reviews, write_rows
from scipy.special import expit, softmax

from kexue_keras.errors import UserError
from kexue_keras.finetune import Classifier, finetune
from kexue_keras.finetune.classification._regression import check_two_classes, dense_weights, pooled, several_weights
from kexue_keras.models import load

linear_model = pytest.importorskip("sklearn.linear_model")
multiclass = pytest.importorskip("sklearn.multiclass")
preprocessing = pytest.importorskip("sklearn.preprocessing")
SMALL = dict(batch_size=16, max_length=24, quiet=True, seed=3, num_hidden_layers=1)


@pytest.mark.parametrize("classes", [[0, 1], [0, 2], [0, 1, 2]])
def test_the_layer_is_the_regression(rng, classes):
    x, y = rng.randn(60, 5) * [1, 10, 0.1, 1, 3] + 7, np.array(classes * 30)[:60]
    x[:, 0] += y
    scaler = preprocessing.StandardScaler().fit(x)
    regression = linear_model.LogisticRegression(C=0.3).fit(scaler.transform(x), y)
    kernel, bias = dense_weights(regression, scaler, 3)
    assert kernel.shape == (5, 3) and bias.shape == (3,)
    got = softmax(x @ kernel + bias, axis=1)
    expected = regression.predict_proba(scaler.transform(x))
    np.testing.assert_allclose(got[:, classes] / got[:, classes].sum(axis=1, keepdims=True), expected, atol=1e-9)
    absent = sorted({0, 1, 2} - set(classes))
    assert got[:, absent].max(initial=0) < 1e-2


def test_training_starts_from_it(tiny, tmp_path):
    train, valid = reviews(40), reviews(20, 1)
    data, held = (
        write_rows(tmp_path / name, [("text", "label")] + rows, separator="\t")
        for name, rows in (("train.tsv", train), ("valid.tsv", valid))
    )
    said, scores = [], {}
    for init in ("random", "probe"):
        # A rate at which nothing moves: what is measured is the start.
        options = dict(SMALL, valid=held, epochs=1, learning_rate=1e-12, head_init=init)
        out = str(tmp_path / init)
        scores[init] = finetune(tiny, data, out, say=said.append, **dict(options, quiet=init == "random"))["valid"]
    line = next(line for line in said if "starts as a regression" in line)
    assert "accuracy %.4f" % scores["probe"]["accuracy"] in line
    assert scores["probe"]["loss"] < scores["random"]["loss"]
    classifier = Classifier.load(str(tmp_path / "probe"))
    x, x_valid = (pooled(classifier, classifier.encode([text for text, _ in rows])) for rows in (train, valid))
    scaler = preprocessing.StandardScaler().fit(x)
    strength = float(line.split("(C ")[1].rstrip(")"))
    regression = linear_model.LogisticRegression(C=strength, max_iter=2000)
    regression.fit(scaler.transform(x), [classifier.labels.index(label) for _, label in train])
    expected = regression.predict_proba(scaler.transform(x_valid))
    got = classifier.probabilities([text for text, _ in valid])
    # C is said with two digits.
    np.testing.assert_allclose(got, expected, atol=5e-3)


@pytest.mark.parametrize("loss", ["zlpr", "sigmoid"])
def test_training_with_several_labels_starts_from_one_each(tiny, tmp_path, loss):
    texts = [text + "好坏"[i % 2] for i, (text, _) in enumerate(reviews(40))]
    labels = [["每"] + ["偶"] * (i % 2 == 0) + ["三"] * (i % 3 == 0) for i in range(40)]
    labels[7] += ["一"]
    rows = [("text", "label")] + [(text, "|".join(several)) for text, several in zip(texts, labels)]
    data, held = (
        write_rows(tmp_path / name, rows[:1] + part, separator="\t")
        for name, part in (("train.tsv", rows[1:31]), ("valid.tsv", rows[31:]))
    )
    said, out = [], str(tmp_path / "run")
    options = dict(SMALL, valid=held, epochs=1, learning_rate=1e-12, label_separator="|", multilabel_loss=loss)
    metrics = finetune(tiny, data, out, head_init="probe", say=said.append, **dict(options, quiet=False))
    line = next(line for line in said if "starts as a regression" in line)
    assert "one a label: micro F1 %.4f" % metrics["valid"]["micro_f1"] in line
    classifier = Classifier.load(out)
    x, x_valid = (pooled(classifier, classifier.encode(part)) for part in (texts[:30], texts[30:]))
    scaler = preprocessing.StandardScaler().fit(x)
    y = np.array([[name in several for name in classifier.labels] for several in labels[:30]]).astype(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        regression = multiclass.OneVsRestClassifier(
            linear_model.LogisticRegression(C=float(line.split("(C ")[1].rstrip(")")), max_iter=2000)
        ).fit(scaler.transform(x), y)
        expected = regression.predict_proba(scaler.transform(x_valid))
    got = expit(classifier.logits(classifier.encode(texts[30:])))
    np.testing.assert_allclose(got, expected, atol=5e-3)  # C is said with two digits


def test_frozen_is_the_regression_alone(tiny, tmp_path):
    train, valid = reviews(60), reviews(20, 1)
    data, held = (
        write_rows(tmp_path / name, [("text", "label")] + rows, separator="\t")
        for name, rows in (("train.tsv", train + train[:4]), ("valid.tsv", valid))
    )
    out, said = str(tmp_path / "run"), []
    options = dict(SMALL, valid=held, frozen=True, class_weights="balanced", quiet=False, say=said.append)
    metrics = finetune(tiny, data, out, **options)
    found = metrics["frozen"]
    line = next(line for line in said if "frozen encoder" in line)
    assert "accuracy %.4f in 5-fold cross-validation (C %.2g)" % (found["score"], found["C"]) in line
    assert metrics["best_epoch"] is None and metrics["history"] == [] and not os.path.exists(out + "/curves.png")
    classifier = Classifier.load(out)
    for before, after in zip(weights_of(tiny), weights_of(out + "/encoder")):
        np.testing.assert_array_equal(before, after)
    x, x_valid = (
        pooled(classifier, classifier.encode([text for text, _ in rows])) for rows in (train + train[:4], valid)
    )
    y = np.array([classifier.labels.index(label) for _, label in train + train[:4]])
    scaler = preprocessing.StandardScaler().fit(x)
    regression = linear_model.LogisticRegression(C=found["C"], max_iter=2000)
    regression.fit(scaler.transform(x), y, sample_weight=(len(y) / (2 * np.bincount(y)))[y])
    expected = regression.predict_proba(scaler.transform(x_valid))
    got = classifier.probabilities([text for text, _ in valid])
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert metrics["valid"]["accuracy"] == np.mean(
        got.argmax(1) == [classifier.labels.index(label) for _, label in valid]
    )
    assert finetune(tiny, data, out, **dict(options, resume=True)) == metrics  # it is finished already


def weights_of(model):
    return load(model, num_hidden_layers=1).model.get_weights()


def test_frozen_with_several_labels_and_with_rare_ones(tiny, tmp_path):
    texts = [text + "好坏"[i % 2] for i, (text, _) in enumerate(reviews(40))]
    labels = ["|".join(["偶"] * (i % 2 == 0) + ["三"] * (i % 3 == 0) + ["每"]) for i in range(40)]
    labels[7] += "|一"
    data = write_rows(tmp_path / "several.tsv", [("text", "label")] + list(zip(texts, labels)), separator="\t")
    out = str(tmp_path / "several")
    metrics = finetune(tiny, data, out, valid=data, frozen=True, label_separator="|", **SMALL)
    assert metrics["main_metric"] == "micro_f1" and metrics["valid"]["micro_f1"] > 0.8
    assert metrics["valid"]["classes"]["每"]["recall"] == 1
    rare = [("好", "text %d 好" % i) for i in range(8)] + [("坏", "坏")]
    data = write_rows(tmp_path / "rare.tsv", [("label", "text")] + rare, separator="\t")
    metrics = finetune(tiny, data, str(tmp_path / "rare"), valid=data, frozen=True, **SMALL)
    assert metrics["frozen"]["folds"] == 5 and metrics["valid"]["texts"] == 9
    with pytest.raises(UserError, match="--frozen takes training texts of two classes at least"):
        check_two_classes(np.ones(3), "--frozen")


def test_a_label_of_all_texts_or_none_has_a_constant_answer(rng):
    x = rng.randn(30, 4)
    y = np.stack([x[:, 0] > 0, np.ones(30), np.zeros(30)], axis=1).astype(int)
    scaler = preprocessing.StandardScaler().fit(x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        several = multiclass.OneVsRestClassifier(linear_model.LogisticRegression()).fit(scaler.transform(x), y)
        expected = several.predict_proba(scaler.transform(x))
    kernel, bias = several_weights(several, scaler, 3)
    np.testing.assert_allclose(expit(x @ kernel + bias), expected, atol=1e-4)
    np.testing.assert_allclose(expit(x @ kernel + bias)[:, 0], expected[:, 0], atol=1e-12)


def test_what_is_refused(tiny, tmp_path):
    rows = [("label", "text")] + [("ab"[i % 2] + "|c", text) for i, (text, _) in enumerate(reviews(40))]
    several = write_rows(tmp_path / "several.csv", rows, ",")
    for more, message in (
        ({"task": "similarity"}, "--head-init probe takes labels of texts, which --task similarity has not"),
        ({"frozen": True}, "--frozen trains no encoder, so there is nothing for --head-init to do"),
    ):
        with pytest.raises(UserError, match=message):
            finetune(tiny, several, str(tmp_path / "run"), head_init="probe", **dict(SMALL, **more))
    for more, message in (
        ({"task": "similarity"}, "--frozen takes labels of texts, which --task similarity has not"),
        ({"task": "math-word-problems"}, "--frozen takes labels of texts, which --task math-word-problems has not"),
        ({"fgm": 0.5, "accumulate": 2}, "nothing for --accumulate, --fgm to do; leave one of them out"),
        ({"train_layers": 1}, "nothing for --train-layers to do"),
    ):
        with pytest.raises(UserError, match=message):
            finetune(tiny, several, str(tmp_path / "run"), frozen=True, **dict(SMALL, **more))
    with pytest.raises(UserError, match="--head-init is 'svm'"):
        finetune(tiny, several, str(tmp_path / "run"), head_init="svm", **SMALL)
