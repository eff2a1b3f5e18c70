"""The rows a prompt model is trained on: labelled texts in the pattern, unlabelled ones as they are, in one stream.

In both, tokens of the text are hidden at random, as an auxiliary task; in labelled rows the slots ask for the label.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764.
"""

import numpy as np

from kexue_keras.data import BucketedBatches, encode, gather_places, random_masking
from kexue_keras.data._batches import ROUNDING
from kexue_keras.models._masked_lm import special_ids
from kexue_keras.prompting._tokens import mask_id


class TrainingRows(object):
    """Rows, their batches, and what is masked in them.

    A labelled text makes a row for each pattern and each length that its label's words have; which of those words is
    asked for is drawn anew every time.

    Args:
        patterns: list of dict number of slots -> `TokenizedPattern`.
        verbalizer: `TokenizedVerbalizer`.
        labelled: list of (text, index of its label).
        unlabelled: list of texts.
        batch_size, max_length, seed: see `BucketedBatches`.
        repeats: how often each labelled text occurs per epoch.
        mask_rate: share of the tokens that are hidden at random.
        mask_pattern: whether those of the pattern may be hidden, too.
        rounding: see `BucketedBatches`.

    Attributes:
        batches: `BucketedBatches`.
    """

    def __init__(
        self,
        patterns,
        verbalizer,
        labelled,
        unlabelled=(),
        *,
        batch_size,
        max_length,
        seed=0,
        repeats=1,
        mask_rate=0.15,
        mask_pattern=False,
        rounding=ROUNDING,
    ):
        self.tokenizer = next(iter(patterns[0].values())).tokenizer
        self.verbalizer, self.seed, self.mask_rate = verbalizer, seed, mask_rate
        self._special = special_ids(self.tokenizer)
        encoded, self._asked, self._fixed = [], [], []
        for text, label in labelled:
            for pattern in patterns:
                for length in verbalizer.lengths:
                    words = verbalizer.ids[length][verbalizer.owners[length] == label]
                    if len(words):
                        prompt = pattern[length].encode(text)
                        encoded.extend([(prompt.token_ids, prompt.segment_ids)] * repeats)
                        self._asked.extend([(prompt.slots, words)] * repeats)
                        self._fixed.extend([None if mask_pattern else prompt.fixed] * repeats)
        plain, _ = encode(self.tokenizer, unlabelled, max_length)
        encoded.extend(plain)
        self._asked.extend([None] * len(plain))
        self._fixed.extend([None] * len(plain))
        order = {"batch_size": batch_size, "max_length": max_length, "seed": seed}
        self.batches = BucketedBatches(encoded, rounding=rounding, **order)

    def protected(self, indices, shape):
        """Which tokens belong to the pattern and are never asked for; bool array of `shape`."""
        protected = np.zeros(shape, bool)
        for row, i in enumerate(indices):
            if self._fixed[i] is not None:
                protected[row, : len(self._fixed[i])] = self._fixed[i]
        return protected

    def batch(self, indices, step):
        """Inputs and labels of the rows `indices` at a step; they depend on seed and step alone.

        Returns:
            ([tokens `[B, n]`, segments `[B, n]`, places `[B, m]`], labels `[B, m, 1]`, 0 for no place).
        """
        random = np.random.RandomState([self.seed % 2**32, step])
        tokens, segments = self.batches.inputs(indices)
        protected = np.isin(tokens, self._special) | self.protected(indices, tokens.shape)
        inputs, labels = random_masking(
            tokens,
            random,
            mask_id=mask_id(self.tokenizer),
            vocab_size=self.tokenizer._vocab_size,
            protected=protected,
            mask_rate=self.mask_rate,
        )
        for row, i in enumerate(indices):
            if self._asked[i] is not None:
                slots, words = self._asked[i]
                labels[row, slots] = words[random.randint(len(words))]
        places, labels = gather_places(labels)
        return [inputs, segments, places], labels[..., None]


def history_of(progress, epoch_steps):
    """What `fit` returns: a dict per epoch with its mean loss, and its accuracy where one was measured."""
    history = []
    for epoch, row in enumerate(progress.history):
        losses = progress.losses[epoch * epoch_steps : (epoch + 1) * epoch_steps]
        history.append({"epoch": epoch + 1, "loss": float(np.mean(losses))})
        if "valid_score" in row:
            history[-1]["valid"] = row["valid_score"]
    return history
