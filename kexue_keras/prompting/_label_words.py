"""Label words that the output layer cannot tell from other words, because their rows are equal.

Reference: "你的语言模型有没有“无法预测的词”？", kexue.fm/archives/9046.
"""

import warnings
from itertools import combinations

import numpy as np

from kexue_keras.backend import K


class EqualWordsWarning(UserWarning):
    """A label word has the same row of the output layer as another word."""


def warn_of_equal_words(words, pretrained):
    """Warn of label words with equal rows in the head of a model; see `equal_words`.

    Args:
        words: `TokenizedVerbalizer`.
        pretrained: `PretrainedModel` whose head uses the token embedding again.
    """
    layers = {layer.name: layer for layer in pretrained.model.layers}
    W = np.asarray(K.get_value(layers["Embedding-Token"].weights[0]))
    b = np.asarray(K.get_value(layers["MLM-Bias"].weights[0])) if "MLM-Bias" in layers else np.zeros(len(W))
    parts = equal_words(words, W, b, pretrained.tokenizer)
    if parts:
        warnings.warn(
            "label words of %s that have the same row in the output layer as other words: %s. The first of two such "
            "words is never what the model would say by itself (`kexue-keras inspect --unargmaxable` lists them all)."
            % (pretrained.name, "; ".join(parts)),
            EqualWordsWarning,
            stacklevel=3,
        )


def equal_words(words, W, b, tokenizer):
    """What to warn about: label words that are never the model's first choice, and those that two labels share.

    Of words with equal rows only that with the largest bias can be the first choice, and between two of them every text
    makes the same difference. Words that lie inside the hull of others are not looked for: among the label words that
    does no harm, and `analysis.find_unargmaxable` finds them.

    Args:
        words: `TokenizedVerbalizer`.
        W: float [V, d], rows of the output layer.
        b: float [V].
        tokenizer: bert4keras tokenizer.

    Returns:
        list of str, a part of a sentence each.
    """
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
    return parts
