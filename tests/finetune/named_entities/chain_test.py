"""What is read off a chain: best tags, loss and probabilities, all against every sequence of tags."""

import itertools

import numpy as np
import pytest
from loss_graphs import evaluator

from kexue_keras.finetune.named_entities._chain import (
    Chain,
    chains_of,
    negative_log_likelihood,
    path_score,
    stretch_probabilities,
    viterbi,
)
from kexue_keras.finetune.named_entities._heads import legal
from kexue_keras.losses import crf_negative_log_likelihood

TAGS = ["O", "B-x", "I-x", "E-x", "S-x"]


@pytest.fixture
def chain():
    rng = np.random.RandomState(2)
    return Chain(*(3 * rng.randn(*shape) for shape in ((5,), (5,), (5, 5), (4, 5))))


def score(chain, tags):
    inner = sum(chain.scores[t, tag] for t, tag in enumerate(tags))
    return (
        chain.start[tags[0]]
        + inner
        + sum(chain.transitions[a, b] for a, b in zip(tags, tags[1:]))
        + chain.end[tags[-1]]
    )


def every(chain):
    return list(itertools.product(range(5), repeat=len(chain.scores)))


def test_best_tags_with_and_without_rules(chain):
    for length in (1, 2, 4):
        some = chain._replace(scores=chain.scores[:length])
        assert tuple(viterbi(some)) == max(every(some), key=lambda tags: score(some, tags))
        first, last, after = legal(TAGS)

        def spells(tags):
            return first[tags[0]] and last[tags[-1]] and all(after[a, b] for a, b in zip(tags, tags[1:]))

        allowed = [tags for tags in every(some) if spells(tags)]
        assert tuple(viterbi(some, legal(TAGS))) == max(allowed, key=lambda tags: score(some, tags))


def test_rules_are_those_of_the_scheme():
    first, last, after = legal(["O", "B-x", "I-x", "E-x", "S-x", "I-y"])
    assert first.tolist() == [True, True, False, False, True, False]
    assert last.tolist() == [True, False, False, True, True, False]
    assert after[1].tolist() == [False, False, True, True, False, False]  # after B-x
    assert after[3].tolist() == [True, True, False, False, True, False]  # after E-x


def test_loss_and_probabilities(chain):
    tags, scores = viterbi(chain), np.array([score(chain, tags) for tags in every(chain)])
    share = np.exp(scores - np.logaddexp.reduce(scores))
    assert abs(path_score(chain, tags) - score(chain, tags)) < 1e-12
    assert abs(negative_log_likelihood(chain, tags) - (np.logaddexp.reduce(scores) - score(chain, tags))) < 1e-10
    for first, last in ((0, 0), (0, 3), (1, 2), (3, 3)):
        inside = [all(one[t] == tags[t] for t in range(first, last + 1)) for one in every(chain)]
        found = stretch_probabilities(chain, tags, [(first, last)])[0]
        assert abs(found - share[np.array(inside)].sum()) < 1e-12
    assert stretch_probabilities(chain, tags, []) == []


def test_the_loss_is_that_of_training():
    outputs = np.random.RandomState(3).randn(3, 5 + 2 + 4, 5)
    labels = np.array([[-1, 2, 0, -1], [4, 1, 1, 0], [-1, -1, -1, -1]])
    loss = evaluator(crf_negative_log_likelihood, ("int32", [None, None]), ("float64", [None, None, 5]))
    places = [np.flatnonzero(row >= 0) for row in labels]
    chains = list(chains_of(outputs, places))
    assert chains[2] is None
    ours = [negative_log_likelihood(chain, row[at]) for chain, row, at in zip(chains[:2], labels, places)]
    np.testing.assert_allclose(ours, loss(labels, outputs)[:2], rtol=1e-12)
