"""A text as the tokens that a model sees."""

import numpy as np

from kexue_keras.data._batches import encode


def tokens_of(tokenizer, text, max_length):
    """(list of str, list of int32 `[1, n]`: token ids and segment ids).

    Raises:
        ValueError: `text` is no str and no pair of them.
    """
    encoded, _ = encode(tokenizer, [text], max_length)
    token_ids, segment_ids = encoded[0]
    tokens = [str(token) for token in tokenizer.ids_to_tokens(token_ids)]
    return tokens, [np.array([token_ids], "int32"), np.array([segment_ids], "int32")]


def spoken(token):
    """A token without the marks of its tokenizer.

    >>> spoken('##ing'), spoken('▁今天'), spoken('[CLS]')
    ('ing', '今天', '[CLS]')
    """
    return token[2:] if token.startswith("##") and len(token) > 2 else token.replace("▁", " ").strip() or " "
