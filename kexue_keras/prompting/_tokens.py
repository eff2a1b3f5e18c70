"""Tokens of the fixed pieces of a prompt: tokens in brackets such as [unused1] stay whole, nothing may be unknown."""

import re

BRACKETED = re.compile(r"(\[(?:unused\d+|[A-Z]+)\])")


def token_ids(tokenizer, piece, where):
    """Tokens and ids of a piece of a pattern, or of a label's word.

    Args:
        tokenizer: bert4keras tokenizer.
        piece: str.
        where: str, what messages call the place.

    Returns:
        (list of tokens, list of ids).

    Raises:
        ValueError: a token that the vocabulary lacks, or the padding.
    """
    tokens = []
    for part in BRACKETED.split(piece):
        if BRACKETED.fullmatch(part):
            tokens.append(part)
        else:
            cut = tokenizer.tokenize(part)
            begin, end = tokenizer._token_start is not None, tokenizer._token_end is not None
            tokens.extend(cut[int(begin) : len(cut) - int(end)])
    ids = tokenizer.tokens_to_ids(tokens)
    unknown = [token for token, i in zip(tokens, ids) if i == tokenizer._token_unk_id]
    if unknown:
        raise ValueError(
            "%s: the vocabulary has no token for %s; write it otherwise" % (where, ", ".join(map(repr, unknown)))
        )
    if 0 in ids:
        raise ValueError("%s: %r has the id 0, which is padding; take another" % (where, tokens[ids.index(0)]))
    return tokens, ids


def mask_id(tokenizer):
    """Id of [MASK].

    Raises:
        ValueError: the vocabulary has none.
    """
    i = getattr(tokenizer, "_token_mask_id", None)
    if i is None or i == tokenizer._token_unk_id:
        raise ValueError(
            "the vocabulary has no [MASK], so nothing can be asked; take a model with one (me5-zh-char-mlm)"
        )
    return i
