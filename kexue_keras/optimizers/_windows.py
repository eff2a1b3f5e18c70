"""Whose micro batches an unfinished window of gradient accumulation holds: one window, one list of parameters."""

import warnings

import tensorflow as tf

from kexue_keras.backend import K, tf1
from kexue_keras.optimizers._arrivals import same


class WindowOwner(object):
    """Keeps the window of one model, or one set of trainable weights, from being finished with gradients of another.

    Args:
        name: of the optimizer, for messages.
    """

    def __init__(self, name):
        self.name = name
        self._lists, self._current, self._owner = [], None, None

    def begin(self, params, micro_step):
        """Note that a training graph is built for `params`.

        Returns:
            bool: whether others were trained before, whose unfinished window is to be discarded.

        Warns:
            UserWarning: there is something to discard.
        """
        if self._owner is None:
            # Not part of the state: a saved window is that of the model it is saved with.
            self._owner = K.variable(0, dtype="int64", name="%s/window_owner" % self.name)
        if self._number(params) is None:
            self._lists.append(tuple(params))
        before, self._current = self._current, self._number(params)
        if before in (None, self._current):
            return False
        pending = int(K.get_value(micro_step))
        K.set_value(self._owner, self._current)
        if pending:
            warnings.warn(
                "%s gets other weights in the middle of a window; a new one starts, without the %d micro batches of "
                "the old one. Train whole windows before you compile again, or call flush() where there is one"
                % (self.name, pending),
                stacklevel=6,
            )
        return pending > 0

    def claim(self, params, micro_step):
        """Op that makes the window that of `params`, and fails if it holds micro batches of others.

        Args:
            params: list of variables, one that `begin` has seen.
            micro_step: int64 tensor, micro batches in the window so far.
        """
        number = self._number(params)
        mine = tf.logical_or(tf.equal(micro_step, 0), tf.equal(self._owner.read_value(), number))
        check = tf1.assert_equal(
            mine,
            True,
            message="%s: the window is unfinished and holds micro batches of another model; finish it or call flush() "
            "before training this one, or give each model its own optimizer" % self.name,
        )
        with tf.control_dependencies([check]):
            return self._owner.assign(number, read_value=False)

    @property
    def params(self):
        """The parameters whose window it is, as a tuple."""
        return self._lists[int(K.get_value(self._owner))]

    def _number(self, params):
        return next((i for i, known in enumerate(self._lists) if same(known, params)), None)
