"""Token ids, and batches of about equal length padded to the batch instead of to the maximum.

Lengths are rounded up to a multiple of 8 (of more for XLA), so that few distinct shapes occur; an epoch is shuffled,
cut into pools of 50 batches, sorted by length within a pool, and the batches are shuffled again. What an epoch looks
like depends on (seed, epoch) alone, so a run that was stopped finds its place again.
"""

import numbers
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from kexue_keras.data._texts import checked_texts
from kexue_keras.plain_types import Array, ArrayLike, Encoded, Texts, Tokenizer

ROUNDING = 8
PREDICTION_TOKENS = 512
POOL = 50


def encode(
    tokenizer: Tokenizer, texts: Texts, max_length: int, progress: Optional[Callable[[Any], Iterable[Any]]] = None
) -> Tuple[List[Encoded], int]:
    """Token ids and segment ids of texts or pairs.

    Args:
        tokenizer: bert4keras tokenizer.
        texts: list of str or of (str, str).
        max_length: longest sequence in tokens, special ones included.
        progress: function that wraps the list, for instance tqdm.

    Returns:
        (list of pairs (token ids, segment ids), number of texts that were truncated).

    Raises:
        ValueError: see `checked_texts`.
    """
    texts = checked_texts(texts)
    encoded, truncated = [], 0
    for text in progress(texts) if progress else texts:
        pair = text if isinstance(text, tuple) else (text, None)
        tokens = [None if part is None else tokenizer.tokenize(part) for part in pair]
        # The second text's start token is dropped when both are joined.
        length = len(tokens[0]) + (len(tokens[1]) - 1 if tokens[1] is not None else 0)
        truncated += length > max_length
        encoded.append(tokenizer.encode(tokens[0], tokens[1], maxlen=max_length))
    return encoded, truncated


def pad(encoded, length):
    """Token ids and segment ids `[B, length]` int32, padded with 0."""
    tokens = np.zeros((len(encoded), length), "int32")
    segments = np.zeros((len(encoded), length), "int32")
    for i, (token_ids, segment_ids) in enumerate(encoded):
        tokens[i, : len(token_ids)] = token_ids
        segments[i, : len(segment_ids)] = segment_ids
    return tokens, segments


class BucketedBatches(object):
    """Batches of encoded texts, bucketed by length.

    Args:
        encoded: list of (token ids, segment ids).
        batch_size: rows per batch; the last one of an epoch may have fewer.
        max_length: no batch is longer than this.
        seed: int, with the epoch number what the order depends on.
        bucketing: False pads everything to `max_length` and only shuffles.
        rounding: int, lengths are rounded up to a multiple of it.

    Raises:
        ValueError: a batch size below 1, which would leave all rows out.

    >>> batches = BucketedBatches([([1] * n, [0] * n) for n in (3, 30, 4, 31)], batch_size=2, max_length=32, seed=0)
    >>> sorted(batches.inputs(indices)[0].shape for indices in batches.epoch(0))
    [(2, 8), (2, 32)]
    """

    def __init__(
        self,
        encoded: Sequence[Encoded],
        *,
        batch_size: int,
        max_length: int,
        seed: int = 0,
        bucketing: bool = True,
        rounding: int = ROUNDING,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, numbers.Integral) or batch_size < 1:
            raise ValueError("batch_size is %r; a whole number from 1 is needed" % (batch_size,))
        self.encoded = encoded
        self.batch_size = batch_size
        self.max_length = max_length
        self.seed = seed
        self.bucketing, self.rounding = bucketing, rounding
        self.lengths = np.array([len(token_ids) for token_ids, _ in encoded], "int64")

    def __len__(self) -> int:
        return -(-len(self.encoded) // self.batch_size)

    def epoch(self, epoch: int) -> List[Array]:
        """List of index arrays, the batches of that epoch in their order."""
        random = np.random.RandomState([self.seed % 2**32, epoch])
        order = random.permutation(len(self.encoded))
        if not self.bucketing:
            return self._cut(order)
        pool = POOL * self.batch_size
        batches = []
        for i in range(0, len(order), pool):
            part = order[i : i + pool]
            batches.extend(self._cut(part[np.argsort(self.lengths[part], kind="stable")]))
        return [batches[i] for i in random.permutation(len(batches))]

    def in_length_order(self) -> List[Array]:
        """List of index arrays for prediction, the longest texts first: what does not fit into memory fails at once."""
        return self._cut(np.argsort(-self.lengths, kind="stable"))

    def inputs(self, indices: ArrayLike) -> List[Array]:
        """[token ids, segment ids] of the rows `indices`, padded to this batch."""
        length = self.padded_length(indices) if self.bucketing else self.max_length
        return list(pad([self.encoded[i] for i in indices], length))

    def padded_length(self, indices: ArrayLike) -> int:
        """Tokens of each row of a batch of the rows `indices`, padding included."""
        return min(-(-int(self.lengths[indices].max()) // self.rounding) * self.rounding, self.max_length)

    def _cut(self, order):
        return [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]


class PredictionBatches(BucketedBatches):
    """Batches of encoded texts for prediction: the longest first, and few enough tokens for the processor's cache.

    What a batch computes should fit into the processor's cache, and a token of padding costs as much as one of text.
    On a GPU, and for XLA, which compiles each length anew, `backend.prediction_batching()` has other settings.

    Args:
        encoded: list of (token ids, segment ids).
        batch_size: most rows of a batch.
        max_length: no batch is longer than this.
        rounding: int, lengths are rounded up to a multiple of it.
        most_tokens: int, most tokens of a batch of more than one row, padding included; None: no limit.

    >>> batches = PredictionBatches([([1] * n, [0] * n) for n in (3, 9, 10, 4)], batch_size=64, max_length=32,
    ...     most_tokens=20)
    >>> [batches.inputs(indices)[0].shape for indices in batches.in_length_order()]
    [(2, 10), (2, 4)]
    """

    def __init__(
        self,
        encoded: Sequence[Encoded],
        *,
        batch_size: int,
        max_length: int,
        rounding: int = 1,
        most_tokens: Optional[int] = PREDICTION_TOKENS,
    ) -> None:
        super().__init__(encoded, batch_size=batch_size, max_length=max_length, rounding=rounding)
        self.most_tokens = most_tokens

    def in_length_order(self) -> List[Array]:
        """List of index arrays, the longest texts first: what does not fit into memory fails at once."""
        order, batches = np.argsort(-self.lengths, kind="stable"), []
        while len(order):
            rows = self.batch_size
            if self.most_tokens is not None:
                rows = min(rows, max(1, self.most_tokens // max(1, self.padded_length(order[:1]))))
            batches.append(order[:rows])
            order = order[rows:]
        return batches


def rows_by_step(batches):
    """Function from the number of a step to the rows of its batch, epoch after epoch.

    Args:
        batches: `BucketedBatches` or `PairBatches`.

    >>> rows = rows_by_step(BucketedBatches([([1], [0])] * 4, batch_size=2, max_length=8))
    >>> [sorted(int(i) for step in steps for i in rows(step)) for steps in ([0, 1], [2, 3])]
    [[0, 1, 2, 3], [0, 1, 2, 3]]
    """
    orders = {}

    def rows(step):
        epoch, number = divmod(step, len(batches))
        if epoch not in orders:
            orders.clear()
            orders[epoch] = batches.epoch(epoch)
        return orders[epoch][number]

    return rows
