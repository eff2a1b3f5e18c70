"""Whether weights are numbers."""

import numpy as np

from kexue_keras.backend.stack import K


def nonfinite_weight(weights):
    """Name of the first of some variables that holds NaN or infinity, None if there is none.

    Args:
        weights: list of variables; those that hold no floating point numbers are passed over.
    """
    for weight in weights:
        # One by one: a model's weights need not be in memory a second time.
        if weight.dtype.is_floating and not np.isfinite(K.get_value(weight)).all():
            return weight.name
    return None
