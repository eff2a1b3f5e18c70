"""A verbalizer: the words by which the model names the labels, and what its logits say about the labels.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; Schick and Schütze, arXiv 2001.07676
(one token a label), arXiv 2009.07118 (several).
"""

from typing import Any, Dict, Sequence, Tuple, Union

import numpy as np
from scipy.special import logsumexp

from kexue_keras.prompting._tokens import token_ids
from kexue_keras.types import Array, Config, Tokenizer

JOINS = ("mean_logit", "sum_probability")


class Verbalizer(object):
    """Labels and their words.

    A word has a score: the sum of the log-probabilities of its tokens, each at its slot. A label's score is that of its
    words, joined; the label probabilities are the softmax over the labels, so nothing but a label can be predicted.
    Words whose rows of the output layer are equal, such as `!` and `！` in heads over a trimmed vocabulary, cannot tell
    labels apart (`analysis.find_unargmaxable` lists them, `PromptClassifier` warns of them).

    Args:
        words: dict label -> word, or list of words.
        join: "mean_logit": a label's score is the mean of its words' (timoschick/pet); "sum_probability": its
            probability is the sum of theirs.
        normalize_length: whether a word's score is divided by its number of tokens; only then may words have
            different lengths. Each length is asked with as many masks.

    Attributes:
        labels: list, in the order given.
        words: dict label -> tuple of words.

    Raises:
        ValueError: no labels or one, a label without word, an empty word, a word twice, an unknown `join`.

    Reference: kexue.fm/archives/7764.

    >>> verbalizer = kexue_keras.prompting.Verbalizer({'负面': ['不', '难'], '正面': ['很', '挺']})
    >>> verbalizer.labels
    ['负面', '正面']
    """

    def __init__(
        self, words: Dict[str, Union[str, Sequence[str]]], *, join: str = "mean_logit", normalize_length: bool = False
    ) -> None:
        if join not in JOINS:
            raise ValueError("join=%r; it is one of %s" % (join, ", ".join(JOINS)))
        if not isinstance(words, dict) or len(words) < 2:
            raise ValueError("a verbalizer is a dict of at least two labels with their words, not %r" % (words,))
        self.join, self.normalize_length = join, bool(normalize_length)
        self.words = {label: (given,) if isinstance(given, str) else tuple(given) for label, given in words.items()}
        self.labels = list(self.words)
        owners = {}
        for label, several in self.words.items():
            if not several:
                raise ValueError("label %r has no word; give at least one" % (label,))
            for word in several:
                if not isinstance(word, str) or not word or word != "".join(word.split()):
                    raise ValueError("label %r: %r is no word; give characters without spaces" % (label, word))
                if word in owners:
                    raise ValueError(
                        "%r stands for the labels %r and %r; give one of them another word"
                        % (word, owners[word], label)
                    )
                owners[word] = label

    def indices_of(self, labelled: Sequence[Tuple[Any, str]]) -> Array:
        """Number of the label of each (text, label), int `[N]`.

        Raises:
            ValueError: a label that has no words.
        """
        index = {label: i for i, label in enumerate(self.labels)}
        for text, label in labelled:
            if label not in index:
                known = ", ".join(map(str, self.labels))
                raise ValueError("unknown label %r of the text %r; the verbalizer has %s" % (label, text, known))
        return np.array([index[label] for _, label in labelled])

    def get_config(self) -> Config:
        """Dict of the arguments."""
        words = [[label, list(several)] for label, several in self.words.items()]
        return {"words": words, "join": self.join, "normalize_length": self.normalize_length}

    @classmethod
    def from_config(cls, config: Config) -> "Verbalizer":
        """The verbalizer of `get_config`."""
        return cls(**dict(config, words={label: words for label, words in config["words"]}))

    def compile(self, tokenizer: Tokenizer) -> "TokenizedVerbalizer":
        """The verbalizer in the tokens of a vocabulary.

        Args:
            tokenizer: bert4keras tokenizer.

        Returns:
            `TokenizedVerbalizer`.

        Raises:
            ValueError: a character without a token of its own, [UNK], the padding, two words of the same tokens,
                words of different lengths without `normalize_length`.
        """
        return TokenizedVerbalizer(self, tokenizer)


