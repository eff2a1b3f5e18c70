"""vocab.txt: every line counts; a file that gives other ids than those of the training is an error with its line."""

import json
import os

import pytest
from bert4keras.tokenizers import load_vocab
from helpers import tiny_bert_folder, tiny_vocabulary
from hypothesis import given
from hypothesis import strategies as st
from numpy_hf import bert_folder

from kexue_keras.checkpoints import convert
from kexue_keras.checkpoints._bundled import ASSETS
from kexue_keras.checkpoints._load import make_tokenizer
from kexue_keras.checkpoints._vocabulary import check_length, read_vocabulary
from kexue_keras.checkpoints.t5.loading import t5_tokenizer
from kexue_keras.errors import WeightsError

TOKENS = tiny_vocabulary()


def write(folder, content):
    path = os.path.join(str(folder), "vocab.txt")
    with open(path, "wb") as handle:
        handle.write(content if isinstance(content, bytes) else "".join(t + "\n" for t in content).encode("utf-8"))
    return path


def test_a_sound_vocabulary_is_read_as_bert4keras_does(tmp_path):
    bundled = os.path.join(ASSETS, "me5_zh_q4.vocab.txt")
    assert read_vocabulary(bundled) == load_vocab(bundled)
    expected = {token: i for i, token in enumerate(TOKENS)}
    text = "\n".join(TOKENS)
    for content in (text, text + "\n", text + "\n\n \r\n", text.replace("\n", "\r\n"), "\ufeff" + text, text + " 5\n"):
        assert read_vocabulary(write(tmp_path, content.encode("utf-8"))) == expected
    # Spaces of other kinds are tokens of some vocabularies.
    assert read_vocabulary(write(tmp_path, TOKENS + ["\u3000", "\u00a0"]))["\u00a0"] == len(TOKENS) + 1


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: t[:9] + t[8:], r"vocab.txt:10: the token .* is already on line 9"),
        (lambda t: t[:9] + [""] + t[9:], r"vocab.txt:10: the line is empty"),
        (lambda t: t[:9] + ["  \t"] + t[9:], r"vocab.txt:10: the line is empty"),
        (lambda t: t[:20] + t[21:] + [t[7]], r"vocab.txt:%d: the token .* is already on line 8" % len(TOKENS)),
        (lambda t: [token for token in t if token != "[SEP]"], r"vocab.txt lacks \[SEP\]"),
        (lambda t: t[5:], r"vocab.txt lacks \[PAD\], \[UNK\], \[CLS\], \[SEP\]"),
        (lambda t: ["x"] + t, r"\[PAD\] on line 2"),
        (lambda t: [t[1], t[0]] + t[2:], r"\[PAD\] on line 2"),
        (lambda t: "\n".join(t).encode("gb18030"), r"vocab.txt:7: not UTF-8 \(byte 0x"),
        (lambda t: "\n".join(t).encode("utf-16"), r"vocab.txt is UTF-16"),
        (lambda t: b"", r"vocab.txt lacks"),
        (lambda t: t[:9] + ["\x1b[2J"] + t[9:15] + ["\x1b[2J"], r"vocab.txt:17: the token '.x1b\[2J' is already on"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path, change, message):
    with pytest.raises(WeightsError, match=message) as caught:
        read_vocabulary(write(tmp_path, change(list(TOKENS))))
    assert str(caught.value).isprintable()


def test_a_line_lost_or_added_is_named(tmp_path):
    rows = len(TOKENS)
    for tokens in (TOKENS[:7] + TOKENS[8:], TOKENS + ["多"]):
        path = write(tmp_path, tokens)
        with pytest.raises(WeightsError, match="vocab.txt has %d tokens, but .* has %d rows" % (len(tokens), rows)):
            make_tokenizer(path, rows, "x", {})
        with pytest.raises(WeightsError, match="%d tokens.*%d rows" % (len(tokens), rows)):
            t5_tokenizer(str(tmp_path), None, None, rows, "x")  # T5-PEGASUS
    # A line of the most common vocabulary is not taken for padding, nor one of RoFormer's.
    for rows in (21128, 50000, 12000, 14001):
        with pytest.raises(WeightsError):
            check_length(rows - 1, rows, "a", "b")


