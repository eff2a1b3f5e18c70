"""One step of Keras' recurrent cells in numpy, with all of its derivatives.

A step takes s_{t-1} to s_t (h, or h and c joined) by way of the pre-activations a of its gates:

    ds_t / ds_{t-1} = A R + E,   A = ds_t / da,  R = da / ds_{t-1},  E what does not go through a gate's matrix.

"Main" is the part of the article's frozen-gate formula that is diagonal (f of LSTM, what is kept of a GRU), "side" the
rest of it.

Reference: "也来谈谈RNN的梯度消失/爆炸问题", kexue.fm/archives/7888.
"""

from collections import namedtuple
from typing import Optional

import numpy as np

from kexue_keras.types import Array, ArrayLike

# s [b, S]; A [b, S, G]; R [b, G, S]; E [b, S, S]; recurrent [b, G]: factor of da that reaches the recurrent kernel;
# entering [b, gates, D]: what that kernel multiplies; main [b, D], side [b, D, D] (None where the cell has no main
# term).
Step = namedtuple("Step", "state A R E recurrent entering main side output")

KINDS = ("SimpleRNN", "LSTM", "GRU", "TiedGRU", "OutputGateGRU")
GATES = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3, "TiedGRU": 2, "OutputGateGRU": 3}


def sigmoid(a):
    """(1 / (1 + exp(-a)), its slope)."""
    value = 0.5 * (1 + np.tanh(a / 2))
    return value, value * (1 - value)


def hard_sigmoid(a):
    """Keras' clip(.2 a + .5, 0, 1), with its slope."""
    return np.clip(0.2 * a + 0.5, 0, 1), 0.2 * (np.abs(a) < 2.5)


def tanh(a):
    """(tanh(a), its slope)."""
    value = np.tanh(a)
    return value, 1 - value**2


ACTIVATIONS = {
    "sigmoid": sigmoid,
    "hard_sigmoid": hard_sigmoid,
    "tanh": tanh,
    "relu": lambda a: (np.maximum(a, 0), (a > 0) * 1.0),
    "linear": lambda a: (a, np.ones_like(a)),
}


