#! -*- coding: utf-8 -*-
"""最小熵原理（六）：词向量的维度应该怎么选择？ (kexue.fm/archives/7695), 关于维度公式的可用性分析 (8711): 8.33 log N.

The rule for the characters of reviews, the criterion behind it with the entropy of their pairs, and the head sizes at
which softmax(q k^T) can be any random attention.
"""

import collections

import numpy as np

from kexue_keras.analysis import dimensions
from kexue_keras.data import read_reviews

steps = 500  # of the fit
lengths = [16, 32]  # of rows of attention
window = 5

text = [text for text, _ in read_reviews()]
words = collections.Counter("".join(text)).most_common(2000)
numbers = {character: i for i, (character, _) in enumerate(words)}


def pair_counts(texts):
    """How often two of the characters stand within the window."""
    counts = np.zeros((len(numbers), len(numbers)), "int32")
    for line in texts:
        ids = np.array([numbers[c] for c in line if c in numbers], "int64")
        for distance in range(1, window + 1):
            np.add.at(counts, (ids[:-distance], ids[distance:]), 1)
    return counts + counts.T


if __name__ == "__main__":
    plain, corrected = dimensions.cooccurrence_entropy(pair_counts(text[:2000]))  # <-
    print("8.33 log N for %d characters: %.1f" % (len(numbers), dimensions.embedding_dimension(len(numbers))))  # <-
    print(
        "entropy of their pairs: %.2f; where the model's is that: %.1f"
        % (corrected, dimensions.smallest_dimension(len(numbers), corrected))
    )  # <-
    for length in lengths:
        target = np.random.RandomState(0).dirichlet(np.ones(length), length)
        for size in (length // 4, length // 2, length):
            fit = dimensions.fit_attention(target, size, steps=steps)  # <-
            print("head of %d, %d tokens: %.4f of %.4f is left" % (size, length, fit.divergence, fit.start))
