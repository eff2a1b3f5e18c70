"""Which rows each rank takes: its part of each batch, so that all ranks have equally many batches.

The batches are those of one process, each dealt out over the ranks. So an epoch covers each row once, batches of about
equal length stay what they are, and the loss of a batch, or its gradient, is the same on any number of ranks.
"""

from typing import Any, Callable, List, Optional, Tuple

import numpy as np

from kexue_keras import checks
from kexue_keras.distributed._ranks import engine
from kexue_keras.types import Array, ArrayLike


def rows_of_rank(count: int, *, unit: int = 1, rank: Optional[int] = None, size: Optional[int] = None) -> Array:
    """The places of those of `count` rows that a rank takes, every `size`-th; empty if there are fewer than ranks.

    Args:
        count: int, rows of the whole batch.
        unit: int, how many rows belong together (2: rows 2i and 2i+1 are a pair).
        rank, size: int; None: those of this process.

    Returns:
        int array.

    Raises:
        ValueError: `count` is no multiple of `unit`.

    >>> kexue_keras.distributed.rows_of_rank(10, unit=2, rank=1, size=2)
    array([2, 3, 6, 7])
    """
    rank = engine().rank if rank is None else rank
    size = engine().size if size is None else size
    checks.whole_number(unit, "unit", "rows_of_rank", least=1)
    if count % unit:
        raise ValueError("rows_of_rank: %d rows are no whole number of units of %d rows" % (count, unit))
    return np.arange(count).reshape(-1, unit)[rank::size].reshape(-1)


class ShardedBatches(object):
    """This rank's parts of batches, which are themselves the batches of one process.

    Args:
        batches: `data.BucketedBatches` or `data.PairBatches`, or what has `epoch(number)`, a list of index arrays, and
            `inputs(indices)`. Their `batch_size` is that of all ranks together.
        unit: int, how many rows belong together; 2 for `PairBatches`.
        rank, size: int; None: those of this process.

    A batch that has fewer units than there are ranks joins the one before it, so that no rank is ever without rows.

    Raises:
        ValueError: by `epoch`, if there are fewer units than ranks altogether.

    >>> from kexue_keras.data import BucketedBatches
    >>> batches = BucketedBatches([([1] * n, [0] * n) for n in range(1, 10)], batch_size=4, max_length=16)
    >>> parts = [kexue_keras.distributed.ShardedBatches(batches, rank=r, size=2).epoch(0) for r in range(2)]
    >>> [len(part) for part in parts], sorted(int(i) for part in parts for rows in part for i in rows)
    ([2, 2], [0, 1, 2, 3, 4, 5, 6, 7, 8])
    """

    def __init__(self, batches: Any, *, unit: int = 1, rank: Optional[int] = None, size: Optional[int] = None) -> None:
        self.unit = checks.whole_number(unit, "unit", "ShardedBatches", least=1)
        self.batches = batches
        self.rank = engine().rank if rank is None else rank
        self.size = engine().size if size is None else size

    def __len__(self) -> int:
        return len(self._whole(0))

    def epoch(self, epoch: int) -> List[Array]:
        """List of index arrays, this rank's parts of the batches of that epoch in their order."""
        how = dict(unit=self.unit, rank=self.rank, size=self.size)
        return [rows[rows_of_rank(len(rows), **how)] for rows in self._whole(epoch)]

    def inputs(self, indices: ArrayLike) -> Any:
        """What `batches.inputs` gives for these rows."""
        return self.batches.inputs(indices)

    def _whole(self, epoch):
        least, joined = self.size * self.unit, []
        for rows in map(np.asarray, self.batches.epoch(epoch)):
            if joined and min(len(rows), len(joined[-1])) < least:
                joined[-1] = np.concatenate([joined[-1], rows])
            else:
                joined.append(rows)
        if not joined or len(joined[0]) < least:
            raise ValueError(
                "ShardedBatches: the data have %d rows in units of %d, too few for %d ranks"
                % (sum(map(len, joined)), self.unit, self.size)
            )
        return joined


def part_of(made: Tuple[Any, ...], *, unit: int = 1, coupled: bool = False) -> Tuple[Any, ...]:
    """This rank's part of a batch (inputs, targets) or (inputs, targets, sample weights).

    Where the batch has fewer units than there are ranks, all ranks take all of it: the mean of their gradients is that
    of the batch all the same. A loss that compares the rows of all ranks would count each row once a rank; with
    `coupled` the sample weights are divided by the number of ranks for that (`losses.CoSENT`).

    Args:
        made: tuple of arrays, or lists of arrays, or None; their first axis is that of the rows, equally long in all.
        unit: int, how many rows belong together.
        coupled: bool, see above.

    >>> x, y = kexue_keras.distributed.part_of((np.ones((5, 3)), np.ones(5)))
    >>> x.shape, y.shape
    ((5, 3), (5,))
    """
    count = rows_in(made[0])
    rows = rows_of_rank(count, unit=unit)
    if count // unit < engine().size:
        if coupled and len(made) > 2:
            made = tuple(made[:2]) + (_each(made[2], lambda x: x / x.dtype.type(engine().size)),)
        return tuple(made)
    return tuple(_each(part, lambda x: x[rows]) for part in made)


def rows_in(inputs):
    """How many rows the inputs of a batch have."""
    return len(inputs[0] if isinstance(inputs, (list, tuple)) else inputs)


def _each(part: Any, function: Callable[[Array], Array]) -> Any:
    if part is None:
        return None
    if isinstance(part, (list, tuple)):
        return [_each(x, function) for x in part]
    if isinstance(part, dict):
        return {name: _each(x, function) for name, x in part.items()}
    return function(np.asarray(part))
