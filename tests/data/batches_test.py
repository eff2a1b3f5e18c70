"""Buckets: every row once, few shapes, little padding, the same order for the same seed and epoch."""

import numpy as np
import pytest
from bert4keras.tokenizers import Tokenizer
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras.data import BucketedBatches, PairBatches, PredictionBatches, checked_texts, encode
from kexue_keras.errors import shorten

pytestmark = pytest.mark.all_stacks


def make(lengths, **kwargs):
    given = dict(batch_size=4, max_length=64, seed=5)
    return BucketedBatches([([7] * n, [0] * n) for n in lengths], **dict(given, **kwargs))


@given(st.lists(st.integers(1, 64), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 3))
def test_an_epoch_has_every_row_once(lengths, batch_size, epoch):
    batches = make(lengths, batch_size=batch_size)
    for order in (batches.epoch(epoch), batches.in_length_order()):
        assert sorted(np.concatenate(order)) == list(range(len(lengths)))
        assert len(order) == len(batches)
        assert all(len(indices) <= batch_size for indices in order)
    for indices in batches.epoch(epoch):
        tokens, segments = batches.inputs(indices)
        assert tokens.shape == segments.shape == (len(indices), min(-(-max(np.array(lengths)[indices]) // 8) * 8, 64))
        assert ((tokens != 0).sum(axis=1) == np.array(lengths)[indices]).all()


def test_order_depends_on_seed_and_epoch_alone():
    lengths = np.random.RandomState(0).randint(1, 64, 500)

    def order(seed, epoch):
        np.random.rand()  # the global generator must not matter
        return [list(indices) for indices in make(lengths, seed=seed).epoch(epoch)]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_buckets_save_padding_and_have_few_shapes_in_mixed_order():
    lengths = np.random.RandomState(0).randint(3, 60, 2000)
    batches = make(lengths, batch_size=16)
    shapes = [batches.inputs(indices)[0].shape for indices in batches.epoch(0)]
    cells = sum(rows * length for rows, length in shapes)
    assert cells < 1.25 * lengths.sum()
    assert len({length for _, length in shapes}) <= 8
    tenth = [length for _, length in shapes[: len(shapes) // 10]]
    assert np.std(tenth) > 5, "the first batches are all of one length"
    plain = make(lengths, batch_size=16, bucketing=False)
    assert {plain.inputs(indices)[0].shape[1] for indices in plain.epoch(0)} == {64}


def test_never_longer_than_max_length():
    batches = make([13], max_length=13)
    assert batches.inputs(np.array([0]))[0].shape == (1, 13)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60), st.integers(1, 20), st.sampled_from([None, 1, 64, 512]))
def test_prediction_takes_every_row_once_the_longest_first(lengths, batch_size, most_tokens):
    encoded = [([1] * n, [0] * n) for n in lengths]
    batches = PredictionBatches(encoded, batch_size=batch_size, max_length=64, most_tokens=most_tokens)
    parts = batches.in_length_order()
    assert sorted(np.concatenate(parts)) == list(range(len(lengths)))
    longest = [max(lengths[i] for i in part) for part in parts]
    assert longest == sorted(longest, reverse=True)
    for part, most in zip(parts, longest):
        shape = batches.inputs(part)[0].shape
        assert shape == (len(part), min(most, 64)) and len(part) <= batch_size
        assert most_tokens is None or len(part) == 1 or shape[0] * shape[1] <= most_tokens


def test_encode_counts_what_it_truncates(tmp_path):
    from bert4keras.tokenizers import Tokenizer
    from helpers import tiny_vocabulary

    tokenizer = Tokenizer({t: i for i, t in enumerate(tiny_vocabulary())})
    encoded, truncated = encode(tokenizer, ["好坏好", "好坏好坏好坏", ("好坏", "好"), ("好坏好", "好坏好")], 6)
    assert truncated == 2
    assert [len(tokens) for tokens, _ in encoded] == [5, 6, 6, 6]
    assert encoded[2][1] == [0, 0, 0, 0, 1, 1]
    for text, got in zip(["好坏好", "好坏好坏好坏"], encoded):
        assert got == tokenizer.encode(text, maxlen=6)
    assert encoded[3] == tokenizer.encode("好坏好", "好坏好", maxlen=6)


@pytest.mark.parametrize("size", [0, -8, 2.0, None, True])
def test_a_batch_size_that_would_leave_rows_out_is_refused(size):
    for kind in (BucketedBatches, PairBatches):
        with pytest.raises(ValueError, match="batch_size is"):
            kind([([1], [0])] * 2, batch_size=size, max_length=8)


@pytest.mark.parametrize(
    "texts, pairs, message",
    [
        ("好书", None, "texts is one str; give a list of texts"),
        (b"ab", None, "texts is one bytes"),
        (["好", None], None, r"texts\[1\] is None; a str or a pair"),
        ([("好", "书", "房")], None, "a pair"),
        ([["好", "书"]], None, "a pair"),
        (["好"], True, r"texts\[0\] is '好'; a pair \(str, str\) is needed"),
        ([("好", "书")], False, "a str is needed"),
        (["很差b\ud83d"], None, r"texts\[0\] is '很差b\\ud83d', with half of a surrogate pair"),
        ([("好", "\udc00")], True, "half of a surrogate pair"),
    ],
)
def test_what_is_no_list_of_texts(texts, pairs, message):
    with pytest.raises(ValueError, match=message):
        checked_texts(texts, pairs=pairs)
    if pairs is None:
        with pytest.raises(ValueError, match=message):
            encode(Tokenizer({"[UNK]": 0}), texts, 8)


def test_shorten():
    assert shorten("a\nb") == "a b"
    assert len(shorten("x" * 100)) == 40
