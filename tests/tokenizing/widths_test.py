"""Full-width words, and tokenizers that come back from a folder as they were, or not at all."""

import json
import os
import warnings

import numpy as np
import pytest
from bert4keras.tokenizers import SpTokenizer, Tokenizer
from helpers import tiny_vocabulary
from hypothesis import given
from hypothesis import strategies as st

from kexue_keras.checkpoints._bundled import ASSETS
from kexue_keras.errors import UserError, WeightsError
from kexue_keras.models import load, save
from kexue_keras.similarity import SentenceEncoder
from kexue_keras.tokenizing.saved import load_tokenizer, save_tokenizer
from kexue_keras.tokenizing.widths import WIDTHS, WidthTokenizer, own_parts, vocabulary_tokenizer, written_settings

with open(os.path.join(ASSETS, "me5_zh_q4.vocab.txt"), encoding="utf-8") as handle:
    WORDS = {line.rstrip("\n"): i for i, line in enumerate(handle)}
PLAIN = Tokenizer(WORDS, do_lower_case=True)
WIDE = vocabulary_tokenizer(WORDS, do_lower_case=True)
TO_WIDE = {ord(usual): wide for wide, usual in WIDTHS.items()}
MIXED = st.text(st.sampled_from("今天天气不错，。！１２３ＡＢｃ＋￥abc12 iPhone☃" + "\u3000"), max_size=14)


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=14), MIXED)
def test_only_unknown_words_in_full_width_get_other_ids(anything, mixed):
    assert WIDE.tokenize(mixed.translate(WIDTHS)) == PLAIN.tokenize(mixed.translate(WIDTHS))
    for text in (anything, mixed):
        plain, wide = PLAIN.tokenize(text), WIDE.tokenize(text)
        unknown = PLAIN._token_unk_id
        if not any(ord(c) in WIDTHS for c in text) or unknown not in PLAIN.tokens_to_ids(plain):
            assert wide == plain
        # What was known stays, in its order; nothing becomes unknown that was not.
        known = [token for token in plain if token in WORDS]
        rest = iter(wide)
        assert all(token in rest for token in known)
        assert WIDE.tokens_to_ids(wide).count(unknown) <= PLAIN.tokens_to_ids(plain).count(unknown)


def test_full_width_words_of_the_bundled_model():
    for usual in ("ABC123", "iPhone11", "a+b", "价格¥999元", "13800138000"):
        wide = usual.translate(TO_WIDE)
        assert wide != usual and PLAIN._token_unk_id in PLAIN.encode(wide)[0]
        assert WIDE.encode(wide) == PLAIN.encode(usual)
        places = WIDE.rematch(wide, WIDE.tokenize(wide))
        assert [i for place in places for i in place] == list(range(len(wide)))
    # Alone they are tokens of the vocabulary, and stay such.
    assert WIDE.tokenize("１，") == ["[CLS]", "１", "，", "[SEP]"]


def own_tokenizer(**changes):
    words = {token: i for i, token in enumerate(tiny_vocabulary())}
    kind = changes.pop("kind", WidthTokenizer)
    return kind(words, do_lower_case=True, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"kind": Tokenizer},
        {"word_maxlen": 3},
        {"token_start": None},
        {"token_end": "."},
        {"token_translate": {"好": "坏"}},
        {"kind": Tokenizer, "token_end": None, "word_maxlen": 1},
    ],
    ids=str,
)
def test_a_tokenizer_comes_back_from_its_settings(tmp_path, changes):
    tokenizer, text = own_tokenizer(**changes), "好人，ａbcd 很好ＡＢ"
    for kind in ("bert", "t5"):
        settings = json.loads(json.dumps(written_settings(tokenizer, kind)))
        assert bool(settings) == bool(changes)
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"kexue_keras": settings}))
        again = vocabulary_tokenizer(tokenizer._token_dict, str(tmp_path), do_lower_case=True)
        assert again.encode(text) == tokenizer.encode(text) and type(again) is type(tokenizer)
    save_tokenizer(tokenizer, str(tmp_path))
    again = load_tokenizer(str(tmp_path))
    assert again.encode(text) == tokenizer.encode(text) and type(again) is type(tokenizer)


class Spaced(Tokenizer):
    def _tokenize(self, text, pre_tokenize=True):
        return text.split()


def renamed():
    tokenizer = own_tokenizer()
    tokenizer._token_unk = "a"
    return tokenizer


OWN = [
    (lambda: own_tokenizer(pre_tokenize=lambda text: list(text)), "pre_tokenize"),
    (lambda: own_tokenizer(kind=Spaced), "the class Spaced"),
    (renamed, "token_unk"),
]


@pytest.mark.parametrize("make, words", OWN, ids=[row[1] for row in OWN])
def test_what_no_file_can_hold_is_not_lost_silently(tmp_path, make, words):
    tokenizer = make()
    assert own_parts(tokenizer) == [words]
    with pytest.raises(UserError, match="%s.*cannot be saved with a run" % words):
        save_tokenizer(tokenizer, str(tmp_path))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"kexue_keras": written_settings(tokenizer, "bert")}))
    with pytest.raises(WeightsError, match="a tokenizer of your own.*%s.*give tokenizer=" % words):
        vocabulary_tokenizer(tokenizer._token_dict, str(tmp_path), do_lower_case=True)


@pytest.mark.parametrize("settings", [{"word_maxlen": 0}, {"token_end": 3}, {"token_translate": {"a": 1}}, {"x": 1}])
def test_settings_that_are_none(tmp_path, settings):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"kexue_keras": settings}))
    with pytest.raises(WeightsError, match="tokenizer_config.json: kexue_keras"):
        vocabulary_tokenizer({"[UNK]": 0}, str(tmp_path), do_lower_case=True)


def test_sentencepiece_of_bert_and_t5():
    path = os.path.join(ASSETS, "me5_zh_q4.spiece.model")
    assert written_settings(SpTokenizer(path, token_start="<s>", token_end="</s>"), "bert") == {}
    assert written_settings(SpTokenizer(path, token_start=None, token_end="</s>"), "t5") == {}
    assert written_settings(SpTokenizer(path, token_start=None, token_end="</s>"), "bert") == {"token_start": None}


@pytest.mark.all_stacks
def test_a_saved_encoder_says_the_same_or_asks_for_its_tokenizer(tiny, tmp_path):
    def words(text):
        return [text[i : i + 2] for i in range(0, len(text), 2)]

    texts = ["我喜欢电影好", "书店，ａｂ"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = own_tokenizer(pre_tokenize=words)
        own._token_dict["喜欢"] = own._token_dict.pop("h")
        encoder = SentenceEncoder(tiny, num_hidden_layers=1, tokenizer=own, max_length=16)
        encoder.save(str(tmp_path / "own"))
        with pytest.raises(WeightsError, match="pre_tokenize.*give tokenizer="):
            SentenceEncoder.load(str(tmp_path / "own"))
        again = SentenceEncoder.load(str(tmp_path / "own"), tokenizer=own)
        np.testing.assert_allclose(again.encode(texts), encoder.encode(texts), atol=1e-6)
        pretrained = load(tiny, num_hidden_layers=1, tokenizer=own_tokenizer(word_maxlen=1, kind=Tokenizer))
        save(pretrained, str(tmp_path / "hf"), format="hf")
        assert load(str(tmp_path / "hf")).tokenizer.encode("ab ａ") == pretrained.tokenizer.encode("ab ａ")
