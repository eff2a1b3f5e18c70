"""Noise for a text that is to be said in other words: whole words become [MASK], as BART learns from damaged text.

Reference: "SimBERTv2来了！融合检索和生成的RoFormer-Sim模型", kexue.fm/archives/8454; BART, arXiv 1910.13461.
"""

import importlib.util
from typing import Callable, List, Sequence

import numpy as np

from kexue_keras.errors import UserError


def word_cutter() -> Callable[[str], List[str]]:
    """The function of the package jieba that cuts a Chinese text into words.

    Raises:
        UserError: jieba is not installed.
    """
    if importlib.util.find_spec("jieba") is None:
        raise UserError(
            "cutting texts into words needs the package jieba: pip install jieba==0.42.1; words=list masks characters"
        )
    import jieba

    return jieba.lcut


def whole_word_masking(
    words: Sequence[Sequence[int]],
    random: np.random.RandomState,
    *,
    mask_id: int,
    vocab_size: int,
    mask_rate: float = 0.15,
    lowest: int = 1,
) -> List[int]:
    """Hide whole words: of the tokens of a chosen word 80% become [MASK], 10% another token, 10% stay.

    Args:
        words: list of lists of token ids, one list per word.
        random: `np.random.RandomState`.
        mask_id: int, the id of [MASK].
        vocab_size: int; the other tokens are drawn from `lowest` to vocab_size - 1.
        mask_rate: share of the words that are chosen.
        lowest: first id that may stand in for another.

    Returns:
        list of token ids, as many as before.

    Raises:
        ValueError: mask_rate outside [0, 1].

    Reference: kexue.fm/archives/8454.

    >>> words = [[7, 8], [9], [10, 11, 12]]
    >>> whole_word_masking(words, np.random.RandomState(1), mask_id=4, vocab_size=90, mask_rate=.4)
    [7, 8, 9, 4, 4, 4]
    """
    if not 0 <= mask_rate <= 1:
        raise ValueError("mask_rate is %r; it is a share in [0, 1]" % (mask_rate,))
    out = []
    for word, chosen in zip(words, random.random_sample(len(words)) < mask_rate):
        for token in word:
            dice = random.random_sample() if chosen else 1.0
            out.append(mask_id if dice < 0.8 else int(random.randint(lowest, vocab_size)) if dice < 0.9 else token)
    return out


def token_words(tokenizer, text, words):
    """Token ids of a text, word by word, without the special ones.

    Args:
        tokenizer: bert4keras tokenizer.
        text: str.
        words: function of a text to the list of its words, for instance `word_cutter()`; `list` gives characters.
    """
    pieces = (tokenizer.encode(word)[0][1:-1] for word in words(text))
    return [list(map(int, ids)) for ids in pieces if len(ids)]
