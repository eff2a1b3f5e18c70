"""trim_sentencepiece: which pieces stay, that ids go together, errors; the published trimming of mT5."""

import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import outcome
from sentencepiece import sentencepiece_model_pb2

from kexue_keras.checkpoints import trim_sentencepiece
from kexue_keras.checkpoints._bundled import ASSETS
from kexue_keras.checkpoints.t5.trimming import keep_pieces, sentencepiece_tokenizer
from kexue_keras.errors import WeightsError

MODEL = os.path.join(ASSETS, "me5_zh_q4.spiece.model")
TEXTS = ["今天天气不错，我们去公园。", "明天下雨", "深度学习模型的压缩与加速"]


@pytest.fixture(scope="module")
def whole():
    return sentencepiece_tokenizer(MODEL)


@pytest.fixture(scope="module")
def trimmed():
    return trim_sentencepiece(MODEL, TEXTS * 3 + ["罕见"], min_count=2)


def test_pieces_of_the_corpus_stay_and_ids_go_together(whole, trimmed):
    small = trimmed.tokenizer()
    assert small._vocab_size == len(trimmed.keep_tokens) - 2 < 500
    assert trimmed.keep_tokens == sorted(trimmed.keep_tokens) and 0.9 < trimmed.coverage < 1
    assert trimmed.keep_tokens[:259] == list(range(259))
    assert trimmed.keep_tokens[-102:] == list(range(25386, 25488))
    for new, old in enumerate(trimmed.keep_tokens[:-2]):
        assert small.id_to_token(new) == whole.id_to_token(old)
    for text in TEXTS:
        assert [trimmed.keep_tokens[i] for i in small.encode(text)[0]] == whole.encode(text)[0]
        assert small.decode([int(i) for i in small.encode(text)[0]]) == whole.decode(whole.encode(text)[0])


def test_counts_and_files_choose_the_same_as_texts(tmp_path, whole, trimmed):
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS * 3 + ["罕见"]) + "\n", encoding="utf-8")
    assert trim_sentencepiece(MODEL, str(tmp_path / "corpus.txt"), min_count=2).keep_tokens == trimmed.keep_tokens
    counts = {}
    for text in TEXTS * 3 + ["罕见"]:
        for token in whole.tokenize(text)[:-1]:
            counts[token] = counts.get(token, 0) + 1
    assert trim_sentencepiece(MODEL, counts, min_count=2).keep_tokens == trimmed.keep_tokens
    by_id = {whole.token_to_id(token): count for token, count in counts.items()}
    with open(MODEL, "rb") as handle:
        assert trim_sentencepiece(handle.read(), by_id, min_count=2).keep_tokens == trimmed.keep_tokens


def test_saving(tmp_path, trimmed):
    trimmed.save(str(tmp_path / "new"))
    with open(str(tmp_path / "new" / "keep_tokens.json")) as handle:
        assert json.load(handle) == trimmed.keep_tokens
    again = sentencepiece_tokenizer(str(tmp_path / "new" / "spiece.model"))
    assert again.encode(TEXTS[0]) == trimmed.tokenizer().encode(TEXTS[0])


def test_the_most_frequent_stay_within_a_limit():
    counts = {1000: 5, 2000: 9, 3000: 9, 4000: 1}
    limits = dict(head=4, tail=0, spare=0)
    fixed = trim_sentencepiece(MODEL, counts, min_count=10, **limits).keep_tokens
    for room, chosen in ((0, set()), (1, {2000}), (2, {2000, 3000}), (3, {1000, 2000, 3000})):
        kept = trim_sentencepiece(MODEL, counts, max_pieces=len(fixed) + room, **limits).keep_tokens
        assert set(kept) - set(fixed) == chosen and kept == sorted(kept)


