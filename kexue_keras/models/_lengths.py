"""How long a row may be: the argument that sets it, against the positions that the model has vectors for."""

import numbers

from bert4keras.layers import PositionEmbedding

from kexue_keras import checks


def checked_max_length(max_length, positions=None, *, name="max_length", least=2, source="the model", rows=None):
    """`max_length` as an int.

    Args:
        max_length: tokens, special ones included.
        positions: longest row that the model takes; None: any.
        name: the argument, for messages.
        least: smallest length that makes sense; a text has two special tokens.
        source: the model, for messages.
        rows: function of `max_length`: tokens of the longest row that comes of it; None: as many.

    Raises:
        ValueError: no whole number, too small, or more than there are positions; the message names the argument.

    >>> checked_max_length(64, 512)
    64
    >>> checked_max_length(128, 64, source='tiny')
    Traceback (most recent call last):
    ...
    ValueError: max_length is 128, but tiny has 64 positions
    """
    if not isinstance(max_length, numbers.Integral):
        raise checks.invalid(source, name, "an int", max_length)
    max_length = checks.whole_number(max_length, name, source, least=least, remedy="special tokens are included")
    longest = max_length if rows is None else rows(max_length)
    if positions is not None and longest > positions:
        message = "%s is %d, but %s has %d positions" % (name, max_length, source, positions)
        if rows is not None:
            most = max((n for n in range(positions + 1) if rows(n) <= positions), default=0)
            message = "%s, and a row has up to %d tokens; give at most %d" % (message, longest, most)
        raise ValueError(message)
    return max_length


def positions_of(model):
    """Tokens of the longest row that a Keras model or a bert4keras transformer takes; None if there is no limit.

    A hierarchical table of n positions reaches to n^2.
    """
    layers = model.layers.values() if isinstance(model.layers, dict) else model.layers
    sizes = [
        layer.input_dim ** (2 if layer.hierarchical else 1) for layer in layers if isinstance(layer, PositionEmbedding)
    ]
    return min(sizes) if sizes else None
