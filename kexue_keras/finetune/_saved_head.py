"""The weights of a run's head, read from its file and checked against the model that they are for."""

import numpy as np

from kexue_keras.errors import UserError
from kexue_keras.trainer._checkpoint import load_arrays


def saved_head(path, expected):
    """Arrays of a head, in the order of `expected`.

    Args:
        path: file that `save_arrays` wrote.
        expected: dict name -> array of the shape and dtype that is needed.

    Returns:
        list of arrays.

    Raises:
        UserError: it is of another model, or damaged, or not finite.
    """
    try:
        arrays, _ = load_arrays(path)
    except UserError:
        raise UserError("cannot be read as the head of a run; put back the file that the run wrote", path=path)
    for name, wanted in expected.items():
        if name not in arrays or arrays[name].shape != wanted.shape or arrays[name].dtype != wanted.dtype:
            found = "%s %s" % (arrays[name].dtype, list(arrays[name].shape)) if name in arrays else "none"
            raise UserError(
                "the %s of the head is %s; with the encoder and the labels of this run it is %s %s. Put back the file "
                "that the run wrote" % (name, found, wanted.dtype, list(wanted.shape)),
                path=path,
            )
        if not np.isfinite(arrays[name]).all():
            raise UserError(
                "its weights are NaN or infinite (%s), so it can answer nothing; train again with a lower "
                "--learning-rate" % name,
                path=path,
            )
    return [arrays[name] for name in expected]