@settings(max_examples=8)
@given(st.sets(st.integers(4, 25485), min_size=1, max_size=40), st.integers(0, 20))
def test_any_selection_gives_a_model_with_just_these_pieces(whole, chosen, spare):
    ids = sorted(chosen | {0, 1, 2, 3})
    small = sentencepiece_tokenizer(keep_pieces(MODEL, ids + list(range(25486, 25486 + spare))))
    assert [small.id_to_token(i) for i in range(small._vocab_size)] == [whole.id_to_token(i) for i in ids]


def test_errors(tmp_path):
    (tmp_path / "x.model").write_bytes(b"nonsense")
    for model, message in ((str(tmp_path / "x.model"), "no SentencePiece model"), ("nowhere", "nowhere is no file")):
        with pytest.raises(WeightsError, match=message):
            trim_sentencepiece(model, TEXTS)
    for corpus, options, message in (
        ([], {}, "corpus has no text"),
        ("nowhere.txt", {}, "corpus='nowhere.txt' is no file"),
        ({"没有这个词": 1}, {}, "counts have '没有这个词', which the SentencePiece model lacks"),
        ({25486: 1}, {}, "counts have 25486"),
        (TEXTS, {"head": -1}, "head is -1"),
        (TEXTS, {"max_pieces": 100}, "max_pieces is 100, but head, tail and special pieces are 359"),
    ):
        with pytest.raises(ValueError, match=message):
            trim_sentencepiece(MODEL, corpus, **options)
    with pytest.raises(WeightsError, match="lacks the unknown piece"):
        keep_pieces(MODEL, [5, 6])
    with pytest.raises(WeightsError, match="has no pieces of text"):
        sentencepiece_tokenizer(keep_pieces(MODEL, [0, 1, 2, 3]))
    with pytest.raises(WeightsError, match="ids beyond the 25486 pieces before others"):
        keep_pieces(MODEL, [0, 1, 2, 3, 25486, 5])


@pytest.mark.usefixtures("fork")
def test_a_model_that_was_cut_or_changed_is_read_or_refused(tmp_path):
    """In forks: whatever the C++ library makes of such a file, it does not end this process."""
    small = keep_pieces(MODEL, list(range(300)))
    pieces = small.index(b"nmt_nfkc") - 100
    path = str(tmp_path / "x.model")

    def use(content):
        with open(path, "wb") as handle:
            handle.write(content)
        sentencepiece_tokenizer(path).encode("今天ＡＢＣ１２３")

    random = np.random.RandomState(1)
    # Cut between two pieces it is a message as good as any other, of fewer pieces.
    proto = sentencepiece_model_pb2.ModelProto.FromString(small)
    ends = np.cumsum([1 + 1 + piece.ByteSize() for piece in proto.pieces])
    assert small[ends[9] : ends[9] + 1] == b"\n"
    for length in [0, 1, len(small) - 1] + list(random.choice(ends[4:], 10)) + list(random.randint(0, len(small), 10)):
        assert outcome(use, small[:length]).startswith("WeightsError: %s " % path), length
    for _ in range(25):
        content = bytearray(small)
        for place in random.randint(0, pieces, 3):
            content[place] = random.randint(256)
        assert outcome(use, bytes(content)).startswith(("read", "WeightsError: %s " % path))


def test_a_trimmed_vocabulary_is_trimmed_further(trimmed, tmp_path):
    trimmed.save(str(tmp_path))
    before = str(tmp_path / "spiece.model")
    old = trimmed.tokenizer()
    again = trim_sentencepiece(before, TEXTS[:2])
    assert again.coverage == 1 and len(again.keep_tokens) < len(trimmed.keep_tokens)
    new = again.tokenizer()
    # Whatever is not among the pieces is written in bytes, so nothing is lost.
    for text in TEXTS[:2] + ["龘𠮷"]:
        found, ids = new.encode(text)[0], old.encode(text)[0]
        if text in TEXTS:
            assert [again.keep_tokens[i] for i in found] == ids
        assert new.decode([int(i) for i in found]) == old.decode([int(i) for i in ids])
        assert np.max(found) < len(again.keep_tokens) - 2
