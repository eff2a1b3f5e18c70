"""Spans of tokens: characters that are dropped, replaced, lower-cased, unknown; SentencePiece; any text."""

import unicodedata

import pytest
from bert4keras.tokenizers import Tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from kexue_keras.checkpoints._bundled import BUNDLED
from kexue_keras.models import load
from kexue_keras.tokenizing.offsets import tokens_with_spans
from kexue_keras.tokenizing.widths import WidthTokenizer

TOKENS = "[PAD] [UNK] [CLS] [SEP] abc a b c ##c e i ##i s 北 京 好 , 。 １ 1 ##2 ας".split()
VOCABULARY = {token: i for i, token in enumerate(TOKENS)}


def tokenizer(kind=WidthTokenizer, lower=True, **how):
    return kind(VOCABULARY, do_lower_case=lower, **how)


def cut(text, **how):
    tokens, spans = tokens_with_spans(tokenizer(**how), text)
    assert tokens == tokenizer(**how).tokenize(text)
    return [(token, text[slice(*span)] if span else None) for token, span in zip(tokens, spans)][1:-1]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("北京好", [("北", "北"), ("京", "京"), ("好", "好")]),
        ("  北\t京 ", [("北", "北"), ("京", "京")]),
        ("ＡＢＣ北", [("abc", "ＡＢＣ"), ("北", "北")]),
        ("１２", [("1", "１"), ("##2", "２")]),
        ("é北", [("e", "é"), ("北", "北")]),
        ("e\u0301北", [("e", "e\u0301"), ("北", "北")]),
        ("北\u0001京\u200b。", [("北", "北"), ("京", "京"), ("。", "。")]),
        ("北\ufffd\u2028京", [("北", "北"), ("京", "京")]),
        ("😀北", [("😀", "😀"), ("北", "北")]),  # a word that the vocabulary lacks is [UNK], and keeps its place
        ("zzz 京", [("zzz", "zzz"), ("京", "京")]),
        ("ΑΣ 京", [("ας", "ΑΣ"), ("京", "京")]),  # a final sigma, at which bert4keras' rematch fails
        ("İ京", [("i", "İ"), ("京", "京")]),
        ("a##c", [("a", "a"), ("#", "#"), ("#", "#"), ("c", "c")]),
        ("\U00020bb7北", [("\U00020bb7", "\U00020bb7"), ("北", "北")]),
        ("", []),
    ],
)
def test_what_each_token_stands_for(text, expected):
    assert cut(text) == expected


def test_without_lower_case_accents_are_characters():
    assert cut("e\u0301北", lower=False) == [("e\u0301", "e\u0301"), ("北", "北")]


def test_translated_tokens_and_words_of_a_function():
    assert cut("北京", token_translate={"北": "好"}) == [("好", "北"), ("京", "京")]
    assert cut("北京好", pre_tokenize=lambda text: [text[:2], text[2:]])[-1] == ("好", "好")


def test_what_a_function_changes_has_no_place():
    assert cut("北", pre_tokenize=lambda text: ["京"]) == [("京", None)]


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(blacklist_categories=("Cs",)), max_size=12), st.sampled_from([Tokenizer, WidthTokenizer]))
def test_any_text(text, kind):
    tokens, spans = tokens_with_spans(tokenizer(kind), text)
    assert tokens == tokenizer(kind).tokenize(text) and len(tokens) == len(spans)
    spans = spans[1:-1]
    assert None not in spans
    for token, (start, end) in zip(tokens[1:-1], spans):
        assert 0 <= start < end <= len(text)
        # What stands there gives the token, but for the form of a sigma.
        letters = unicodedata.normalize("NFKC", "".join(tokenizer()._tokenize(text[start:end])).replace("##", ""))
        piece = unicodedata.normalize("NFKC", token[2:] if token.startswith("##") and len(token) > 2 else token)
        assert piece.replace("ς", "σ") in letters.replace("ς", "σ")
    # In their order; a character that becomes several may be in two tokens.
    for before, after in zip(spans, spans[1:]):
        assert before[0] <= after[0] and after[0] >= before[1] - 1
    covered = {i for start, end in spans for i in range(start, end)}
    for i, character in enumerate(text):
        if character.isalnum() and unicodedata.category(character) != "Mn":
            assert i in covered


@pytest.fixture(scope="module")
def pieces():
    assert "me5-zh-sp" in BUNDLED
    return load("me5-zh-sp", num_hidden_layers=1).tokenizer


@pytest.mark.parametrize("text", ["吴重阳，中国  国籍 ①㎏…ＡＢ", "x\u0001é😀\u3000北京 😀", "", " ", "e\u0301北"])
def test_sentencepiece(pieces, text):
    tokens, spans = tokens_with_spans(pieces, text)
    assert tokens == pieces.tokenize(text)
    shown = [text[slice(*span)] for span in spans if span]
    assert all(part == part.strip() and part for part in shown)
    assert "".join(shown).replace("\u0001", "") == "".join(text.split()).replace("\u0001", "")
    pieces._pre_tokenize = lambda text: [text]
    with pytest.raises(ValueError, match="pre_tokenize"):
        tokens_with_spans(pieces, text)
    pieces._pre_tokenize = None
