"""Whether weights are numbers."""

import numpy as np

from kexue_keras.backend.stack import K

# What is fetched together: a session prepares each new set of fetches, which takes longer than to copy small weights,
# but a model's weights need not be in memory a second time.
BYTES = 2**26


def nonfinite_weight(weights):
    """Name of the first of some variables that holds NaN or infinity, None if there is none.

    Args:
        weights: list of variables; those that hold no floating point numbers are passed over.
    """
    for batch in _batches([weight for weight in weights if weight.dtype.is_floating]):
        for weight, value in zip(batch, K.batch_get_value(batch)):
            if not np.isfinite(value).all():
                return weight.name
    return None


def _batches(weights):
    """The variables in order, as many together as have `BYTES`, at least one."""
    batch, size = [], 0
    for weight in weights:
        more = weight.shape.num_elements() * weight.dtype.size
        if batch and size + more > BYTES:
            yield batch
            batch, size = [], 0
        batch.append(weight)
        size += more
    if batch:
        yield batch
