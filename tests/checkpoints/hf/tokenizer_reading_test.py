"""tokenizer.json written and read: word pieces and unigrams, what is refused."""

import json
import os

import pytest

from kexue_keras.checkpoints._bundled import ASSETS, BUNDLED
from kexue_keras.checkpoints.hf.fast_tokenizer import fast_tokenizer
from kexue_keras.checkpoints.hf.tokenizer_reading import read_fast_tokenizer
from kexue_keras.checkpoints.t5.trimming import sentencepiece_tokenizer
from kexue_keras.errors import WeightsError
from kexue_keras.tokenizing.widths import vocabulary_tokenizer

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "好", "ab", "##c", "１"]


def read(tmp_path, content):
    path = str(tmp_path / "tokenizer.json")
    with open(path, "w", encoding="utf-8") as handle:
        json.dump(content, handle)
    return read_fast_tokenizer(path)


@pytest.mark.parametrize("lower", [True, False])
def test_word_pieces_come_back_with_their_ids(tmp_path, lower):
    tokens = {token: i for i, token in enumerate(TOKENS)}
    written, config = fast_tokenizer(vocabulary_tokenizer(tokens, do_lower_case=lower))
    assert read(tmp_path, written) == (tokens, lower)
    assert config["cls_token"] == "[CLS]" and config["split_special_tokens"] is True
    assert [one["id"] for one in written["added_tokens"]] == [0, 1, 2, 3, 4]
    assert written["post_processor"]["special_tokens"]["[SEP]"]["ids"] == [3]


def test_hugging_faces_own_word_pieces_are_read(tmp_path):
    whole = {
        "added_tokens": [{"id": 5, "content": "[new]"}, {"id": 0, "content": "[PAD]"}],
        "normalizer": {"type": "BertNormalizer", "lowercase": True},
        "model": {"type": "WordPiece", "vocab": {token: i for i, token in enumerate(TOKENS[:5])}},
    }
    tokens, lower = read(tmp_path, whole)
    assert tokens["[new]"] == 5 and len(tokens) == 6 and lower
    whole["normalizer"]["lowercase"] = False
    assert read(tmp_path, whole)[1] is False


def test_unigrams_come_back_as_a_sentencepiece_model(tmp_path):
    path = os.path.join(ASSETS, BUNDLED["me5-zh-sp"].vocabulary)
    tokenizer = sentencepiece_tokenizer(path, token_start="<s>", token_end="</s>")
    written, _ = fast_tokenizer(tokenizer)
    again = sentencepiece_tokenizer(read(tmp_path, written), token_start="<s>", token_end="</s>")
    for text in ("今天天气不错", "Ｈｅｌｌｏ　１２ ①", "<s> 好😀", "  a  b ", ""):
        assert again.encode(text) == tokenizer.encode(text)
    assert (again._token_pad, again._token_unk) == (tokenizer._token_pad, tokenizer._token_unk)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": {"type": "BPE"}}, "is of the kind 'BPE'; read are WordPiece and Unigram"),
        ({"model": []}, "is of the kind None"),
        ({"model": {"type": "WordPiece", "vocab": {"a": 0, "b": 2}}}, "the ids of its 2 tokens are not 0 to 1"),
        ({"model": {"type": "WordPiece", "vocab": ["a"]}}, "must be an object of tokens"),
        (
            {"model": {"type": "WordPiece", "vocab": {"a": 0}, "continuing_subword_prefix": "@@"}},
            "word pieces continue with '@@'",
        ),
        ({"added_tokens": [{"id": "x", "content": "a"}]}, "an added token is"),
        ({"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 3}}, "unk_id in it"),
        ({"model": {"type": "Unigram", "vocab": [["a"]], "unk_id": 0}}, "entry 0 of model.vocab"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path, change, message):
    whole = dict({"model": {"type": "WordPiece", "vocab": {"a": 0}}}, **change)
    with pytest.raises(WeightsError) as caught:
        read(tmp_path, whole)
    assert message in str(caught.value) and "\n" not in str(caught.value)
