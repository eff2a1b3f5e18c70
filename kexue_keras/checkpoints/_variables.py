"""The variables of a checkpoint, read when they are asked for, and the error for what does not fit."""

import contextlib
import glob
import os
import re
import tempfile

import numpy as np
import tensorflow as tf

from kexue_keras.checkpoints.formats.tensorflow_index import read_index
from kexue_keras.errors import WeightsError, has_half_pair, shorten
from kexue_keras.files.paths import matching, path_text

# What optimizers leave in a checkpoint: Google's, mesh-TensorFlow's, Keras'.
_OPTIMIZER = re.compile(r"(_slot_\w+|/Adam(_1)?|/(adam|lamb)_[mv]|/Momentum|^global_step)$")
_LONGEST_NAME = 1000


class Variables(dict):
    """Name -> array, read from the file when asked for; `shape(name)` reads nothing.

    A dict, since bert4keras takes a checkpoint that is one for the arrays themselves.

    Args:
        source: str, what messages call the file.
        entries: dict name -> (shape, function without arguments that returns the array).

    Raises:
        WeightsError: a name with control characters, which a terminal would obey when a message names it.

    >>> variables = Variables('a file', {'x': ((2,), lambda: np.arange(2))})
    >>> variables.shape('x'), variables['x']
    ((2,), array([0, 1]))
    """

    def __init__(self, source, entries):
        super(Variables, self).__init__(entries)
        self.source = source
        odd = next((name for name in entries if not name.isprintable() or len(name) > _LONGEST_NAME), None)
        if odd is not None:
            raise WeightsError("%s has a variable of the name '%s', which no model has" % (source, shorten(ascii(odd))))

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
    """`Variables` of a TensorFlow checkpoint; half precision comes as float32.

    Args:
        prefix: path without `.index` and `.data-00000-of-00001`.

    Raises:
        WeightsError: it is damaged or none.
    """
    prefix = path_text(prefix)
    entries, opened = read_index(prefix), _opener(prefix)

    def read(name):
        dtype = tf.dtypes.as_dtype(entries[name].dtype)
        if not (dtype.is_floating or dtype.is_integer or dtype.is_bool):
            raise WeightsError("%s: %s holds values of the type %s, no weights" % (prefix, name, dtype.name))
        try:
            with opened() as reader:
                value = reader.get_tensor(name)
        except (tf.errors.OpError, ValueError, RuntimeError, IndexError) as error:
            raise WeightsError("%s: %s cannot be read: %s" % (prefix, name, _first_line(error)))
        return value.astype("float32") if dtype in (tf.float16, tf.bfloat16) else value

    return Variables(prefix, {n: (entries[n].shape, lambda n=n: read(n)) for n in sorted(entries)})


def _opener(prefix):
    """A function that gives a context with TensorFlow's reader, made once: that takes as long as reading a tensor.

    It takes a prefix for a pattern and for UTF-8, so one with `[` or `*` in it, or in another encoding, is opened by
    another name, each time since it looks for the file of the values at the first of them.
    """
    kept = []

    @contextlib.contextmanager
    def opened():
        if not kept:
            kept.append(tf.train.load_checkpoint(prefix))
        yield kept[0]

    @contextlib.contextmanager
    def renamed():
        with tempfile.TemporaryDirectory() as folder:
            parent, name = os.path.split(os.path.abspath(prefix))
            for path in matching(parent, glob.escape(name) + ".*"):
                os.symlink(path, os.path.join(folder, "x" + os.path.basename(path)[len(name) :]))
            yield tf.train.load_checkpoint(os.path.join(folder, "x"))

    return renamed if set("*?[]\\") & set(prefix) or has_half_pair(prefix) else opened


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0]
