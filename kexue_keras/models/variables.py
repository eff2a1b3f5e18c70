"""The variables of a checkpoint, read when they are asked for, and the error for what does not fit."""

import os
import re

import numpy as np
import tensorflow as tf

from kexue_keras.errors import WeightsError

# What optimizers leave in a checkpoint: Google's, mesh-TensorFlow's, Keras'.
_OPTIMIZER = re.compile(r"(_slot_\w+|/Adam(_1)?|/(adam|lamb)_[mv]|/Momentum|^global_step)$")


class Variables(dict):
    """Name -> array, read from the file when asked for; `shape(name)` reads nothing.

    A dict, since bert4keras takes a checkpoint that is one for the arrays themselves.

    Args:
        source: str, what messages call the file.
        entries: dict name -> (shape, function without arguments that returns the array).

    >>> variables = Variables('a file', {'x': ((2,), lambda: np.arange(2))})
    >>> variables.shape('x'), variables['x']
    ((2,), array([0, 1]))
    """

    def __init__(self, source, entries):
        super(Variables, self).__init__(entries)
        self.source = source

    def __getitem__(self, name):
        return super(Variables, self).__getitem__(name)[1]()

    def get(self, name, default=None):
        return self[name] if name in self else default

    def items(self):
        return ((name, self[name]) for name in self)

    def values(self):
        return (self[name] for name in self)

    def shape(self, name):
        """Shape of the array called `name`, a tuple."""
        return tuple(super(Variables, self).__getitem__(name)[0])

    def renamed(self, names):
        """The same arrays under other names.

        Args:
            names: dict name here -> (name there, whether to transpose); what it does not hold is left out.
        """
        entries = {}
        for old, (new, transposed) in names.items():
            if old in self:
                shape = self.shape(old)
                entries[new] = (shape[::-1] if transposed else shape, _reader(self, old, transposed))
        return Variables(self.source, entries)


def _reader(variables, name, transposed):
    return lambda: variables[name].T if transposed else variables[name]


def is_optimizers(name):
    """Whether a variable is an optimizer's, by its name.

    >>> is_optimizers('bert/pooler/dense/kernel/adam_m'), is_optimizers('bert/pooler/dense/kernel')
    (True, False)
    """
    return bool(_OPTIMIZER.search(name))


def from_arrays(source, arrays):
    """`Variables` of arrays that are in memory.

    >>> from_arrays('memory', {'x': np.zeros([2, 3])}).shape('x')
    (2, 3)
    """
    return Variables(source, {name: (np.shape(a), lambda a=a: a) for name, a in arrays.items()})


def read_tensorflow(prefix):
    """`Variables` of a TensorFlow checkpoint.

    Args:
        prefix: path without `.index` and `.data-00000-of-00001`.

    Raises:
        WeightsError: it is damaged or none.
    """
    try:
        # As bytes, since TensorFlow would encode a str as UTF-8, whatever the name of the file is.
        reader = tf.train.load_checkpoint(os.fsencode(prefix))
        shapes = reader.get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise WeightsError("%s is no readable TensorFlow checkpoint: %s" % (prefix, _first_line(error)))

    def read(name):
        try:
            return reader.get_tensor(name)
        except (tf.errors.OpError, ValueError, RuntimeError) as error:
            raise WeightsError("%s: %s cannot be read: %s" % (prefix, name, _first_line(error)))

    return Variables(prefix, {n: (tuple(shapes[n]), lambda n=n: read(n)) for n in sorted(shapes)})


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
