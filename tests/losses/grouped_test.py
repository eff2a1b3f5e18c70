"""Cross-entropy in groups against the oracle of kexue.fm/archives/8541's head and against float64 numpy."""

import numpy as np
import pytest
import tensorflow as tf

from kexue_keras.backend import K, tf1
from kexue_keras.losses import GroupedCrossentropy, grouped_crossentropy

GROUPS = (2, 3)


def by_numpy(labels, logits, groups):
    ends = np.cumsum(groups)
    out = []
    for y, s in zip(labels, logits.astype("float64")):
        g = int(np.searchsorted(ends, y, side="right"))
        part = s[ends[g] - groups[g] : ends[g]]
        out.append(np.log(np.exp(part - part.max()).sum()) + part.max() - s[y])
    return np.array(out)


def test_oracle():
    values = K.eval(grouped_crossentropy([1, 3], np.array([[1, 2, 0.5, -0.5, 0]] * 2), groups=GROUPS))
    np.testing.assert_allclose(values, [0.31326168751822303, 1.6802696706417346], rtol=1e-12)
    assert abs(values.mean() - 0.9967656790799788) < 1e-12


def test_values_gradients_and_the_other_groups(rng):
    labels, logits = rng.randint(0, 5, (40, 1)), rng.randn(40, 5) * 4
    given = tf.constant(logits)
    values = grouped_crossentropy(tf.constant(labels), given, groups=GROUPS)
    gradient = tf.gradients(values, given)[0]
    values, gradient = tf1.Session().run([values, gradient])
    np.testing.assert_allclose(values, by_numpy(labels[:, 0], logits, GROUPS), rtol=1e-10)
    other = (labels >= 2) != (np.arange(5) >= 2)
    assert not gradient[other].any() and np.allclose(gradient.sum(axis=1), 0, atol=1e-12)
    wild = np.where(other, rng.choice([-np.inf, 300.0], other.shape), logits)
    same = K.eval(grouped_crossentropy(tf.constant(labels), tf.constant(wild), groups=GROUPS))
    np.testing.assert_allclose(same, values, rtol=1e-10)


def test_config_and_what_is_refused():
    loss = GroupedCrossentropy((2, 3))
    assert GroupedCrossentropy.from_config(loss.get_config()).get_config() == loss.get_config()
    for groups in ((), (1, 2), (2.5,), ("a",)):
        with pytest.raises(ValueError, match="groups"):
            GroupedCrossentropy(groups)
    with pytest.raises(ValueError, match="have 5 classes, y_pred has 4"):
        grouped_crossentropy([0], tf.zeros([1, 4]), groups=GROUPS)
    with pytest.raises(tf.errors.InvalidArgumentError, match="labels must lie in 0 .. 4"):
        K.eval(grouped_crossentropy([5], tf.zeros([1, 5]), groups=GROUPS))
