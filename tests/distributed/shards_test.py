"""Rows dealt out: each once an epoch, equally many batches, units together, buckets kept."""

import numpy as np
import pytest
from rank_threads import in_threads

from kexue_keras import distributed
from kexue_keras.data import BucketedBatches, PairBatches
from kexue_keras.distributed import ShardedBatches, part_of, rows_of_rank


def encoded(lengths):
    return [([1] * n, [0] * n) for n in lengths]


@pytest.mark.parametrize("rows, batch_size, size", [(64, 16, 2), (65, 16, 2), (67, 16, 4), (33, 8, 5), (7, 4, 7)])
@pytest.mark.parametrize("bucketing", [True, False])
def test_each_row_once_and_equally_many_batches(rows, batch_size, size, bucketing):
    lengths = np.random.RandomState(rows).randint(1, 60, rows)
    batches = BucketedBatches(encoded(lengths), batch_size=batch_size, max_length=64, seed=5, bucketing=bucketing)
    for epoch in range(2):
        ranks = [ShardedBatches(batches, rank=r, size=size).epoch(epoch) for r in range(size)]
        assert len({len(parts) for parts in ranks}) == 1
        assert sorted(int(i) for parts in ranks for part in parts for i in part) == list(range(rows))
        assert all(len(part) for parts in ranks for part in parts)
        for parts in zip(*ranks):
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(ShardedBatches(batches, rank=0, size=size)) == len(ranks[0])


def test_buckets_stay_and_are_padded_to_the_part():
    lengths = [3] * 8 + [30] * 8
    batches = ShardedBatches(BucketedBatches(encoded(lengths), batch_size=8, max_length=64), rank=1, size=2)
    assert sorted(batches.inputs(rows)[0].shape for rows in batches.epoch(0)) == [(4, 8), (4, 32)]


def test_pairs_stay_together():
    batches = PairBatches(encoded(np.arange(1, 43)), batch_size=5, max_length=64)
    parts = [part for r in range(2) for part in ShardedBatches(batches, unit=2, rank=r, size=2).epoch(0)]
    assert all((part[::2] % 2 == 0).all() and (part[1::2] == part[::2] + 1).all() for part in parts)
    assert sorted(np.concatenate(parts)) == list(range(42))


def test_too_few_rows():
    batches = BucketedBatches(encoded([3, 4, 5]), batch_size=2, max_length=8)
    with pytest.raises(ValueError, match="3 rows in units of 1, too few for 4 ranks"):
        ShardedBatches(batches, rank=0, size=4).epoch(0)
    with pytest.raises(ValueError, match="5 rows are no whole number of units of 2"):
        rows_of_rank(5, unit=2)


def test_parts_of_batches_of_all_forms():
    x, y, w = np.arange(10).reshape(5, 2), {"a": np.arange(5)}, None
    parts = in_threads(lambda: lambda: part_of(([x, x], y, w)), 2)
    np.testing.assert_array_equal(parts[0][0][0], x[[0, 2, 4]])
    np.testing.assert_array_equal(parts[1][1]["a"], [1, 3])
    assert parts[0][2] is None
    # Too few for all: each takes the whole, and a coupled loss counts it once.
    whole = in_threads(lambda: lambda: part_of((x[:1], x[:1], np.ones(1, "float32")), coupled=True), 2)
    assert [part[2].tolist() for part in whole] == [[0.5], [0.5]] and whole[1][0].shape == (1, 2)


def test_means_are_weighed_by_rows():
    def build():
        rank = distributed.rank()
        return lambda: distributed.average({"loss": [1.0, 4.0, float("nan")][rank]}, [3, 1, 0][rank])

    assert in_threads(build, 3) == [{"loss": 1.75}] * 3
