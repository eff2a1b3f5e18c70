"""When each parameter began to be trained: what starts from a copy, or corrects for a start from zero, goes by that.

An optimizer counts its updates once, but its slots belong to parameters, and these may come later: layers that are
unfrozen, the new model of the next fold. To a slot of theirs the first update is not update 1.
"""

import numpy as np
import tensorflow as tf

from kexue_keras.backend import K


class Arrivals(object):
    """For every list of parameters that is trained, the counter of updates at which each of them joined.

    The variable is saved with the optimizer as soon as a parameter has come late, and only then, so that the weights of
    all other optimizers stay what they have always been.

    Args:
        name: of the variables.
        keep_age: what becomes of a parameter that was frozen for a while: True continues with the slots as they were
            (moments), False starts anew (an old copy of the weights is of no use).

    Attributes:
        variable: int64 `[n]` of the parameters trained now, None before the first.
        late: whether one of them was not there from the start.
    """

    def __init__(self, name, *, keep_age):
        self.name, self.keep_age = name, keep_age
        self.variable, self.late = None, False
        self._params, self._by_list, self._ages = (), {}, {}

    def admit(self, params, counter):
        """Note who is there now; safe to repeat.

        Args:
            params: list of variables.
            counter: int64 variable of the updates done.
        """
        params = tuple(params)
        if self.variable is not None and same(params, self._params):
            return
        joined = np.zeros(len(params), "int64")
        if self.variable is not None:
            now = int(K.get_value(counter))
            before = {id(p): (p, now - int(at)) for p, at in zip(self._params, K.get_value(self.variable))}
            ages = {key: age for key, (_, age) in before.items()}
            if self.keep_age:
                # With the parameters themselves, since an id may come back for another object.
                self._ages.update(before)
                ages = {key: age for key, (_, age) in self._ages.items()}
            joined = np.array([now - ages.get(id(p), 0) for p in params], "int64")
        key = tuple(map(id, params))
        if key not in self._by_list:
            with tf.init_scope():
                self._by_list[key] = K.variable(joined, dtype="int64", name=self.name)
        else:
            K.set_value(self._by_list[key], joined)
        self.variable, self.late, self._params = self._by_list[key], bool(joined.any()), params

    def ages(self, params, count):
        """List of int64 scalars: updates that each of `params` has seen when the counter is `count`."""
        joined = self._by_list[tuple(map(id, params))].read_value()
        return tf.cast(count, tf.int64) - joined

    def reset(self):
        """All parameters are there from the start."""
        self.late = False
        if self.variable is not None:
            K.set_value(self.variable, np.zeros(K.int_shape(self.variable), "int64"))

    def fits(self, value):
        """Whether an array is what was saved of the variable, and not that of a slot."""
        value = np.asarray(value)
        return value.dtype.kind in "iu" and value.shape == K.int_shape(self.variable)


def same(some, others):
    """Whether two lists hold the same variables in the same order."""
    return len(some) == len(others) and all(a is b for a, b in zip(some, others))
