"""Every two of the techniques that change a training step go together, or say that they don't.

Without dropout most of them leave the trained weights what they are: recompute and the gradient cache change what is
kept in memory, a loss scale and an average what is stored, R-Drop has nothing to compare, accumulation over the same
batch twice is one step with it, and a run that was stopped goes on. So each pair has to end with the weights of plain
training, or with those of FGM alone.
"""

import itertools
import warnings

import numpy as np
import pytest

from kexue_keras.backend import K, keras
from kexue_keras.losses import RDropCrossentropy
from kexue_keras.optimizers import ExponentialMovingAverage, GradientAccumulation
from kexue_keras.training import rdrop
from kexue_keras.training._randomness import repeatable_dropout
from kexue_keras.training.adversarial import FGM
from kexue_keras.training.gradient_cache import GradientCache
from kexue_keras.training.precision import LossScale
from kexue_keras.training.recompute._recompute import recompute

FEATURES = (
    "accumulation",
    "recompute",
    "gradient cache",
    "FGM",
    "R-Drop",
    "average",
    "loss scale",
    "resume",
)
PAIRS = list(itertools.combinations(FEATURES, 2))
# Pair -> what is raised, and words of it.
REFUSED = {("gradient cache", "FGM"): (NotImplementedError, "GradientCache")}
STEPS = 2


class Run(object):
    """A tiny classifier with some of the features, trained step by step."""

    def __init__(self, features, dropout):
        self.features = features
        with repeatable_dropout(5) as self.step:
            tokens = keras.layers.Input([None])
            self.layers = [keras.layers.Embedding(12, 4), keras.layers.Dense(8, activation="softplus")]
            if "recompute" in features:
                recompute(self.layers[1])
            x = keras.layers.Dropout(dropout)(self.layers[0](tokens))
            x = keras.layers.GlobalAveragePooling1D()(self.layers[1](x))
            if "gradient cache" in features:
                encoder = keras.models.Model(tokens, x)
                tokens = keras.layers.Input([None])
                x = GradientCache(encoder, chunk_size=3)(tokens)
            self.layers.append(keras.layers.Dense(3))
            model = keras.models.Model(tokens, self.layers[2](x))
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            if "R-Drop" in features:
                model = rdrop(model)
                loss = RDropCrossentropy(alpha=2.0, from_logits=True, convention="mean")
        # tf.keras leaves the momentum of absent tokens alone where the gradient of an embedding is sparse, so that
        # dense gradients would give other weights; without dropout weights are compared.
        optimizer = keras.optimizers.SGD(0.3, momentum=0.5 if dropout else 0.0)
        if "average" in features:
            optimizer = ExponentialMovingAverage(optimizer, 0.9)
        if "accumulation" in features:
            optimizer = GradientAccumulation(optimizer, 2)
        if "loss scale" in features:
            optimizer = LossScale(optimizer, 1024.0)
        random = np.random.RandomState(3)
        for layer in self.layers:
            layer.set_weights([random.standard_normal(w.shape) / 2 for w in layer.get_weights()])
        model.compile(optimizer, loss)
        if "FGM" in features:
            FGM(model, epsilon=0.5, attack_dropout="R-Drop" in features)
        self.model = model

    def train(self, first, last):
        """Micro steps `first` to `last`; returns the losses."""
        losses = []
        for i in range(first, last):
            # With accumulation each batch comes twice.
            number = i // 2 if "accumulation" in self.features else i
            random = np.random.RandomState(number)
            x, y = random.randint(12, size=(7, 4)), random.randint(3, size=(7, 1))
            self.step.set(i)
            losses.append(np.ravel(self.model.train_on_batch(x, y))[0])
        return losses

    def weights(self):
        """All weights as one vector."""
        return np.concatenate([w.ravel() for layer in self.layers for w in layer.get_weights()])


def train(features, dropout=0.0):
    """(weights before, weights after, losses) of a run with these features."""
    steps = STEPS * (2 if "accumulation" in features else 1)
    with warnings.catch_warnings():
        # R-Drop says that there is no dropout.
        warnings.simplefilter("ignore")
        run = Run(features, dropout)
        before = run.weights()
        half = steps // 2 if "resume" in features else steps
        losses = run.train(0, half)
        if half < steps:
            saved = run.model.get_weights(), run.model.optimizer.get_weights()
            K.clear_session()
            run = Run(features, dropout)
            # Keras makes the slots at the first step.
            run.train(0, 1)
            run.model.optimizer.set_weights(saved[1])
            run.model.set_weights(saved[0])
            losses += run.train(half, steps)
    return before, run.weights(), losses


@pytest.fixture(scope="module")
def references():
    """Weights after plain training and after training with FGM alone."""
    found = {}
    for features in ((), ("FGM",)):
        K.clear_session()
        before, found[features], _ = train(features)
        assert np.abs(found[features] - before).max() > 0.05
    assert np.abs(found[()] - found[("FGM",)]).max() > 1e-3
    return found


@pytest.mark.dear
@pytest.mark.parametrize("pair", PAIRS, ids=" x ".join)
def test_pair(pair, references):
    if pair in REFUSED:
        error, words = REFUSED[pair]
        with pytest.raises(error, match=words):
            train(pair)
        return
    _, weights, losses = train(pair)
    assert np.isfinite(losses).all()
    expected = references[("FGM",) if "FGM" in pair else ()]
    np.testing.assert_allclose(weights, expected, atol=2e-6)


@pytest.mark.dear
@pytest.mark.parametrize("feature", ["recompute", "gradient cache", "FGM", "R-Drop"])
def test_a_stopped_run_goes_on_with_the_same_dropout(feature):
    whole = train((feature,), dropout=0.3)
    K.clear_session()
    stopped = train((feature, "resume"), dropout=0.3)
    np.testing.assert_allclose(stopped[1], whole[1], atol=1e-6)
    np.testing.assert_allclose(stopped[2], whole[2], rtol=1e-6)


def test_all_at_once(references):
    features = [f for f in FEATURES if f != "resume"]
    _, weights, _ = train(tuple(f for f in features if f != "gradient cache"))
    np.testing.assert_allclose(weights, references[("FGM",)], atol=2e-6)
    K.clear_session()
    _, weights, _ = train(tuple(f for f in features if f != "FGM"))
    np.testing.assert_allclose(weights, references[()], atol=2e-6)