class TokenizedVerbalizer(object):
    """A verbalizer in the tokens of a vocabulary; see `Verbalizer.compile`.

    Attributes:
        labels: list of labels.
        lengths: sorted numbers of tokens that words have.
        ids: dict length -> int32 `[words of that length, length]`.
        owners: dict length -> int `[words]`, index of each word's label.
    """

    def __init__(self, verbalizer, tokenizer):
        self.verbalizer, self.labels = verbalizer, verbalizer.labels
        self.ids, self.owners, seen = {}, {}, {}
        for index, label in enumerate(self.labels):
            for word in verbalizer.words[label]:
                ids = _ids_of_word(tokenizer, label, word)
                if ids in seen:
                    raise ValueError("the words %r and %r are the same tokens; change one" % (seen[ids], word))
                seen[ids] = word
                self.ids.setdefault(len(ids), []).append(ids)
                self.owners.setdefault(len(ids), []).append(index)
        self.lengths = sorted(self.ids)
        if len(self.lengths) > 1 and not verbalizer.normalize_length:
            named = ["%s (%d)" % (word, len(ids)) for ids, word in sorted(seen.items(), key=lambda item: len(item[0]))]
            raise ValueError(
                "the words have different numbers of tokens: %s; give words of one length, or normalize_length=True"
                % ", ".join(named)
            )
        self.ids = {length: np.array(ids, "int32") for length, ids in self.ids.items()}
        self.owners = {length: np.array(owners) for length, owners in self.owners.items()}

    def word_scores(self, logits):
        """Scores of the words with as many tokens as there are slots.

        Args:
            logits: float array `[N, slots, vocabulary]`.

        Returns:
            float64 `[N, words]`, log-probabilities (a token, with `normalize_length`).
        """
        logits = np.asarray(logits, "float64")
        ids = self.ids[logits.shape[1]]
        top = logits.max(axis=-1, keepdims=True)
        log_sum = top + np.log(np.exp(logits - top).sum(axis=-1, keepdims=True))
        picked = (logits - log_sum)[:, np.arange(ids.shape[1]), ids]
        return picked.mean(axis=-1) if self.verbalizer.normalize_length else picked.sum(axis=-1)

    def label_scores(self, scores):
        """Scores of the labels.

        Args:
            scores: dict length -> float array `[N, words]`, from `word_scores`.

        Returns:
            float64 `[N, labels]`; their softmax are the probabilities.
        """
        scores = {length: np.asarray(scores[length], "float64") for length in self.lengths}
        together = np.concatenate([scores[length] for length in self.lengths], axis=1)
        owners = np.concatenate([self.owners[length] for length in self.lengths])
        columns = [together[:, owners == index] for index in range(len(self.labels))]
        if self.verbalizer.join == "mean_logit":
            return np.stack([column.mean(axis=1) for column in columns], axis=1)
        return np.stack([np.logaddexp.reduce(column, axis=1) for column in columns], axis=1)

    def prior(self, scores):
        """Mean log-probability of each label over texts, float64 `[labels]`, from the same as `label_scores`.

        It is what the pattern prefers whatever the text says.
        """
        scores = self.label_scores(scores)
        return (scores - logsumexp(scores, axis=1, keepdims=True)).mean(axis=0)

    def probabilities(self, scores, prior=0.0):
        """Probabilities float64 `[N, labels]` from the same as `label_scores`, less a prior."""
        shifted = self.label_scores(scores) - prior
        shifted = np.exp(shifted - shifted.max(axis=1, keepdims=True))
        return shifted / shifted.sum(axis=1, keepdims=True)


def _ids_of_word(tokenizer, label, word):
    where = "label %r, word %r" % (label, word)
    tokens, ids = token_ids(tokenizer, word, where)
    pieces = [token for token in tokens if token.startswith("##")]
    if pieces or not ids:
        raise ValueError(
            "%s: no single token a character or word; the vocabulary cuts it into %s; take another word"
            % (where, ", ".join(tokens) or "nothing")
        )
    return tuple(ids)
