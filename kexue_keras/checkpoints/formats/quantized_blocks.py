"""Weights in blocks of 32 with one scale each, in 3, 4 or 8 bits, as the bundled files have them.

4 bits, 18 bytes per block: a float16 scale d, then 16 bytes of which the low nibbles are weights 0..15 and the high
nibbles weights 16..31; a weight is (nibble - 8) d. 3 bits lie in the same bytes, of which they use the middle 8 values:
what a compressed file is smaller by is the same as with a form of their own. 8 bits, 34 bytes: d, then 32 signed bytes;
a weight is d times the byte.
"""

import numpy as np

BLOCK = 32
SIZES = {3: 18, 4: 18, 8: 34}
# The scale that the largest weight of a block asks for, times one of these: a smaller one clips that weight and is
# finer for the 31 others.
SHRUNK = {3: np.linspace(0.5, 1, 11), 4: np.linspace(0.7, 1, 7), 8: [1.0]}


def pack_blocks(weights, bits):
    """Pack an array in blocks.

    Of several scales a block takes the one with the least squared error.

    Args:
        weights: float array whose last axis is a multiple of 32.
        bits: 3, 4 or 8.

    Returns:
        uint8 array `weights.shape[:-1] + (blocks, 18 or 34)`.

    Raises:
        ValueError: another last axis or number of bits, or weights that no float16 scale can hold.

    >>> weights = np.random.RandomState(0).randn(2, 64)
    >>> packed = pack_blocks(weights, 8)
    >>> packed.shape, np.abs(unpack_blocks(packed).reshape(2, 64) - weights).max() < .02
    ((2, 2, 34), True)
    """
    if bits not in SIZES:
        raise ValueError("bits is %r; it is 3, 4 or 8" % (bits,))
    weights = np.asarray(weights, "float32")
    if not weights.ndim or weights.shape[-1] % BLOCK:
        raise ValueError("the last axis of the shape %s is no multiple of %d" % (weights.shape, BLOCK))
    blocks = weights.reshape(weights.shape[:-1] + (-1, BLOCK))
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=-1)[..., None], axis=-1)
    # 4 bits go from -8 to 7: the largest weight of a block takes the end that has one step more.
    lowest, highest = (-127, 127) if bits == 8 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    best = None
    for shrunk in SHRUNK[bits]:
        scale = (shrunk * (np.abs(largest) / highest if bits == 8 else largest / lowest)).astype("<f2")
        if not np.isfinite(scale).all():
            raise ValueError("the weights go up to %g, beyond what a float16 scale can hold" % np.abs(weights).max())
        exact = np.where(scale == 0, 1, scale).astype("float32")
        steps = np.clip(np.rint(blocks / exact), lowest, highest)
        error = np.square(steps * scale.astype("float32") - blocks).sum(axis=-1, keepdims=True)
        if best is None:
            best = scale, steps, error
        else:
            better = error < best[2]
            best = [np.where(better, new, old) for new, old in zip((scale, steps, error), best)]
    scale, steps, _ = best
    if bits == 8:
        values = steps.astype("int8").view("uint8")
    else:
        nibbles = (steps + 8).astype("uint8")
        values = nibbles[..., :16] | nibbles[..., 16:] << 4
    return np.concatenate([np.ascontiguousarray(scale).view("uint8"), values], axis=-1)


def unpack_blocks(blocks):
    """Unpack blocks to float32; the size of a block tells in which form they are.

    Args:
        blocks: uint8 `[..., 18]` or `[..., 34]`.

    Returns:
        float32 `[all weights]`.

    >>> one = np.float16(.5).tobytes() + bytes([0x9F] + [0x88] * 15)   # nibbles 15 and 9, the others 8
    >>> unpack_blocks(np.frombuffer(one, 'uint8').reshape(1, 18))[[0, 16, 1]]
    array([3.5, 0.5, 0. ], dtype=float32)
    """
    scale = np.ascontiguousarray(blocks[..., :2]).view("<f2").astype("float32")
    values = np.ascontiguousarray(blocks[..., 2:])
    if blocks.shape[-1] == SIZES[4]:
        steps = np.concatenate([values & 15, values >> 4], axis=-1).astype("float32") - 8
    else:
        steps = values.view("int8").astype("float32")
    return (steps * scale).reshape(-1)
