"""Intervals of paired differences: two ways of training, the same seeds and the same test texts."""

import numpy as np

RESAMPLES = 2000
# Of a score that is no sum over texts, whose draws a row of results has.
DRAWS = 1000
SCORES = "accuracy", "micro_f1", "spearman", "rouge_l"


def packed(right):
    """Which texts were right, as text of a quarter of their number.

    >>> packed([True, False, True, True]), unpacked(packed([True, False, True, True]), 4).tolist()
    ('b0', [1, 0, 1, 1])
    """
    return np.packbits(np.asarray(right, bool)).tobytes().hex()


def unpacked(text, count):
    """What `packed` was given, int `[count]`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), "uint8"))[:count]


def packed_counts(counts):
    """int `[texts, 3]` below 16 as text, a digit each.

    >>> packed_counts([[1, 0, 12], [2, 3, 0]]), unpacked_counts('10c230').tolist()
    ('10c230', [[1, 0, 12], [2, 3, 0]])
    """
    counts = np.asarray(counts)
    if counts.max() > 15:
        raise ValueError("a text has %d labels of a kind; at most 15 can be written" % counts.max())
    return "".join("%x" % number for number in counts.reshape(-1))


def unpacked_counts(text):
    """What `packed_counts` was given, int `[texts, 3]`."""
    return np.array([int(digit, 16) for digit in text]).reshape(-1, 3)


def difference(right, rival, *, seed=0):
    """Mean difference of two accuracies and its 95% interval, by drawing seeds and texts anew.

    One seed less is drawn than there are: the variance of a mean of S seeds that are drawn from S with replacement is
    (S - 1) / S of what it should be, a fifth too small for five seeds.

    Args:
        right, rival: bool or 0/1 `[seeds, texts]`; row s of both is of the same seed.
        seed: int, of the draws.

    Returns:
        (mean, lower end, upper end), floats.

    Raises:
        ValueError: the shapes differ, or there are fewer than two seeds.

    >>> difference([[1, 1], [1, 1]], [[0, 0], [0, 0]])
    (1.0, 1.0, 1.0)
    """
    right, rival = np.asarray(right, "float64"), np.asarray(rival, "float64")
    if right.shape != rival.shape or right.ndim != 2 or len(right) < 2:
        raise ValueError("[seeds, texts] with two seeds or more are needed, not %s, %s" % (right.shape, rival.shape))
    each = right - rival
    means = np.einsum("bs,bt,st->b", *_draws(*each.shape, seed=seed), each, optimize=True)
    return (float(each.mean()),) + _interval(means)


def f1_difference(counts, rival, *, seed=0):
    """Difference of the micro F1 over all seeds together and its 95% interval, drawn as in `difference`.

    Args:
        counts, rival: int `[seeds, texts, 3]`, labels of each text found, named though wrong, and missed.
        seed: int, of the draws.

    Returns:
        (difference, lower end, upper end), floats.

    >>> f1_difference([[[1, 0, 0], [1, 0, 0]]] * 2, [[[0, 1, 1], [0, 1, 1]]] * 2)
    (1.0, 1.0, 1.0)
    """
    sides = [np.asarray(side, "float64") for side in (counts, rival)]
    if sides[0].shape != sides[1].shape or sides[0].ndim != 3 or len(sides[0]) < 2:
        raise ValueError(
            "[seeds, texts, 3] with two seeds or more are needed, not %s, %s" % tuple(s.shape for s in sides)
        )
    draws = _draws(*sides[0].shape[:2], seed=seed)
    drawn = [_f1(np.einsum("bs,bt,stk->bk", *draws, side, optimize=True)) for side in sides]
    whole = [_f1(side.sum(axis=(0, 1))) for side in sides]
    return (float(whole[0] - whole[1]),) + _interval(drawn[0] - drawn[1])


def resampled(score, texts, *, seed=0):
    """A score on draws of the test texts, in ten-thousandths; all runs with as many texts have the same draws.

    Args:
        score: function from places, int `[texts]`, to a float.
        texts: int, how many test texts there are.
        seed: int, of the draws.

    Returns:
        list of `DRAWS` int.

    >>> resampled(lambda places: 0.25, 10)[:2]
    [2500, 2500]
    """
    random = np.random.RandomState(seed)
    return [int(round(1e4 * score(random.randint(0, texts, texts)))) for _ in range(DRAWS)]


def resampled_difference(scores, rival, drawn, drawn_rival, *, seed=0):
    """Mean difference of two scores and its 95% interval, seeds drawn as in `difference`, texts as in `resampled`.

    Args:
        scores, rival: float `[seeds]`; number s of both is of the same seed.
        drawn, drawn_rival: what `resampled` found for each, int `[seeds, DRAWS]`.
        seed: int, of the draws of seeds.

    Returns:
        (mean, lower end, upper end), floats.

    >>> resampled_difference([0.75, 0.75], [0.5, 0.5], [[7500] * DRAWS] * 2, [[5000] * DRAWS] * 2)
    (0.25, 0.25, 0.25)
    """
    each = (np.asarray(drawn, "float64") - drawn_rival) / 1e4
    if each.ndim != 2 or len(each) < 2:
        raise ValueError("[seeds, draws] with two seeds or more are needed, not %s" % (each.shape,))
    of_seeds = _of_seeds(np.random.RandomState(seed), len(each), each.shape[1])
    return (float(np.mean(np.subtract(scores, rival))),) + _interval(np.einsum("bs,sb->b", of_seeds, each))


def _f1(sums):
    found, wrong, missed = np.moveaxis(sums, -1, 0)
    return 2 * found / np.maximum(2 * found + wrong + missed, 1e-12)


def _draws(seeds, texts, *, seed):
    """How much each seed, and each text, counts in each of the draws; each row sums to 1."""
    random = np.random.RandomState(seed)
    of_seeds = _of_seeds(random, seeds, RESAMPLES)
    of_texts = random.multinomial(texts, np.full(texts, 1.0 / texts), RESAMPLES) / float(texts)
    return of_seeds, of_texts


def _of_seeds(random, seeds, draws):
    return random.multinomial(seeds - 1, np.full(seeds, 1.0 / seeds), draws) / (seeds - 1.0)


def _interval(values):
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


ENGLISH = "helps by %.1f to %.1f", "worse by %.1f to %.1f", "no effect larger than %.1f seen", "too few seeds"
CHINESE = "提高 %.1f 至 %.1f", "降低 %.1f 至 %.1f", "没有看到大于 %.1f 的影响", "种子太少"
# With fewer nothing is claimed.
ENOUGH_SEEDS = 3


def verdict(low, high, seeds, words=ENGLISH):
    """What an interval of a difference (fractions) over so many seeds says, in points.

    >>> verdict(.004, .021, 3), verdict(-.03, -.01, 5), verdict(-.004, .006, 3), verdict(.004, .021, 2)
    ('helps by 0.4 to 2.1', 'worse by 1.0 to 3.0', 'no effect larger than 0.6 seen', 'too few seeds')
    """
    helps, worse, neither, few = words
    if seeds < ENOUGH_SEEDS:
        return few
    if low > 0:
        return helps % (100 * low, 100 * high)
    if high < 0:
        return worse % (-100 * high, -100 * low)
    return neither % (100 * max(0.0, -low, high))


def score_of(row):
    """The score that a row has."""
    return next(row[name] for name in SCORES if name in row)


def paired_difference(side, rival):
    """(mean, lower end, upper end) for two lists of rows, of the same seeds in the same order."""
    both = side, rival
    if "counts" in side[0]:
        return f1_difference(*[[unpacked_counts(row["counts"]) for row in rows] for rows in both])
    if "resampled" in side[0]:
        scores = [[score_of(row) for row in rows] for rows in both]
        return resampled_difference(*scores, *[[row["resampled"] for row in rows] for rows in both])
    if "each" in side[0]:
        return difference(*[np.array([row["each"] for row in rows]) / 1e4 for rows in both])
    return difference(*[[unpacked(row["right"], row["texts"]) for row in rows] for rows in both])


def comparisons(rows, *, plain_of=lambda experiment: "plain"):
    """Each variant of each experiment beside the plain one, over the seeds that both have.

    Args:
        rows: list of dict with experiment, variant, seed, budget, texts, seconds, and accuracy and right, micro_f1 and
            counts, spearman and resampled, or rouge_l and each; of a variant those count that have the budget of its
            last row.
        plain_of: function from an experiment to the variant with which its others are compared.

    Returns:
        list of dict: experiment, variant, scores (float `[seeds]`), seconds (median), and, for others than the plain
        one with two seeds or more in common, seeds (how many they are) and difference (mean, low, high).
    """
    runs = {}
    for row in rows:
        runs.setdefault((row["experiment"], row["variant"]), []).append(row)
    runs = {key: {row["seed"]: row for row in of if row["budget"] == of[-1]["budget"]} for key, of in runs.items()}
    found = []
    for (experiment, variant), of in runs.items():
        one = {
            "experiment": experiment,
            "variant": variant,
            "scores": np.array([score_of(row) for row in of.values()]),
            "seconds": float(np.median([row["seconds"] for row in of.values()])),
        }
        plain = plain_of(experiment)
        rival = runs.get((experiment, plain), {})
        both = sorted(set(of) & set(rival))
        if variant != plain and len(both) > 1:
            one["seeds"] = len(both)
            sides = [[side[seed] for seed in both] for side in (of, rival)]
            one["difference"] = paired_difference(*sides)
        found.append(one)
    return sorted(found, key=lambda one: [row["experiment"] for row in rows].index(one["experiment"]))
