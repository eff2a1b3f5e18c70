"""How well a ranking finds what is right: recall, accuracy, mean reciprocal rank, NDCG."""

from typing import Any, Dict, Sequence, Set

import numpy as np

from kexue_keras import checks


def retrieval_scores(
    ranked: Sequence[Sequence[Any]], relevant: Sequence[Set[Any]], *, k: Sequence[int] = (1, 10, 100)
) -> Dict[str, float]:
    """Scores of rankings, means over the queries.

    With r_i = 1 where the i-th of a ranking is right and R right ones in all: recall@k = sum(r_1..r_k) / R; hit@k =
    whether one of them is right; MRR@k = 1 / i of the first right one up to k, 0 without one; NDCG@k =
    sum(r_i / log2(i + 1)) / sum(1 / log2(i + 1), i up to min(R, k)).

    Args:
        ranked: a list of anything hashable for each query, the best first, each at most once.
        relevant: a set of those that are right for each query, none of them empty.
        k: list of int, cut-offs.

    Returns:
        {'recall@1': float from 0 to 1, 'hit@1': ..., 'mrr@1': ..., 'ndcg@1': ..., 'recall@10': ...}

    Raises:
        ValueError: no queries, lists of different lengths, a query without a right answer, one that ranks something
            twice, or a cut-off below 1.

    Reference: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002.

    >>> from kexue_keras.similarity import retrieval_scores
    >>> scores = retrieval_scores([['b', 'a', 'c'], ['a', 'b', 'c']], [{'a', 'c'}, {'a'}], k=[2])
    >>> {name: round(score, 3) for name, score in sorted(scores.items())}
    {'hit@2': 1.0, 'mrr@2': 0.75, 'ndcg@2': 0.693, 'recall@2': 0.75}
    """
    owner = "retrieval_scores"
    if len(ranked) != len(relevant) or not len(ranked):
        raise ValueError("%s: %d rankings and %d sets of right answers" % (owner, len(ranked), len(relevant)))
    cutoffs = [checks.whole_number(one, "k", owner, least=1) for one in k]
    sums = dict.fromkeys(["%s@%d" % (name, one) for one in cutoffs for name in ("recall", "hit", "mrr", "ndcg")], 0.0)
    discounts = 1 / np.log2(2 + np.arange(max(cutoffs)))
    for i, (row, right) in enumerate(zip(ranked, relevant)):
        row, right = list(row), set(right)
        if not right:
            raise ValueError("%s: query %d has no right answer" % (owner, i))
        if len(set(row)) < len(row):
            raise ValueError("%s: the ranking of query %d has something twice" % (owner, i))
        gains = np.array([one in right for one in row[: max(cutoffs)]], "float64")
        for cutoff in cutoffs:
            found = gains[:cutoff]
            places = np.flatnonzero(found)
            ideal = discounts[: min(len(right), cutoff)].sum()
            sums["recall@%d" % cutoff] += found.sum() / len(right)
            sums["hit@%d" % cutoff] += float(len(places) > 0)
            sums["mrr@%d" % cutoff] += 1 / (places[0] + 1) if len(places) else 0.0
            sums["ndcg@%d" % cutoff] += (found * discounts[: len(found)]).sum() / ideal
    return {name: float(value) / len(ranked) for name, value in sums.items()}
