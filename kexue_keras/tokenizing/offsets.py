"""Where in the text each token stands, also where a tokenizer lower-cases, drops, replaces or does not know characters.

bert4keras' `rematch` gives nothing for [UNK], fails on a final sigma, and knows nothing of SentencePiece's
normalisation (full width, ①, ㎏).
"""

import unicodedata

from bert4keras.tokenizers import SpTokenizer

from kexue_keras.tokenizing.widths import WIDTHS


def tokens_with_spans(tokenizer, text):
    """Tokens of a text, and the characters of the text that each stands for.

    Args:
        tokenizer: bert4keras `Tokenizer`, `SpTokenizer` or ours.
        text: str.

    Returns:
        (list of str as `tokenizer.tokenize` gives them, list of (start, end), as long, the end exclusive; None for
        special tokens and for what stands for no character).

    >>> from kexue_keras.tokenizing.widths import WidthTokenizer
    >>> tokens = ['[UNK]', '[CLS]', '[SEP]', 'abc', '好', 'e']
    >>> tokenizer = WidthTokenizer({token: i for i, token in enumerate(tokens)}, do_lower_case=True)
    >>> tokens_with_spans(tokenizer, 'ＡＢＣ é  😀好')
    (['[CLS]', 'abc', 'e', '😀', '好', '[SEP]'], [None, (0, 3), (4, 5), (7, 8), (8, 9), None])
    """
    if isinstance(tokenizer, SpTokenizer):
        tokens, spans = _of_pieces(tokenizer, text)
    else:
        tokens = tokenizer._tokenize(text)
        spans = _of_words(text, tokens, tokenizer._do_lower_case)
    tokens = [tokenizer._token_translate.get(token) or token for token in tokens]
    if tokenizer._token_start is not None:
        tokens, spans = [tokenizer._token_start] + tokens, [None] + spans
    if tokenizer._token_end is not None:
        tokens, spans = tokens + [tokenizer._token_end], spans + [None]
    return tokens, spans


def _of_pieces(tokenizer, text):
    if tokenizer._pre_tokenize is not None:
        raise ValueError("a SentencePiece tokenizer with pre_tokenize says of no token where in the text it stands")
    model = tokenizer.sp_model
    if hasattr(model, "encode_as_offset_mapping"):  # SentencePiece 0.2.1 and later
        found = model.encode_as_offset_mapping(text)
        pieces, places = found["pieces"], found["offsets"]
    else:
        found = model.encode(text, out_type="immutable_proto").pieces
        pieces, places = [piece.piece for piece in found], [(piece.begin, piece.end) for piece in found]
    return list(pieces), [_trimmed(text, start, end) for start, end in places]


def _trimmed(text, start, end):
    """The span without blanks and control characters at its ends, or None."""
    while start < end and _is_blank(text[start]):
        start += 1
    while start < end and _is_blank(text[end - 1]):
        end -= 1
    return (start, end) if start < end else None


def _is_blank(character):
    return character.isspace() or unicodedata.category(character) in ("Cc", "Cf")


def _of_words(text, tokens, lower):
    """Spans of word pieces: their characters, one after the other, are those that the tokenizer left of the text."""
    characters, sources = _left_of(text, lower)
    usual = characters.translate(WIDTHS)
    spans, position = [], 0
    for token in tokens:
        piece = token[2:] if token[:2] == "##" and len(token) > 2 else token
        at = position
        if not (characters.startswith(piece, at) or usual.startswith(piece, at)):
            # Only a pre_tokenize that changes the text comes here.
            at = characters.find(piece, position)
        if at < 0 or not piece:
            spans.append(None)
            continue
        position = at + len(piece)
        spans.append((sources[at], _with_accents(text, sources[position - 1] + 1, lower)))
    return spans


def _with_accents(text, end, lower):
    """The end of a span after the accents of its own that follow a letter, which lower-casing drops."""
    while lower and end < len(text) and unicodedata.category(text[end]) == "Mn":
        end += 1
    return end


def _left_of(text, lower):
    """(what a `Tokenizer` makes words of, without blanks; the place in `text` of each of its characters)."""
    sources = list(range(len(text)))
    if lower:
        # As a whole, since a sigma is another one at the end of a word; how many characters become of each is the same.
        sources = [i for i, character in enumerate(text) for _ in character.lower()]
        text = text.lower()
        sources = [i for i, character in zip(sources, text) for _ in unicodedata.normalize("NFD", character)]
        text = unicodedata.normalize("NFD", text)
    kept = [pair for pair in zip(text, sources) if not _is_dropped(pair[0], lower)]
    return "".join(character for character, _ in kept), [source for _, source in kept]


def _is_dropped(character, lower):
    return _is_blank(character) or character in "\0\ufffd" or (lower and unicodedata.category(character) == "Mn")
