"""A head that starts as a regression: the probabilities of scikit-learn's, at the start of a training, and refusals."""

import numpy as np
import pytest
from reviews import reviews, write_rows
from scipy.special import softmax

from kexue_keras.errors import UserError
from kexue_keras.finetune import Classifier, finetune
from kexue_keras.finetune._heads import dense_weights, pooled

linear_model = pytest.importorskip("sklearn.linear_model")
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


def test_what_is_refused(tiny, tmp_path):
    rows = [("label", "text")] + [("ab"[i % 2] + "|c", text) for i, (text, _) in enumerate(reviews(40))]
    several = write_rows(tmp_path / "several.csv", rows, ",")
    for more in ({"label_separator": "|"}, {"task": "similarity"}):
        with pytest.raises(UserError, match="--head-init probe takes a regression with one class a text"):
            finetune(tiny, several, str(tmp_path / "run"), head_init="probe", **dict(SMALL, **more))
    with pytest.raises(UserError, match="--head-init is 'svm'"):
        finetune(tiny, several, str(tmp_path / "run"), head_init="svm", **SMALL)
