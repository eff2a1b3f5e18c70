"""Two GRUs of the article: one whose output has a gate, which LSTM has and GRU lacks, and one with a single gate.

Reference: "也来谈谈RNN的梯度消失/爆炸问题", kexue.fm/archives/7888.
"""

from typing import Any, List, Optional, Sequence, Tuple

import tensorflow as tf
from bert4keras.layers import Layer

from kexue_keras import checks
from kexue_keras.backend import K, keras, register
from kexue_keras.types import Activation, Config, Initializer, Shape, Tensor


class _Cell(Layer):
    """What both cells share: a kernel [d, gates units], a recurrent kernel [units, gates units], a bias."""

    gates = None

    def __init__(
        self,
        units: int,
        *,
        activation: Activation = "tanh",
        recurrent_activation: Activation = "sigmoid",
        kernel_initializer: Initializer = "glorot_uniform",
        recurrent_initializer: Initializer = "orthogonal",
        bias_initializer: Initializer = "zeros",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = checks.whole_number(units, "units", type(self).__name__, least=1)
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.output_size = self.units

    def build(self, input_shape: Shape) -> None:
        size = tf.compat.dimension_value(tf.TensorShape(input_shape)[-1])
        if size is None:
            raise ValueError("%s: the last axis must be known, but the shape is %s" % (self.name, input_shape))
        columns = self.gates * self.units
        self.kernel = self.add_weight(name="kernel", shape=(size, columns), initializer=self.kernel_initializer)
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel", shape=(self.units, columns), initializer=self.recurrent_initializer
        )
        self.bias = self.add_weight(name="bias", shape=(columns,), initializer=self.bias_initializer)
        super().build(input_shape)

    def _parts(self, tensor):
        return [tensor[..., i * self.units : (i + 1) * self.units] for i in range(self.gates)]

    def get_config(self) -> Config:
        return dict(
            super().get_config(),
            units=self.units,
            activation=keras.activations.serialize(self.activation),
            recurrent_activation=keras.activations.serialize(self.recurrent_activation),
            kernel_initializer=keras.initializers.serialize(self.kernel_initializer),
            recurrent_initializer=keras.initializers.serialize(self.recurrent_initializer),
            bias_initializer=keras.initializers.serialize(self.bias_initializer),
        )


@register
class OutputGateGRUCell(_Cell):
    """A step of `OutputGateGRU`: inputs [b, d] and the states h, c [b, units]; output h and the new states."""

    gates = 3

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.state_size = [self.units, self.units]

    def call(
        self, inputs: Tensor, states: Sequence[Tensor], training: Optional[bool] = None
    ) -> Tuple[Tensor, List[Tensor]]:
        h, c = states
        z, r, candidate = self._parts(
            K.bias_add(K.dot(inputs, self.kernel) + K.dot(h, self.recurrent_kernel), self.bias)
        )
        z, r = self.recurrent_activation(z), self.recurrent_activation(r)
        c = (1 - z) * c + z * self.activation(candidate)
        h = r * c
        return h, [h, c]


@register
class TiedGRUCell(_Cell):
    """A step of `TiedGRU`: inputs [b, d] and the state h [b, units]; output h and the new state."""

    gates = 2

    def __init__(self, units: int, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.state_size = self.units

    def call(
        self, inputs: Tensor, states: Sequence[Tensor], training: Optional[bool] = None
    ) -> Tuple[Tensor, List[Tensor]]:
        h = states[0]
        given = self._parts(K.bias_add(K.dot(inputs, self.kernel), self.bias))
        gate, candidate = self._parts(self.recurrent_kernel)
        z = self.recurrent_activation(given[0] + K.dot(h, gate))
        h = (1 - z) * h + z * self.activation(given[1] + K.dot(z * h, candidate))
        return h, [h]


class _Recurrent(keras.layers.RNN):
    """A layer around one of the cells; it takes the arguments of both."""

    cell_class = None

    def __init__(self, units: int, **kwargs: Any) -> None:
        arguments = ("activation", "recurrent_activation")
        arguments += ("kernel_initializer", "recurrent_initializer", "bias_initializer")
        cell = self.cell_class(units, **{name: kwargs.pop(name) for name in arguments if name in kwargs})
        super().__init__(cell, **kwargs)

    @property
    def units(self) -> int:
        """How many numbers a state has."""
        return self.cell.units

    def get_config(self) -> Config:
        config = super().get_config()
        del config["cell"]
        inner = self.cell.get_config()
        for name in ("name", "trainable", "dtype", "batch_input_shape"):
            inner.pop(name, None)
        return dict(config, **inner)

    @classmethod
    def from_config(cls, config: Config, custom_objects: Optional[Config] = None) -> "_Recurrent":
        return cls(**config)


@register
class OutputGateGRU(_Recurrent):
    """A GRU whose reset gate is an output gate: the article's fix of GRU's gradients.

    z, r = sigmoid(W x + U h + b), candidate = tanh(W x + U h + b), c_t = (1 - z) c_{t-1} + z candidate, h_t = r c_t.
    The way from c_{t-1} to c_t past the gates has one gate more than in a GRU, as in an LSTM, so that the main term
    1 - z weighs more. It is not Keras' `reset_after`, which moves the reset gate after the matrix.

    Args:
        units: int.
        activation, recurrent_activation, kernel_initializer, recurrent_initializer, bias_initializer: as in keras'
            GRU. Columns are z, r, candidate. A negative bias of z (it starts at 0) makes the memory longer.
        **kwargs: return_sequences, return_state (h and c), go_backwards, stateful, unroll, name.

    Call arguments:
        float tensor [b, T, d] with known d; mask; initial_state [h, c].

    Returns:
        [b, units], or [b, T, units] with `return_sequences`.

    Raises:
        ValueError: units not a whole number > 0, unknown last axis.

    Reference: kexue.fm/archives/7888.

    >>> x = keras.layers.Input((None, 4))
    >>> K.int_shape(kexue_keras.layers.OutputGateGRU(6, return_sequences=True)(x))
    (None, None, 6)
    """

    cell_class = OutputGateGRUCell


@register
class TiedGRU(_Recurrent):
    """A GRU with one gate for update and reset.

    z = sigmoid(W x + U h + b), h_t = (1 - z) h_{t-1} + z tanh(W x + U (z h_{t-1}) + b).

    Args:
        units, **kwargs: as in `OutputGateGRU`; columns are z, candidate; one state.

    Call arguments:
        float tensor [b, T, d] with known d; mask; initial_state.

    Returns:
        [b, units], or [b, T, units] with `return_sequences`.

    Raises:
        ValueError: units not a whole number > 0, unknown last axis.

    Reference: kexue.fm/archives/7888.

    >>> K.int_shape(kexue_keras.layers.TiedGRU(6)(keras.layers.Input((None, 4))))
    (None, 6)
    """

    cell_class = TiedGRUCell
