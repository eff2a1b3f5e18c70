"""Hard negatives: texts that are near to a question, but answer another one.

A contrastive loss learns little from negatives that happen to be in the batch. What is mined is as near as a positive,
so that some of it is one: margins below the score of the positive leave those out (arXiv 2007.00808, 2407.15831).
"""

from collections import defaultdict, namedtuple
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from kexue_keras import checks
from kexue_keras.data import checked_texts
from kexue_keras.similarity._encoder import SentenceEncoder
from kexue_keras.similarity._index import METHODS, VectorIndex, unit_rows
from kexue_keras.types import ArrayLike

CHOICES = ("nearest", "random")

# negatives: list of str, the most similar first; scores: theirs; score: that of the positive
Mined = namedtuple("Mined", "question positive negatives score scores")


def mine_hard_negatives(
    encoder: SentenceEncoder,
    pairs: Sequence[Tuple[str, str]],
    corpus: Optional[Sequence[str]] = None,
    *,
    negatives: int = 1,
    candidates: int = 50,
    skip: int = 0,
    margin: Optional[float] = None,
    relative_margin: Optional[float] = 0.05,
    highest: Optional[float] = None,
    choose: str = "nearest",
    scorer: Optional[Callable[[Sequence[Tuple[str, str]]], ArrayLike]] = None,
    method: str = "exact",
    batch_size: int = 64,
    seed: int = 0,
) -> List[Mined]:
    """Hard negatives: for each pair of texts that belong together, similar texts that do not.

    A candidate n of the question q with the positive p is taken if s(q, n) <= s(q, p) - margin,
    s(q, n) <= s(q, p) - relative_margin * |s(q, p)| and s(q, n) <= highest. The question itself and everything that
    is paired with it anywhere in `pairs` is never a candidate.

    Args:
        encoder: `SentenceEncoder`, whose cosines find the candidates.
        pairs: list of (str, str): question and positive. A question may come several times.
        corpus: list of str to mine from; None: the positives of all pairs.
        negatives: at most so many for each pair.
        candidates: nearest texts that are looked at for each question.
        skip: nearest candidates that are left out first, since the very nearest are often right answers too.
        margin: float >= 0, None for no such rule.
        relative_margin: float from 0 to 1, None for no such rule.
        highest: float, largest score of a negative, None for no such rule.
        choose: 'nearest' takes the nearest of what is left, 'random' draws from it.
        scorer: function of a list of (question, text) that gives a score each, for instance `Reranker.score`: it
            decides instead of the cosines. None: cosines.
        method: 'exact' or 'hnsw', see `VectorIndex`.
        batch_size: texts encoded together.
        seed: of the draws.

    Returns:
        list of `Mined(question, positive, negatives, score, scores)`, one for each pair, in their order; fewer
        negatives than asked for, down to none, where the rules leave no more.

    Raises:
        ValueError: no pairs, texts that are no str, or settings out of range.

    Reference: Xiong et al., arXiv 2007.00808; Moreira et al., "NV-Retriever", arXiv 2407.15831.

    >>> from kexue_keras.similarity import SentenceEncoder, mine_hard_negatives
    >>> encoder = SentenceEncoder('me5-zh-sp', num_hidden_layers=2)
    >>> pairs = [('怎么退货', '七天内可以退货'), ('怎么换货', '换货请联系客服')]
    >>> mined = mine_hard_negatives(encoder, pairs, relative_margin=None)
    >>> [(one.question, one.negatives) for one in mined]
    [('怎么退货', ['换货请联系客服']), ('怎么换货', ['七天内可以退货'])]
    """
    owner = "mine_hard_negatives"
    pairs = checked_texts(pairs, name="pairs", pairs=True)
    if not pairs:
        raise ValueError("%s: no pairs" % owner)
    corpus = (
        [positive for _, positive in pairs] if corpus is None else checked_texts(corpus, name="corpus", pairs=False)
    )
    corpus = list(dict.fromkeys(corpus))
    for name, value, least in (("negatives", negatives, 1), ("candidates", candidates, 1), ("skip", skip, 0)):
        checks.whole_number(value, name, owner, least=least)
    if margin is not None:
        checks.number(margin, "margin", owner, least=0)
    if relative_margin is not None:
        checks.number(relative_margin, "relative_margin", owner, least=0, most=1)
    checks.choice(choose, CHOICES, "choose", owner)
    checks.choice(method, METHODS, "method", owner)
    random, right = np.random.RandomState(seed), defaultdict(set)
    for question, positive in pairs:
        right[question] |= {question, positive}
    questions = list(right)
    index = VectorIndex(unit_rows(encoder.encode(corpus, batch_size=batch_size)), method=method)
    vectors = unit_rows(encoder.encode(questions, batch_size=batch_size))
    # Right answers are among the nearest, and take no other candidate's place.
    places, cosines = index.search(vectors, candidates + skip + max(map(len, right.values())))
    near = {}
    for question, found, scores in zip(questions, places, cosines):
        kept = [(corpus[i], float(s)) for i, s in zip(found, scores) if i >= 0 and corpus[i] not in right[question]]
        near[question] = kept[skip : skip + candidates]
    if scorer is None:
        of_positives = encoder.similarity([q for q, _ in pairs], [p for _, p in pairs], batch_size=batch_size)
    else:
        of_positives, near = _scored(scorer, pairs, near)
    mined = []
    for (question, positive), score in zip(pairs, map(float, of_positives)):
        limits = [np.inf if highest is None else highest]
        limits += [] if margin is None else [score - margin]
        limits += [] if relative_margin is None else [score - relative_margin * abs(score)]
        left = [one for one in near[question] if one[1] <= min(limits)]
        if choose == "random" and len(left) > negatives:
            left = [left[i] for i in sorted(random.choice(len(left), negatives, replace=False))]
        texts, scores = zip(*left[:negatives]) if left else ((), ())
        mined.append(Mined(question, positive, list(texts), score, list(scores)))
    return mined


def _scored(scorer, pairs, near):
    """(scores of the pairs, candidates with their scores instead of cosines, the most likely first)."""
    asked = [(question, text) for question, found in near.items() for text, _ in found]
    scores = np.asarray(scorer(list(pairs) + asked), "float64")
    if scores.shape != (len(pairs) + len(asked),):
        raise ValueError(
            "mine_hard_negatives: scorer must give a score for each of %d pairs, but gave an array of shape %s"
            % (len(pairs) + len(asked), scores.shape)
        )
    found = defaultdict(list)
    for (question, text), score in zip(asked, scores[len(pairs) :]):
        found[question].append((text, float(score)))
    return scores[: len(pairs)], {q: sorted(found[q], key=lambda one: -one[1]) for q in near}
