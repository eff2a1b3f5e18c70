"""Patterns for models that read left to right: the answer is at the end, each token predicted by those before it.

Reference: "P-tuning：自动构建模版，释放语言模型潜能", kexue.fm/archives/8295; Liu et al., arXiv 2103.10385.
"""

import numpy as np

from kexue_keras.backend import prediction_batching
from kexue_keras.data import PredictionBatches, gather_places
from kexue_keras.models._causal_lm import askable, inputs_of, next_labels
from kexue_keras.prompting._pattern import Prompt, TokenizedPattern
from kexue_keras.prompting._rows import TrainingRows


class CausalPattern(TokenizedPattern):
    """A pattern in the tokens of a vocabulary, whose masks are no tokens but the position of the answer.

    A row is the pattern without its masks and without the [SEP] that would follow, then the answer without its last
    token, in segment 1 (in a UniLM each of its tokens then sees what precedes it, and the pattern all of itself).

    Args:
        pattern: `Pattern` that ends with its masks.
        tokenizer: bert4keras tokenizer; [MASK] need not be in its vocabulary.
        max_length: longest row in tokens.
        slots: tokens of the answer.
        longest: tokens of the longest answer, for which room is kept, so that a text is cut alike for all.

    Raises:
        ValueError: something follows the masks or is between them; the pattern leaves no room for the text.
    """

    def __init__(self, pattern, tokenizer, max_length, *, slots, longest):
        check_answer_at_end(pattern)
        self.answer_length = slots
        # The last token of an answer is predicted, but never read.
        super(CausalPattern, self).__init__(pattern, tokenizer, max_length - (longest - 1))
        self.max_length = max_length

    def _mask(self, tokenizer):
        return []

    def _end(self, tokenizer):
        return []

    def encode(self, text):
        """A text in the pattern, with zeros where the answer should be.

        Args:
            text: str, or (str, str) for a pattern with two.

        Returns:
            `Prompt`; its slots are the positions whose next tokens are the answer.
        """
        prompt = super(CausalPattern, self).encode(text)
        more, last = self.answer_length - 1, len(prompt.token_ids) - 1
        return Prompt(
            prompt.token_ids + [0] * more,
            prompt.segment_ids + [1] * more,
            list(range(last, last + self.answer_length)),
            prompt.fixed + [True] * more,
        )


def check_answer_at_end(pattern):
    """Refuse a pattern whose masks are not all at its end.

    Raises:
        ValueError: something follows them or is between them.

    >>> check_answer_at_end(kexue_keras.prompting.Pattern('{text}满意吗？{mask}'))
    """
    behind = pattern.template[pattern.template.index("{mask}") :].replace("{mask}", "").strip()
    if behind:
        raise ValueError(
            "pattern %r: this model reads left to right, so nothing may follow the answer, but %r does; move "
            "{mask} to the end, '{text}...{mask}'" % (pattern.template, behind)
        )


def causal_scores(model, pattern, verbalizer, texts, *, batch_size):
    """Log-likelihoods of words as answers to texts in a pattern.

    log p(w | text) = sum_j log p(w_j | pattern with text, w_1 ... w_{j-1}); with `normalize_length` divided by the
    number of tokens. Words with the same first tokens share a row.

    Args:
        model: what `predict_next_at` returned.
        pattern: `CausalPattern`.
        verbalizer: `TokenizedVerbalizer`; its words of `pattern.answer_length` tokens are scored.
        texts: list of str, or of (str, str).
        batch_size: rows per batch.

    Returns:
        float64 `[N, words]`.
    """
    words = verbalizer.ids[pattern.answer_length]
    begins = sorted({tuple(word[:-1]) for word in words.tolist()})
    which = [begins.index(tuple(word[:-1])) for word in words.tolist()]
    rows, slots = [], []
    for text in texts:
        prompt = pattern.encode(text)
        for begin in begins:
            cut = len(prompt.token_ids) - len(begin)
            rows.append((prompt.token_ids[:cut] + list(begin), prompt.segment_ids))
            slots.append(prompt.slots)
    batches = PredictionBatches(rows, batch_size=batch_size, max_length=pattern.max_length, **prediction_batching())
    scores = np.zeros((len(rows), len(words)))
    for indices in batches.in_length_order() if rows else ():
        places = np.array([slots[i] for i in indices], "int32")
        logits = model.predict_on_batch(inputs_of(model, *batches.inputs(indices), places))
        scores[indices] = verbalizer.word_scores(logits)
    # Of each row only the words count that begin as it does.
    scores = scores.reshape(len(texts), len(begins), len(words))
    return scores[:, which, np.arange(len(words))]


class CausalRows(TrainingRows):
    """Rows on which a causal prompt model is trained: the answer in labelled ones, and tokens of the text in all.

    `mask_rate` of the text's tokens are asked for, as an auxiliary task, from what precedes them; nothing is
    hidden. In a UniLM the text is in segment 0, where every position sees it, so only what follows a [SEP] can be.

    Args:
        reading: "lm" or "unilm", see `reading_of`.
        model: what `predict_next_at` returned.
        **options: see `TrainingRows`.
    """

    def __init__(self, *args, reading, model, **options):
        super(CausalRows, self).__init__(*args, **options)
        self.reading, self.model = reading, model

    def batch(self, indices, step):
        """Inputs and labels of the rows `indices` at a step; they depend on seed and step alone.

        Returns:
            (inputs of the model, labels `[B, m, 1]`, 0 for no place).
        """
        random = np.random.RandomState([self.seed % 2**32, step])
        tokens, segments = self.batches.inputs(indices)
        chosen = askable(tokens, segments, self._special, self.reading) & ~self.protected(indices, tokens.shape)
        labels = next_labels(tokens, chosen & (random.random_sample(tokens.shape) < self.mask_rate))
        for row, i in enumerate(indices):
            if self._asked[i] is not None:
                slots, words = self._asked[i]
                word = words[random.randint(len(words))]
                labels[row, slots] = word
                tokens[row, slots[1:]] = word[:-1]
        places, labels = gather_places(labels)
        return inputs_of(self.model, tokens, segments, places), labels[..., None]
