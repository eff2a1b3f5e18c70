"""Functions of the Keras backend replaced for the length of one call, and always put back."""

import contextlib

from kexue_keras.backend import K

# bert4keras swaps K.update while its optimizers build and forgets to put it back when they fail.
_TOUCHED = ("update", "update_add", "update_sub", "gradients", "zeros", "variable", "batch_get_value")


@contextlib.contextmanager
def replaced(**functions):
    """Within the block `K.name` is the given function; afterwards, also after an exception, all is as before.

    Args:
        functions: name of a function of the Keras backend -> what stands in for it. With none given the block
            only guards against others who patch and fail.
    """
    before = {name: getattr(K, name) for name in _TOUCHED}
    try:
        for name, function in functions.items():
            setattr(K, name, function)
        yield before
    finally:
        for name, function in before.items():
            setattr(K, name, function)
