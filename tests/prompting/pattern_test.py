"""Patterns: places of the slots and the text, truncation, pairs, soft tokens, what is refused."""

import pytest
from prompts import VOCABULARY, tokenizer

from kexue_keras.prompting import Pattern


def spell(prompt):
    return [VOCABULARY[i] for i in prompt.token_ids]


def test_slots_are_found_where_the_tokens_put_them():
    prompt = Pattern("ab{mask}喜欢。{text}").compile(tokenizer(), 32).encode("书好")
    # Nothing is counted in characters, and spaces are no tokens.
    assert spell(prompt)[:4] == ["[CLS]", "a", "##b", "[MASK]"] and prompt.slots == [3]
    assert Pattern(" a  b {mask}{text}").compile(tokenizer(), 32).encode("书").slots == [3]
    with pytest.raises(ValueError, match="no token for 'abc'"):
        Pattern("abc{mask}{text}").compile(tokenizer(), 32)


def test_prefix_suffix_and_two_slots():
    prompt = Pattern("喜{mask}{mask}欢{text}。").compile(tokenizer(), 32).encode("书好")
    assert spell(prompt) == ["[CLS]", "喜", "[MASK]", "[MASK]", "欢", "书", "好", "。", "[SEP]"]
    assert prompt.slots == [2, 3]
    assert prompt.fixed == [True] * 5 + [False] * 2 + [True] * 2
    assert set(prompt.segment_ids) == {0}
    assert Pattern("喜[MASK]{text}").template == "喜{mask}{text}"


def test_only_the_text_is_cut():
    pattern = Pattern("{text}{mask}喜欢。").compile(tokenizer(), 10)
    prompt = pattern.encode("书好" * 20)
    assert spell(prompt) == ["[CLS]", *"书好书好", "[MASK]", *"喜欢。", "[SEP]"]
    assert pattern.truncated == 1
    with pytest.raises(ValueError, match="takes 6 tokens with the special ones, so of 6 there are 0 left"):
        Pattern("{text}{mask}喜欢。").compile(tokenizer(), 6)
    with pytest.raises(ValueError, match="of 7 there are 1 left.*truncation would cut"):
        Pattern("{text_a}{mask}喜欢。{text_b}").compile(tokenizer(), 7)


def test_pairs_are_cut_evenly_and_segments_follow_sep():
    pattern = Pattern("{text_a}[SEP]{mask}，{text_b}".replace("，", ","))
    compiled = pattern.compile(tokenizer(), 12)
    prompt = compiled.encode(("书" * 9, "好店"))
    assert spell(prompt) == ["[CLS]", *"书书书书书", "[SEP]", "[MASK]", ",", *"好店", "[SEP]"]
    assert prompt.segment_ids == [0] * 7 + [1] * 5
    with pytest.raises(ValueError, match="takes pairs"):
        compiled.encode("书")
    with pytest.raises(ValueError, match="takes single texts"):
        Pattern("{mask}{text}").compile(tokenizer(), 9).encode(("书", "书"))


def test_soft_tokens_stay_whole():
    pattern = Pattern("[unused1]{mask}[unused2]{text}[unused1]")
    assert pattern.soft_tokens == ["[unused1]", "[unused2]"]
    assert spell(pattern.compile(tokenizer(), 9).encode("书"))[1:4] == ["[unused1]", "[MASK]", "[unused2]"]
    with pytest.raises(ValueError, match=r"no token for '\[unused7\]'"):
        Pattern("[unused7]{mask}{text}").compile(tokenizer(), 9)


@pytest.mark.parametrize(
    "template, words",
    [
        ("好{text}", "no {mask}"),
        ("{mask}好", "no text"),
        ("{mask}{text}{text}", "{text} and {text}"),
        ("{mask}{text_a}", "has {text_a}; it needs"),
        ("{mask}{text}{word}", "{word} is unknown"),
        ("{mask{text}", "there is a single brace"),
        (3, "a pattern is a string"),
    ],
)
def test_refused(template, words):
    with pytest.raises(ValueError) as info:
        Pattern(template)
    assert words in str(info.value)


def test_other_numbers_of_slots():
    assert Pattern("喜{mask}{mask}{text}").with_slots(1).template == "喜{mask}{text}"
    with pytest.raises(ValueError, match="side by side"):
        Pattern("{mask}喜{mask}{text}").with_slots(3)
    without = tokenizer()
    without._token_mask_id = without._token_unk_id
    with pytest.raises(ValueError, match=r"has no \[MASK\]"):
        Pattern("{mask}{text}").compile(without, 9)
