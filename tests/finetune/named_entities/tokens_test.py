"""Entities as tokens: bounds within tokens, what is cut off, what shares a token; and back to characters."""

import pytest

from kexue_keras.finetune.named_entities._recognizer import as_characters
from kexue_keras.finetune.named_entities._tokens import TokenEntities, encode_with_spans
from kexue_keras.tokenizing.widths import WidthTokenizer

TOKENS = "[PAD] [UNK] [CLS] [SEP] 2023 年 北 京 好".split()


@pytest.fixture
def tokenizer():
    return WidthTokenizer({token: i for i, token in enumerate(TOKENS)}, do_lower_case=True)


def test_encoding_is_that_of_the_tokenizer_also_where_it_cuts(tokenizer):
    text = "２０２３年 北京\u200b好"
    for longest in (3, 5, 7, 99):
        (encoded,), truncated = encode_with_spans(tokenizer, [text], longest)
        assert encoded.ids == tokenizer.encode(text, maxlen=longest) and len(encoded.spans) == len(encoded.ids[0])
        assert truncated == (longest < 7) and encoded.spans[0] is None and encoded.spans[-1] is None
        assert encoded.cut == {3: 4, 5: 7}.get(longest)
    with pytest.raises(ValueError, match="texts is one str"):
        encode_with_spans(tokenizer, text, 9)


def entities(tokenizer, text, spans, longest=99, flat=False):
    encoded, _ = encode_with_spans(tokenizer, [text], longest)
    found = TokenEntities(encoded, [spans], flat)
    back = as_characters(text, encoded[0].spans, [entity + (1.0,) for entity in found.rows[0]])
    return found, [entity[:4] for entity in back]


def test_there_and_back(tokenizer):
    text = "２０２３年 北京\u200b好"
    found, back = entities(tokenizer, text, [(6, 8, "LOC"), (0, 5, "DATE")])
    assert found.rows == [[(3, 4, "LOC"), (1, 2, "DATE")]] and (found.moved, found.lost) == (0, 0)
    assert back == [(0, 5, "DATE", "２０２３年"), (6, 8, "LOC", "北京")]


def test_bounds_within_a_token_become_those_of_the_token(tokenizer):
    found, back = entities(tokenizer, "2023年北", [(0, 2, "x"), (2, 5, "y"), (5, 6, "y")])
    assert found.moved == 2 and back[0] == (0, 4, "x", "2023") and back[1] == (0, 5, "y", "2023年")
    # With one tag a token the second has no place.
    found, back = entities(tokenizer, "2023年北", [(0, 2, "x"), (2, 5, "y"), (5, 6, "y")], flat=True)
    assert found.lost == 1 and [entity[2] for entity in back] == ["x", "y"]


def test_what_is_cut_off_is_lost(tokenizer):
    found, back = entities(tokenizer, "北京好好", [(0, 2, "x"), (1, 3, "x"), (3, 4, "x")], longest=4)
    assert found.lost == 2 and back == [(0, 2, "x", "北京")]
    found, _ = entities(tokenizer, "北\u200b京", [(1, 2, "x")])
    assert found.lost == 1  # of a control character no token is made


def test_two_that_become_one_are_told_once(tokenizer):
    found, back = entities(tokenizer, "2023", [(0, 2, "x"), (2, 4, "x")])
    assert len(found.rows[0]) == 2 and back == [(0, 4, "x", "2023")]
