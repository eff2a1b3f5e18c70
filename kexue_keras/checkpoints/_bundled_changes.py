"""What was trained further in a bundled model: the difference to the model it began from, packed.

A variable that the first model lacks (the head) stands whole, any other as the difference, which is small and hence
packs well. Matrices are in blocks (`blocks.py`), everything else is float16; what did not change is not there.
"""

import os

import numpy as np

from kexue_keras.checkpoints.formats.quantized_blocks import BLOCK, SIZES, pack_blocks, unpack_blocks
from kexue_keras.errors import WeightsError


def pack_changes(variables, base, *, bits=4, head_bits=8):
    """Pack what differs.

    Args:
        variables: dict variable name -> float array, the trained model.
        base: dict variable name -> float array, the model it began from.
        bits: 3, 4 or 8, for differences of matrices.
        head_bits: 3, 4 or 8, for matrices that `base` lacks.

    Returns:
        dict variable name -> uint8 blocks or float16 array.

    Raises:
        ValueError: a variable of `base` is absent or has another shape.

    >>> base = {'kernel': np.zeros((2, 64)), 'bias': np.zeros(3)}
    >>> changes = pack_changes({'kernel': np.ones((2, 64)), 'bias': np.zeros(3), 'head': np.ones(3)}, base)
    >>> {name: (array.dtype.name, array.shape) for name, array in sorted(changes.items())}
    {'head': ('float16', (3,)), 'kernel': ('uint8', (2, 2, 18))}
    """
    wrong = [name for name in base if name not in variables or np.shape(variables[name]) != np.shape(base[name])]
    if wrong:
        raise ValueError("%d variables are absent or have another shape, first of them %s" % (len(wrong), wrong[0]))
    changes = {}
    for name, value in variables.items():
        known = name in base
        value = value - base[name] if known else np.asarray(value)
        if known and not value.any():
            continue
        in_blocks = value.ndim > 1 and value.shape[-1] % BLOCK == 0
        changes[name] = pack_blocks(value, bits if known else head_bits) if in_blocks else value.astype("float16")
    return changes


def unpack_changes(changes):
    """Dict variable name -> float32 array of what `pack_changes` made."""
    out = {}
    for name, array in changes.items():
        if array.dtype == np.uint8 and array.shape[-1] in SIZES.values():
            out[name] = unpack_blocks(array).reshape(array.shape[:-2] + (-1,))
        else:
            out[name] = array.astype("float32")
    return out


def apply_changes(variables, path, *, without=()):
    """The variables with the changes of a file.

    Args:
        variables: dict variable name -> float32 array.
        path: .npz of what `pack_changes` made.
        without: tuple of str, how names begin that are left out.

    Returns:
        dict, a new one.

    Raises:
        WeightsError: the file cannot be read, or belongs to another model.
    """
    try:
        with np.load(path) as packed:
            names = [name for name in packed.files if not name.startswith(tuple(without))]
            changes = unpack_changes({name: packed[name] for name in names})
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise WeightsError("%s cannot be read: %s" % (path, " ".join(str(error).split())))
    out = dict(variables)
    for name, change in changes.items():
        if name in variables and np.shape(variables[name]) != change.shape:
            raise WeightsError(
                "%s does not belong to this model: %s has the shape %s, not %s"
                % (os.path.basename(path), name, change.shape, np.shape(variables[name]))
            )
        out[name] = variables[name] + change if name in variables else change
    return out