def test_rows_that_pad_the_embedding_are_taken_and_named(tmp_path):
    with pytest.warns(
        UserWarning, match="21128 tokens, .* 21184 rows, a multiple of 64: the last 56 are taken for padding"
    ):
        check_length(21128, 21184, "a", "b")
    for tokens, rows in ((21128, 21312), (21185, 21184), (128, 64)):
        with pytest.raises(WeightsError):
            check_length(tokens, rows, "a", "b")
    path = write(tmp_path, TOKENS[:40])
    with pytest.warns(UserWarning, match="the last 24 are taken for padding"):
        tokenizer = make_tokenizer(path, 64, "x", {"keep_tokens": [0, 1, 2, 3, 4, 63, 7]})
    assert tokenizer.token_to_id(TOKENS[7]) == 6 and tokenizer.id_to_token(5) == "[kept 63]"


def test_added_tokens_come_after_the_vocabulary(tmp_path):
    path, rows = write(tmp_path, TOKENS), len(TOKENS) + 2
    added = tmp_path / "added_tokens.json"
    added.write_text(json.dumps({"[E2]": rows - 1, "[E1]": rows - 2, "[MASK]": 4}))
    tokenizer = make_tokenizer(path, rows, "x", {})
    assert tokenizer.token_to_id("[E1]") == rows - 2 and tokenizer.token_to_id("[E2]") == rows - 1
    for wrong in (
        {"[E1]": rows},
        {"[E1]": "5"},
        {"[E1]": None},
        {"[E1]": 3},
        {"[MASK]": rows - 2},
        {"[E1]": True},
        {"a": []},
    ):
        added.write_text(json.dumps(wrong))
        said = "added_tokens.json(: .* is .*it must be a whole number| gives '.*' the id .*the next id is %d)" % (
            rows - 2
        )
        with pytest.raises(WeightsError, match=said):
            make_tokenizer(path, rows, "x", {})


def test_special_tokens_must_be_kept(tmp_path):
    path = write(tmp_path, TOKENS)
    with pytest.raises(WeightsError, match=r"keep_tokens \(of .*vocab.txt\) lacks \[SEP\]"):
        make_tokenizer(path, len(TOKENS), "x", {"keep_tokens": [0, 1, 2, 9]})
    folder = bert_folder(tmp_path / "hf")[0]
    with pytest.raises(WeightsError, match=r"\[PAD\] on line 2"):
        convert(folder, str(tmp_path / "out"), keep_tokens=[4, 0, 1, 2, 3])
    assert not os.path.exists(str(tmp_path / "out"))


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    st.integers(0, 10**6),
)
def test_whatever_is_in_the_file_it_is_read_or_refused(tmp_path_factory, changes, length):
    content = bytearray("".join(t + "\n" for t in TOKENS).encode("utf-8"))
    for place, value in changes:
        content[place % len(content)] = value
    path = write(
        tmp_path_factory.getbasetemp(), bytes(content[: length % len(content)] if length % 3 == 0 else content)
    )
    try:
        found = read_vocabulary(path)
        assert list(found.values()) == list(range(len(found)))
    except WeightsError as error:
        assert str(error).startswith(path) and len(str(error).splitlines()) == 1


def test_a_folder_with_a_bad_vocabulary_is_not_converted(tmp_path):
    folder = tiny_bert_folder(tmp_path / "a", num_hidden_layers=1)
    lost_and_doubled = TOKENS[:7] + TOKENS[8:20] + [TOKENS[19]] + TOKENS[20:]
    write(folder, lost_and_doubled)
    with pytest.raises(WeightsError, match="vocab.txt:20: the token"):
        convert(folder, str(tmp_path / "b"))
    assert not os.path.exists(str(tmp_path / "b"))
