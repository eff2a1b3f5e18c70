"""A pattern: the sentence with one or more masked tokens that turns classification into a cloze.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; Schick and Schütze, arXiv 2001.07676.
"""

import re
from collections import namedtuple

from kexue_keras.prompting._tokens import BRACKETED, mask_id, token_ids
from kexue_keras.types import Tokenizer

_FIELD = re.compile(r"(\{[^{}]*\})")
_SINGLE, _PAIR = ("text",), ("text_a", "text_b")

# token_ids, segment_ids: lists of int; slots: positions of the masks; fixed: bool per token, True outside the text
Prompt = namedtuple("Prompt", "token_ids segment_ids slots fixed")


class Pattern(object):
    """A sentence with `{mask}` where the model is to answer and `{text}` where the text goes.

    `{mask}`, or `[MASK]`: two in a row ask for a word of two tokens. Pairs have `{text_a}` and `{text_b}`. Tokens in
    brackets are taken as they are: `[unused1]` and so on are the soft tokens of P-tuning, after a `[SEP]` the segment
    ids are 1. The positions of the slots follow from the tokens, whatever the vocabulary makes of the words. Only texts
    are cut when a row is too long.

    Args:
        template: str.

    Attributes:
        template: str.
        slots: int, how many masks there are.
        fields: ("text",) or ("text_a", "text_b").
        soft_tokens: list of the tokens [unused...], each once.

    Raises:
        ValueError: no `{mask}`, no text, one of a pair, a text twice, or another name in braces.

    Reference: kexue.fm/archives/7764.

    >>> pattern = kexue_keras.prompting.Pattern('下面报导一则{mask}{mask}新闻。{text}')
    >>> pattern.slots, pattern.fields
    (2, ('text',))
    >>> Pattern('[unused1]{mask}[unused2]{text}').soft_tokens
    ['[unused1]', '[unused2]']
    """

    def __init__(self, template: str) -> None:
        if not isinstance(template, str):
            raise ValueError("a pattern is a string such as '{mask}满意。{text}', not %r" % (template,))
        self.template = template = template.replace("[MASK]", "{mask}")
        self._parts = [part for part in _FIELD.split(template) if part]
        names = [part[1:-1] for part in self._parts if _FIELD.fullmatch(part)]
        unknown = [name for name in names if name not in ("mask",) + _SINGLE + _PAIR]
        texts = [name for name in names if name != "mask"]
        self.slots = names.count("mask")
        if unknown or "{" in "".join(self._literals()) or "}" in "".join(self._literals()):
            wrong = "{%s} is unknown" % unknown[0] if unknown else "there is a single brace"
            raise ValueError("pattern %r: %s; there are {mask}, {text}, {text_a} and {text_b}" % (template, wrong))
        if not self.slots:
            raise ValueError("pattern %r has no {mask}, so the model is asked nothing" % template)
        if sorted(texts) not in (list(_SINGLE), list(_PAIR)):
            raise ValueError(
                "pattern %r has %s; it needs {text} once, or {text_a} and {text_b} once each"
                % (template, " and ".join("{%s}" % name for name in texts) or "no text")
            )
        self.fields = _SINGLE if len(texts) == 1 else _PAIR
        brackets = [token for part in self._literals() for token in BRACKETED.findall(part)]
        self.soft_tokens = list(dict.fromkeys(token for token in brackets if token.startswith("[unused")))

    def __repr__(self):
        return "Pattern(%r)" % self.template

    def _literals(self):
        return [part for part in self._parts if not _FIELD.fullmatch(part)]

    def with_slots(self, slots: int) -> "Pattern":
        """The pattern with its masks, which have to stand side by side, replaced by `slots` of them.

        Raises:
            ValueError: they do not stand side by side.

        >>> Pattern('{mask}新闻。{text}').with_slots(2)
        Pattern('{mask}{mask}新闻。{text}')
        """
        run = "{mask}" * self.slots
        if run not in self.template:
            raise ValueError(
                "pattern %r: words of different lengths need all {mask} side by side, since their number changes"
                % self.template
            )
        return Pattern(self.template.replace(run, "{mask}" * slots))

    def compile(self, tokenizer: Tokenizer, max_length: int) -> "TokenizedPattern":
        """The pattern in the tokens of a vocabulary.

        Args:
            tokenizer: bert4keras tokenizer.
            max_length: longest row in tokens.

        Returns:
            `TokenizedPattern`.

        Raises:
            ValueError: the vocabulary has no [MASK] or lacks a token of the pattern; the pattern leaves no room for
                the text, so that truncation would cut it.
        """
        return TokenizedPattern(self, tokenizer, max_length)


