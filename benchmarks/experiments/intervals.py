"""Intervals of paired differences: two ways of training, the same seeds and the same test texts."""

import numpy as np

RESAMPLES = 2000


def packed(right):
    """Which texts were right, as text of a quarter of their number.

    >>> packed([True, False, True, True]), unpacked(packed([True, False, True, True]), 4).tolist()
    ('b0', [1, 0, 1, 1])
    """
    return np.packbits(np.asarray(right, bool)).tobytes().hex()


def unpacked(text, count):
    """What `packed` was given, int `[count]`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), "uint8"))[:count]


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
    seeds, texts = each.shape
    random = np.random.RandomState(seed)
    of_seeds = random.multinomial(seeds - 1, np.full(seeds, 1.0 / seeds), RESAMPLES) / (seeds - 1.0)
    of_texts = random.multinomial(texts, np.full(texts, 1.0 / texts), RESAMPLES) / float(texts)
    means = np.einsum("bs,bs->b", of_seeds, of_texts.dot(each.T))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(each.mean()), float(low), float(high)


ENGLISH = "helps by %.1f to %.1f", "harms by %.1f to %.1f", "no effect larger than %.1f seen"
CHINESE = "提高 %.1f 至 %.1f", "降低 %.1f 至 %.1f", "没有看到大于 %.1f 的影响"


def verdict(low, high, words=ENGLISH):
    """What an interval of a difference (fractions) says, in points.

    >>> verdict(.004, .021), verdict(-.03, -.01), verdict(-.004, .006)
    ('helps by 0.4 to 2.1', 'harms by 1.0 to 3.0', 'no effect larger than 0.6 seen')
    """
    helps, harms, neither = words
    if low > 0:
        return helps % (100 * low, 100 * high)
    if high < 0:
        return harms % (-100 * high, -100 * low)
    return neither % (100 * max(-low, high))


def comparisons(rows, *, plain="plain"):
    """Each variant of each experiment beside the plain one, over the seeds that both have.

    Args:
        rows: list of dict with experiment, variant, seed, budget, accuracy, right, texts, seconds; of a variant those
            count that have the budget of its last row.
        plain: the variant with which the others are compared.

    Returns:
        list of dict: experiment, variant, accuracies (float `[seeds]`), seconds (median), and, for others than the
        plain one with two seeds or more in common, difference (mean, low, high).
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
            "accuracies": np.array([row["accuracy"] for row in of.values()]),
            "seconds": float(np.median([row["seconds"] for row in of.values()])),
        }
        rival = runs.get((experiment, plain), {})
        both = sorted(set(of) & set(rival))
        if variant != plain and len(both) > 1:
            right = [[unpacked(side[seed]["right"], side[seed]["texts"]) for seed in both] for side in (of, rival)]
            one["difference"] = difference(*right)
        found.append(one)
    return sorted(found, key=lambda one: [row["experiment"] for row in rows].index(one["experiment"]))