class Cell(object):
    """A recurrent cell: weights as Keras has them, and `step`.

    Args:
        kind: one of KINDS.
        kernel: float [d, gates D].
        recurrent_kernel: float [D, gates D].
        bias: float [gates D], or [2, gates D] of a GRU with reset_after, or None.
        activation: name, of the candidate.
        recurrent_activation: name, of the gates.
        reset_after: of a GRU.
    """

    def __init__(
        self,
        kind: str,
        kernel: ArrayLike,
        recurrent_kernel: ArrayLike,
        bias: Optional[ArrayLike] = None,
        *,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
        reset_after: bool = False,
    ) -> None:
        unknown = [name for name in (activation, recurrent_activation) if name not in ACTIVATIONS]
        if unknown:
            raise ValueError(
                "Cell: activations must be of %s, but one is %r" % (", ".join(sorted(ACTIVATIONS)), unknown[0])
            )
        if kind not in KINDS:
            raise ValueError("Cell: kind must be one of %s, but is %r" % (", ".join(KINDS), kind))
        self.kind, self.reset_after = kind, reset_after
        self.W, self.U = [np.asarray(m, "float64") for m in (kernel, recurrent_kernel)]
        self.units = self.U.shape[0]
        self.biases = 0 if bias is None else np.ndim(bias)
        bias = np.zeros(self.U.shape[1]) if bias is None else np.asarray(bias, "float64")
        # The second row of a GRU with reset_after stays inside the reset gate.
        self.b, self.inner_b = (bias[0], bias[1]) if bias.ndim == 2 else (bias, np.zeros_like(bias))
        self.act, self.gate = ACTIVATIONS[activation], ACTIVATIONS[recurrent_activation]
        self.state_size = self.units * (2 if kind in ("LSTM", "OutputGateGRU") else 1)

    def step(self, x: Array, state: Array, output: Optional[Array] = None) -> Step:
        """A `Step` from inputs [b, d] and a state [b, S]; `output` is what the last step gave as its output gate."""
        given = x @ self.W + self.b
        return getattr(self, "_" + self.kind.lower())(given, state, output)

    def _parts(self, tensor):
        return np.split(tensor, GATES[self.kind], axis=-1)

    def _simplernn(self, given, h, _):
        value, slope = self.act(given + h @ self.U)
        A, R = _diagonal(slope), _repeat(self.U.T, len(h))
        return Step(value, A, R, 0.0 * A, np.ones_like(h), h[:, None], None, None, None)

    def _lstm(self, given, state, last):
        h, c = np.split(state, 2, axis=1)
        a = self._parts(given + h @ self.U)
        (i, di), (f, df), (o, do) = [self.gate(a[n]) for n in (0, 1, 3)]
        g, dg = self.act(a[2])
        new = f * c + i * g
        out, slope = self.act(new)
        to_c = np.concatenate([_diagonal(g * di), _diagonal(c * df), _diagonal(i * dg), 0 * _diagonal(o)], axis=2)
        to_h = (o * slope)[:, :, None] * to_c
        to_h[:, :, 3 * self.units :] += _diagonal(out * do)
        R = _repeat(np.concatenate([self.U.T, np.zeros_like(self.U.T)], axis=1), len(h))
        zero = 0 * _diagonal(f)
        E = _blocks([[zero, _diagonal(o * slope * f)], [zero, _diagonal(f)]])
        side = None
        if last is not None:
            inside = last * self.act(c)[1]
            side = (to_c[:, :, : 3 * self.units] @ self.U.T[: 3 * self.units]) * inside[:, None]
        entering = np.repeat(h[:, None], 4, axis=1)
        ones = np.ones((len(h), 4 * self.units))
        return Step(
            np.concatenate([o * out, new], axis=1),
            np.concatenate([to_h, to_c], axis=1),
            R,
            E,
            ones,
            entering,
            f,
            side,
            o,
        )

    def _gru(self, given, h, _):
        Uz, Ur, Uh = self._parts(self.U)
        bz, br, bh = self._parts(self.inner_b)
        az, ar, ah = self._parts(given)
        z, dz = self.gate(az + h @ Uz + bz)
        r, dr = self.gate(ar + h @ Ur + br)
        if self.reset_after:
            inner = h @ Uh + bh
            candidate, dc = self.act(ah + r * inner)
            from_reset = _diagonal(inner * dr)
            to_candidate, scale, enters = r[:, :, None] * Uh.T, r, h
        else:
            candidate, dc = self.act(ah + (r * h) @ Uh)
            from_reset = Uh.T * (h * dr)[:, None]
            to_candidate, scale, enters = Uh.T * r[:, None], np.ones_like(r), r * h
        # Keras keeps z of the old state; in the article's words that is 1 - z.
        to_c = _diagonal((1 - z) * dc)
        A = np.concatenate([_diagonal((h - candidate) * dz), to_c @ from_reset, to_c], axis=2)
        R = np.concatenate([_repeat(Uz.T, len(h)), _repeat(Ur.T, len(h)), to_candidate], axis=1)
        recurrent = np.concatenate([np.ones_like(z), np.ones_like(r), scale], axis=1)
        entering = np.stack([h, h, enters], axis=1)
        new = z * h + (1 - z) * candidate
        return Step(new, A, R, _diagonal(z), recurrent, entering, z, A @ R, None)

    def _tiedgru(self, given, h, _):
        Uz, Uh = self._parts(self.U)
        az, ah = self._parts(given)
        z, dz = self.gate(az + h @ Uz)
        candidate, dc = self.act(ah + (z * h) @ Uh)
        to_c = _diagonal(z * dc)
        A = np.concatenate([_diagonal((candidate - h) * dz) + to_c @ (Uh.T * (h * dz)[:, None]), to_c], axis=2)
        R = np.concatenate([_repeat(Uz.T, len(h)), Uh.T * z[:, None]], axis=1)
        new = (1 - z) * h + z * candidate
        ones = np.ones((len(h), 2 * self.units))
        return Step(new, A, R, _diagonal(1 - z), ones, np.stack([h, z * h], axis=1), 1 - z, A @ R, None)

    def _outputgategru(self, given, state, last):
        h, c = np.split(state, 2, axis=1)
        az, ar, ah = self._parts(given + h @ self.U)
        (z, dz), (r, dr), (candidate, dc) = self.gate(az), self.gate(ar), self.act(ah)
        new = (1 - z) * c + z * candidate
        to_c = np.concatenate([_diagonal((candidate - c) * dz), 0 * _diagonal(r), _diagonal(z * dc)], axis=2)
        to_h = r[:, :, None] * to_c
        to_h[:, :, self.units : 2 * self.units] += _diagonal(new * dr)
        R = _repeat(np.concatenate([self.U.T, np.zeros_like(self.U.T)], axis=1), len(h))
        zero = 0 * _diagonal(z)
        E = _blocks([[zero, _diagonal(r * (1 - z))], [zero, _diagonal(1 - z)]])
        side = None if last is None else (to_c @ self.U.T) * last[:, None]
        A = np.concatenate([to_h, to_c], axis=1)
        ones = np.ones((len(h), 3 * self.units))
        entering = np.repeat(h[:, None], 3, axis=1)
        return Step(np.concatenate([r * new, new], axis=1), A, R, E, ones, entering, 1 - z, side, r)


def _diagonal(values):
    return values[:, :, None] * np.eye(values.shape[1])


def _repeat(matrix, count):
    return np.repeat(matrix[None], count, axis=0)


def _blocks(rows):
    return np.concatenate([np.concatenate(row, axis=2) for row in rows], axis=1)