class TokenizedPattern(object):
    """A pattern in the tokens of a vocabulary; see `Pattern.compile`."""

    def __init__(self, pattern, tokenizer, max_length):
        self.pattern, self.tokenizer, self.max_length = pattern, tokenizer, max_length
        mask = self._mask(tokenizer)
        self._pieces = [[i] for i in [getattr(tokenizer, "_token_start_id", None)] if i is not None]
        for part in pattern._parts:
            if part == "{mask}":
                self._pieces.append(mask)
            elif part.startswith("{"):
                self._pieces.append(part[1:-1])
            else:
                self._pieces.append(token_ids(tokenizer, part, "pattern %r" % pattern.template)[1])
        self._pieces.extend(self._end(tokenizer))
        fixed = sum(len(piece) for piece in self._pieces if isinstance(piece, list))
        self.room = max_length - fixed
        if self.room < len(pattern.fields):
            raise ValueError(
                "pattern %r takes %d tokens with the special ones, so of %d there are %d left for the text: truncation "
                "would cut the pattern; shorten it or allow longer rows"
                % (pattern.template, fixed, max_length, max(self.room, 0))
            )
        self.truncated = 0

    def _mask(self, tokenizer):
        return [mask_id(tokenizer)]

    def _end(self, tokenizer):
        return [[i] for i in [getattr(tokenizer, "_token_end_id", None)] if i is not None]

    def encode(self, text):
        """A text in the pattern.

        Args:
            text: str, or (str, str) for a pattern with two.

        Returns:
            `Prompt`.

        Raises:
            ValueError: the pattern takes something else.
        """
        texts = dict(zip(self.pattern.fields, self._cut(text)))
        segment, end = 0, getattr(self.tokenizer, "_token_end_id", None)
        tokens, segments, slots, fixed = [], [], [], []
        for piece in self._pieces:
            ids = piece if isinstance(piece, list) else texts[piece]
            for i in ids:
                if isinstance(piece, list) and i == getattr(self.tokenizer, "_token_mask_id", None):
                    slots.append(len(tokens))
                tokens.append(i)
                segments.append(segment)
                fixed.append(isinstance(piece, list))
                if i == end and isinstance(piece, list):
                    segment = 1
        return Prompt(tokens, segments, slots, fixed)

    def _cut(self, text):
        pair = len(self.pattern.fields) == 2
        texts = text if isinstance(text, tuple) else (text,)
        if len(texts) != 1 + pair or not all(isinstance(one, str) for one in texts):
            wanted = "pairs (str, str)" if pair else "single texts (str)"
            raise ValueError("pattern %r takes %s, but got %r" % (self.pattern.template, wanted, text))
        begin, end = self.tokenizer._token_start is not None, self.tokenizer._token_end is not None
        cut = []
        for one in texts:
            tokens = self.tokenizer.tokenize(one)
            cut.append(tokens[int(begin) : len(tokens) - int(end)])
        self.truncated += sum(map(len, cut)) > self.room
        while sum(map(len, cut)) > self.room:
            max(cut, key=len).pop()
        return [self.tokenizer.tokens_to_ids(tokens) for tokens in cut]
