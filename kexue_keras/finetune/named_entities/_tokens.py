"""Between characters and tokens: texts encoded with the positions of their tokens, entities as tokens and back."""

from collections import namedtuple

from kexue_keras.data import checked_texts
from kexue_keras.tokenizing.offsets import tokens_with_spans


class EncodedText(namedtuple("EncodedText", "ids spans cut")):
    """A text as a model takes it.

    Attributes:
        ids: (token ids, segment ids).
        spans: list, (start, end) in characters of each token, or None.
        cut: the character from which on the text was cut off, or None.
    """


def encode_with_spans(tokenizer, texts, max_length, progress=None):
    """Texts as token ids, each with the positions of its tokens.

    Args:
        tokenizer: bert4keras tokenizer.
        texts: list of str.
        max_length: longest sequence in tokens, special ones included.
        progress: function that wraps the list, for instance tqdm.

    Returns:
        (list of `EncodedText`, number of texts that were truncated).

    Raises:
        ValueError: see `checked_texts`.
    """
    texts = checked_texts(texts, pairs=False)
    encoded, truncated = [], 0
    for text in progress(texts) if progress else texts:
        tokens, spans = tokens_with_spans(tokenizer, text)
        cut = None
        if len(tokens) > max_length:
            truncated += 1
            last = int(tokenizer._token_end is not None)
            keep = max_length - last
            cut = min([span[0] for span in spans[keep:] if span] or [len(text)])
            tokens, spans = tokens[:keep] + tokens[len(tokens) - last :], spans[:keep] + [None] * last
        ids = tokenizer.tokens_to_ids(tokens)
        encoded.append(EncodedText((ids, [0] * len(ids)), spans, cut))
    return encoded, truncated


class TokenEntities(object):
    """The entities of texts as first and last token.

    Args:
        encoded: list of `EncodedText`.
        labels: list of tuples of (start, end, label) in characters, as long.
        flat: bool; entities have no token in common, and what cannot be so is left out.

    Attributes:
        rows: list of lists of (first token, last token, label).
        moved: number of entities that do not begin and end with a token, and so were made longer.
        lost: number of those of which no token is there (cut off), or that share one with another.
    """

    def __init__(self, encoded, labels, flat=False):
        self.rows, self.moved, self.lost = [], 0, 0
        for text, entities in zip(encoded, labels):
            taken, row = set(), []
            for start, end, label in entities:
                tokens = [i for i, span in enumerate(text.spans) if span and span[0] < end and span[1] > start]
                whole = tokens and (text.cut is None or end <= text.cut)
                if not whole or (flat and taken & set(tokens)):
                    self.lost += 1
                    continue
                taken.update(tokens)
                self.moved += (text.spans[tokens[0]][0], text.spans[tokens[-1]][1]) != (start, end)
                row.append((tokens[0], tokens[-1], label))
            self.rows.append(row)
