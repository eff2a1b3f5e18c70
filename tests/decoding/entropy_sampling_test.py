"""EntropySampler: the samples follow the normalised distribution, and bert4keras' loop is untouched."""

import numpy as np
import pytest
from bert4keras.snippets import AutoRegressiveDecoder

from kexue_keras.decoding import EntropySampler

LOGITS = np.array([-30.0, 0.0, -1.0, -2.0, -3.0])


class Sampler(EntropySampler):
    # The decorator of the parent class, as in existing programs.
    @AutoRegressiveDecoder.wraps(default_rtype="logits")
    def predict(self, inputs, output_ids, states):
        assert len(inputs[0]) in (1, len(output_ids))
        return np.tile(LOGITS, (len(output_ids), 1))


def test_samples_have_the_entropy_that_was_asked_for():
    np.random.seed(0)
    for target in (0.4, 1.2):
        sampler = Sampler(start_id=None, end_id=0, maxlen=20, target=target)
        ids = np.concatenate(sampler.random_sample([[7]], n=400))
        assert len(ids) == 8000
        share = np.bincount(ids, minlength=5) / len(ids)
        expected = sampler.normalize([np.exp(LOGITS)])[0]
        np.testing.assert_allclose(-(expected * np.log(expected)).sum(), target, atol=1e-6)
        np.testing.assert_allclose(share, expected, atol=0.02)
    assert "predict" not in vars(sampler)


def test_ratio_cap_and_temperature():
    p = np.array([[0.97, 0.01, 0.01, 0.01], [0.25, 0.25, 0.3, 0.2]])
    both = Sampler(0, 3, 5, ratio=0.5).normalize(p)
    np.testing.assert_allclose(-(both * np.log(both)).sum(1), 0.5 * np.log(4), atol=1e-6)
    capped = Sampler(0, 3, 5, ratio=0.5, cap_only=True).normalize(p)
    np.testing.assert_allclose(capped[0], p[0], atol=1e-6)
    np.testing.assert_allclose(capped[1], both[1], atol=1e-6)
    np.testing.assert_allclose(Sampler(0, 3, 5, ratio=0.5).normalize(p**2), both, atol=1e-6)
    sampler = Sampler(start_id=None, end_id=0, maxlen=3, target=0.5)
    np.random.seed(1)
    cold = sampler.random_sample([[7]], n=5, temperature=0.5)
    np.random.seed(1)
    np.testing.assert_array_equal(cold, sampler.random_sample([[7]], n=5))


def test_beam_search_is_bert4keras():
    assert Sampler(None, 0, 4, target=3.0).beam_search([[7]], topk=2).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(), "give either target"),
        (dict(target=1.0, ratio=0.1), "give either target"),
        (dict(target=-1.0), "target must be a number >= 0, but is -1.0; .*nats"),
        (dict(ratio=2.0), r"ratio must be a number in \[0, 1\], but is 2.0"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        EntropySampler(0, 1, 5, **options)
