"""Label words that the output layer cannot tell from other words, because their rows are equal.

Reference: "你的语言模型有没有“无法预测的词”？", kexue.fm/archives/9046.
"""

import warnings
from itertools import combinations

import numpy as np


class EqualWordsWarning(UserWarning):
    """A label word has the same row of the output layer as another word."""


def warn_of_equal_words(words, W, b, tokenizer, *, name):
    """Warn of label words that are never the model's first choice, and of such as two labels share.

    Of words with equal rows only that with the largest bias can be the first choice, and between two of them every text
    makes the same difference. Words that lie inside the hull of others are not looked for: among the label words that
    does no harm, and `analysis.find_unargmaxable` finds them.

    Args:
        words: `TokenizedVerbalizer`.
        W: float [V, d], rows of the output layer.
        b: float [V] or None.
        tokenizer: bert4keras tokenizer.
        name: what the message calls the model.
    """
    b = np.zeros(len(W)) if b is None else b
    tokens = sorted({int(k) for ids in words.ids.values() for k in ids.ravel()})
    equal = {k: np.flatnonzero((W == W[k]).all(axis=1)) for k in tokens}

    def said(k):
        return repr(tokenizer.id_to_token(int(k)))

    parts = []
    for k in tokens:
        best = equal[k][np.argmax(b[equal[k]])]
        if b[best] > b[k]:
            parts.append("%s has the row of %s, whose bias is larger by %.3g" % (said(k), said(best), b[best] - b[k]))
    for ids, owners in ((words.ids[length], words.owners[length]) for length in words.lengths):
        for (one, first), (other, second) in combinations(zip(ids, owners), 2):
            if first != second and all(q in equal[p] for p, q in zip(one, other)):
                both = ["".join(tokenizer.id_to_token(int(k)) for k in word) for word in (one, other)]
                labels = words.labels[first], words.labels[second]
                parts.append(
                    "the labels %r and %r, with %r and %r, differ by %.3g whatever the text says: CHANGE ONE OF THEM"
                    % (labels + tuple(both) + (float(np.sum(b[one]) - np.sum(b[other])),))
                )
    if parts:
        warnings.warn(
            "label words of %s that have the same row in the output layer as other words: %s. The first of two such "
            "words is never what the model would say by itself (`kexue-keras inspect --unargmaxable` lists them all)."
            % (name, "; ".join(parts)),
            EqualWordsWarning,
            stacklevel=4,
        )
