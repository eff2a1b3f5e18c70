"""The loss of a CRF: partition by all sequences, finite differences, gaps, a row without tags, what is refused."""

import itertools

import numpy as np
import pytest
from loss_graphs import evaluator

from kexue_keras.backend import keras, tf1
from kexue_keras.layers import LinearChainCRF
from kexue_keras.losses import crf_negative_log_likelihood

TAGS = 3
LABELS = np.array([[0, 2, 1, 1], [-1, 0, 2, -1], [1, -1, 2, -1], [-1, -1, -1, -1], [-1, -1, -1, 2]])


@pytest.fixture
def outputs():
    return np.random.RandomState(4).randn(len(LABELS), TAGS + 2 + LABELS.shape[1], TAGS)


def by_enumeration(outputs, labels):
    """Float64, over all sequences of tags at the places that have one."""
    values = []
    for y, row in zip(outputs, labels):
        start, end, between, at = y[0], y[1], y[2 : TAGS + 2], y[TAGS + 2 :][row >= 0]

        def score(tags):
            inner = sum(at[t, tag] for t, tag in enumerate(tags))
            return start[tags[0]] + inner + sum(between[a, b] for a, b in zip(tags, tags[1:])) + end[tags[-1]]

        right = row[row >= 0]
        if not len(right):
            values.append(0.0)
            continue
        every = [score(tags) for tags in itertools.product(range(TAGS), repeat=len(right))]
        values.append(np.log(np.sum(np.exp(every))) - score(right))
    return np.array(values)


def test_value_and_gradient(outputs):
    loss = evaluator(crf_negative_log_likelihood, ("int32", [None, None]), ("float64", [None, None, TAGS]), wrt=1)
    value, gradient = loss(LABELS, outputs)
    np.testing.assert_allclose(value, by_enumeration(outputs, LABELS), rtol=1e-12, atol=1e-12)
    expected = np.zeros_like(outputs)
    for place in np.ndindex(*outputs.shape):
        step = np.zeros_like(outputs)
        step[place] = 1e-6
        difference = by_enumeration(outputs + step, LABELS) - by_enumeration(outputs - step, LABELS)
        expected[place] = difference[place[0]] / 2e-6
    np.testing.assert_allclose(gradient, expected, atol=1e-8)


def test_other_lengths_and_large_scores(outputs):
    loss = evaluator(crf_negative_log_likelihood, ("float32", [None, None, 1]), ("float32", [None, None, TAGS]), wrt=1)
    for length in (1, 3):
        some = outputs[:, : TAGS + 2 + length]
        value, gradient = loss(LABELS[:, :length, None], some)
        np.testing.assert_allclose(value, by_enumeration(some, LABELS[:, :length]), rtol=1e-5, atol=1e-6)
        assert np.isfinite(gradient).all()
    value, gradient = loss(LABELS[:, :, None], 1e4 * outputs)
    assert np.isfinite(value).all() and np.isfinite(gradient).all() and (value >= 0).all()


def test_half_precision_is_computed_in_single(outputs):
    loss = evaluator(crf_negative_log_likelihood, ("int32", [None, None]), ("float16", [None, None, TAGS]))
    value = loss(LABELS, outputs)
    assert value.dtype == np.float32
    np.testing.assert_allclose(value, by_enumeration(outputs.astype("float16").astype("float64"), LABELS), rtol=1e-4)


def test_scores_of_what_is_no_tag_do_not_count(outputs):
    loss = evaluator(crf_negative_log_likelihood, ("int32", [None, None]), ("float64", [None, None, TAGS]), wrt=1)
    other = outputs.copy()
    other[:, TAGS + 2 :][LABELS < 0] = 1e6
    for ours, theirs in zip(loss(LABELS, other), loss(LABELS, outputs)):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)


def test_what_is_refused(outputs):
    with pytest.raises(ValueError, match="y_pred .batch, tags . 2 . length, tags."):
        crf_negative_log_likelihood(LABELS, outputs[0])
    with pytest.raises(ValueError, match="the number of tags must be known"):
        crf_negative_log_likelihood(LABELS, tf1.placeholder("float32", [None, None, None]))
    with pytest.raises(ValueError, match="y_true and the scores of y_pred"):
        crf_negative_log_likelihood(LABELS[:, :3], outputs)
    fed = evaluator(crf_negative_log_likelihood, ("int32", [None, None]), ("float64", [None, None, TAGS]))
    for wrong in (TAGS, -2):
        with pytest.raises(Exception, match="tags must be 0 to 2, or -1 for none"):
            fed(np.where(LABELS == 1, wrong, LABELS), outputs)


LOAD = """
import sys
import numpy as np
import kexue_keras
from kexue_keras.backend import keras
model = keras.models.load_model(sys.argv[1] + "/crf.h5")
data = np.load(sys.argv[1] + "/batch.npz")
np.testing.assert_allclose(model.predict_on_batch(data["x"]), data["outputs"], atol=1e-6)
print(float(model.test_on_batch(data["x"], data["y"])), float(model.train_on_batch(data["x"], data["y"])))
"""


def test_a_saved_model_loads_compiled_and_goes_on(tmp_path, run_python):
    ids = keras.layers.Input((None,))
    x = keras.layers.Embedding(20, 8, mask_zero=True)(ids)
    model = keras.models.Model(ids, LinearChainCRF(name="chain")(keras.layers.Dense(TAGS)(x)))
    model.compile("sgd", crf_negative_log_likelihood)
    rng = np.random.RandomState(1)
    x, y = rng.randint(1, 20, (6, 5)), rng.randint(-1, TAGS, (6, 5, 1))
    before = [float(model.train_on_batch(x, y)) for _ in range(8)]
    assert before[-1] < before[0] and np.abs(model.get_layer("chain").get_weights()[2]).max() > 0
    assert model.predict_on_batch(x[:, :2]).shape == (6, 2 + TAGS + 2, TAGS)
    np.savez(str(tmp_path / "batch.npz"), x=x, y=y, outputs=np.asarray(model.predict_on_batch(x)))
    model.save(str(tmp_path / "crf.h5"))
    loss, trained = map(float, run_python(LOAD, tmp_path).split())
    assert abs(loss - float(model.test_on_batch(x, y))) < 1e-4 and abs(trained - loss) < 1e-4
