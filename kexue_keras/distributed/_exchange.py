"""What the ranks tell each other outside of the graph: arrays, whole objects, the weights of a model."""

import pickle
from typing import Any, Dict

import numpy as np

from kexue_keras.backend import K
from kexue_keras.distributed._ranks import check_begun, engine
from kexue_keras.types import Model


def broadcast(value: Any = None) -> Any:
    """The object that rank 0 has; the other ranks get a copy of it. All have to call this.

    Args:
        value: anything that pickles, on rank 0; on the others it counts for nothing.

    >>> kexue_keras.distributed.broadcast({'score': 0.5})
    {'score': 0.5}
    """
    check_begun("broadcast")
    if engine().size == 1:
        return value
    data = pickle.dumps(value, protocol=4) if engine().rank == 0 else None
    data = engine().broadcast_bytes(data)
    return value if engine().rank == 0 else pickle.loads(data)


def average(values: Dict[str, float], count: float = 1) -> Dict[str, float]:
    """Means over all ranks, weighed by how many rows each rank has seen. All have to call this, with the same names.

    Args:
        values: dict name -> mean over the rows of this rank.
        count: how many they were.

    Returns:
        dict name -> mean over the rows of all ranks, the same on all.

    >>> kexue_keras.distributed.average({'loss': 0.5}, count=32)
    {'loss': 0.5}
    """
    check_begun("average")
    if engine().size == 1:
        return dict(values)
    names = sorted(values)
    # A rank without rows has no mean, and none to add.
    sums = [float(values[name]) * count if count else 0.0 for name in names] + [float(count)]
    found = engine().sum_array(np.array(sums, "float64"))
    return {name: float(total / found[-1]) for name, total in zip(names, found)}


def broadcast_weights(model: Model) -> None:
    """Give all ranks the weights of rank 0, and the state of its optimizer. All have to call this.

    Args:
        model: Keras model; compiled or not. The variables of an optimizer are there once it has trained; before that
            they are zeros on all ranks.

    >>> model = keras.models.Sequential([keras.layers.Dense(1, input_shape=(3,))])
    >>> kexue_keras.distributed.broadcast_weights(model)
    """
    if engine().size == 1:
        check_begun("broadcast_weights")
        return
    optimizer = getattr(model, "optimizer", None)
    variables = list(getattr(optimizer, "weights", ())) if optimizer is not None else []
    shapes = [K.int_shape(w) for w in model.weights]
    known = broadcast((shapes, len(variables)))
    if known != (shapes, len(variables)):
        raise ValueError(
            "broadcast_weights: rank %d has a model with %d weights and %d of the optimizer, rank 0 one with %d and "
            "%d; build the same model on all ranks"
            % (engine().rank, len(shapes), len(variables), len(known[0]), known[1])
        )
    # Many at a time: a session takes longer to prepare for a new set of variables than to read them.
    everything = list(model.weights) + variables
    values = K.batch_get_value(everything) if engine().rank == 0 else [None] * len(everything)
    values = [broadcast(value) for value in values]
    if engine().rank:
        K.batch_set_value(list(zip(everything, values)))
