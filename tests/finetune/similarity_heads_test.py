"""How vectors are trained on scored pairs, and measured: targets of the heads, CoSENT of all pairs, Spearman."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from kexue_keras.backend import K
from kexue_keras.errors import UserError
from kexue_keras.finetune._similarity_heads import HEADS, cosent_value, measure_similarity
from kexue_keras.losses import cosent_loss
from kexue_keras.options.finetune import make_options


def test_heads_and_measures_against_the_losses(rng):
    for scores in (rng.randint(0, 2, 30), rng.randint(0, 6, 30), rng.rand(30)):
        cosines = rng.uniform(-1, 1, 30)
        expected = K.eval(cosent_loss(cosines, scores.astype("float64")))
        assert abs(cosent_value(cosines, scores) - expected) < 1e-9
    assert abs(cosent_value([0.7, 0.75, 0.2, 0.4, -0.1], [5, 3, 3, 0, 1]) - 10.002644331121065) < 1e-12
    assert cosent_value([0.5, 0.7], [1, 1]) == 0
    measured = measure_similarity(np.zeros(4), [1, 2, 3, 4])
    assert measured["spearman"] == 0 and measured["pairs"] == 4
    # Equal texts, each with its own rounding error, are equally alike.
    cosines, scores = np.array([0.2, 0.4, 1, 1, 1, 1]), [0, 1, 2, 3, 3, 2]
    noise = np.array([0, 0, 2e-7, -1e-7, 1e-7, -2e-7])
    for sign in (1, -1):
        noisy = (cosines + sign * noise).astype("float32")
        assert abs(measure_similarity(noisy, scores)["spearman"] - spearmanr(cosines, scores)[0]) < 1e-6
    assert measure_similarity(1 + noise, scores)["spearman"] == 0

    class Pairs(object):
        path, labels = "f", [0.0, 2.5, 5.0, 2.6]

    sbert = HEADS["sbert"](make_options(similarity_loss="sbert", positive_above=2.5))
    assert list(sbert.targets(Pairs)) == [0, 0, 0, 0, 1, 1, 1, 1] and sbert.classes == 2
    sbert = HEADS["sbert"](make_options(similarity_loss="sbert"))
    assert list(sbert.targets(Pairs)[::2]) == [0, 1, 3, 2] and sbert.classes == 4
    with pytest.raises(UserError, match="leaves one class: the scores go from 0 to 5"):
        HEADS["sbert"](make_options(positive_above=9)).targets(Pairs)
    Pairs.labels = list(rng.rand(30))
    with pytest.raises(UserError, match="30 different scores are too many classes"):
        sbert.targets(Pairs)
