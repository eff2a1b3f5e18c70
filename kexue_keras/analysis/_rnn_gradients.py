"""What far steps contribute to the gradient of a recurrent net: the article's definition of vanishing and exploding.

Reference: "也来谈谈RNN的梯度消失/爆炸问题", kexue.fm/archives/7888.
"""

from collections import namedtuple
from typing import Optional, Union

import numpy as np

from kexue_keras.analysis._recurrent_cells import KINDS, Cell
from kexue_keras.backend import K
from kexue_keras.types import ArrayLike, Layer

RNNGradientProfile = namedtuple(
    "RNNGradientProfile",
    "kind contribution state_jacobian total step_norm spectral_radius main side main_share",
)


def rnn_gradient_profile(
    layer: Union[Layer, Cell], x: ArrayLike, *, mask: Optional[ArrayLike] = None
) -> RNNGradientProfile:
    """The gradient of a recurrent layer's last output, split by how long ago the parameters acted.

    dh_T / dtheta = sum over lags l of (ds_T / ds_{T-l}) (partial s_{T-l} / partial theta): gradients vanish where far
    terms of this sum go to 0, not where the sum does. All derivatives are exact, in float64, of the layer's own
    weights; h and c are one state, so that no gate is frozen. In addition, the article's frozen-gate terms: "main" is
    what is kept of the state without passing a matrix (mean f of an LSTM, of a GRU 1 - z in the article's words, z in
    Keras'), "side" the rest of dc_t / dc_{t-1}, with the last output gate held fixed.

    Args:
        layer: a SimpleRNN, LSTM, GRU, `TiedGRU` or `OutputGateGRU` that is built, or a `Cell`.
        x: float [b, T, d], what the layer gets.
        mask: bool [b, T] or None; masked steps copy the state and do not count as lags.

    Returns:
        namedtuple, means over the batch: kind; contribution [T] and state_jacobian [T] (largest singular value of
        dh_T / dh_{T-l}) by lag 0, 1, ...; total, the norm of dh_T / dtheta; and means over the steps, nan where the
        cell
        has none: step_norm and spectral_radius of ds_t / ds_{t-1}, main, side (largest singular values),
        main_share = main / (main + side).

    Raises:
        ValueError: another kind of layer, activations without a known slope, shapes that do not fit, an empty row.

    Reference: kexue.fm/archives/7888.

    >>> layer = keras.layers.SimpleRNN(4)
    >>> y = layer(keras.layers.Input((None, 2)))
    >>> profile = kexue_keras.analysis.rnn_gradient_profile(layer, np.ones((3, 10, 2)))
    >>> profile.contribution.shape, bool(profile.state_jacobian[0] == 1)
    ((10,), True)
    """
    cell = layer if isinstance(layer, Cell) else _cell_of(layer)
    x = np.asarray(x, "float64")
    if x.ndim != 3 or x.shape[2] != len(cell.W):
        raise ValueError("rnn_gradient_profile: x must be [b, T, %d], but has the shape %s" % (len(cell.W), x.shape))
    mask = np.ones(x.shape[:2], bool) if mask is None else np.asarray(mask, bool)
    if mask.shape != x.shape[:2] or not mask.any(axis=1).all():
        raise ValueError(
            "rnn_gradient_profile: mask must be [b, T] with a step in each row, but has the shape %s" % (mask.shape,)
        )
    rows = [_row(cell, sequence[keep]) for sequence, keep in zip(x, mask)]
    most = max(len(row["contribution"]) for row in rows)
    by_lag = {}
    for name in ("contribution", "state_jacobian"):
        padded = np.full((len(rows), most), np.nan)
        for i, row in enumerate(rows):
            padded[i, : len(row[name])] = row[name]
        by_lag[name] = np.nanmean(padded, axis=0)
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0] if name not in by_lag}
    share = mean["main"] / (mean["main"] + mean["side"])
    return RNNGradientProfile(kind=cell.kind, main_share=share, **by_lag, **mean)


def _row(cell, sequence):
    """The measures of one sequence [T, d] without masked steps."""
    state, output, steps = np.zeros((1, cell.state_size)), None, []
    for x in sequence:
        step = cell.step(x[None], state, output)
        state, output = step.state, step.output
        steps.append(step)
    # dh_T / ds_T: h stands first.
    product = np.eye(cell.state_size)[: cell.units]
    gates = cell.U.shape[1] // cell.units
    contributions, products, jacobians = [], [], []
    total = [0.0] * 4
    for x, step in zip(sequence[::-1], steps[::-1]):
        products.append(np.linalg.norm(product[:, : cell.units], 2) if len(products) else 1.0)
        outer = product @ step.A[0]
        inner = outer * step.recurrent[0]
        entering = step.entering[0]
        squares = np.sum(outer**2) * (x @ x + (cell.biases > 0)) + np.sum(inner**2) * (cell.biases > 1)
        squares += np.sum(np.sum(inner.reshape(cell.units, gates, -1) ** 2, axis=2) * np.sum(entering**2, axis=1))
        contributions.append(np.sqrt(squares))
        # Kernel, recurrent kernel, bias, and the one inside the reset gate.
        total[0] = total[0] + outer[:, None] * x[:, None]
        total[1] = total[1] + entering.T[:, :, None] * inner.reshape(cell.units, 1, gates, -1)
        total[2] = total[2] + outer * (cell.biases > 0)
        total[3] = total[3] + inner * (cell.biases > 1)
        jacobian = step.A[0] @ step.R[0] + step.E[0]
        jacobians.append(jacobian)
        product = product @ jacobian
    sides = [step for step in steps if step.side is not None]
    return {
        "contribution": np.array(contributions),
        "state_jacobian": np.array(products),
        "total": np.sqrt(sum(np.sum(part**2) for part in total)),
        "step_norm": np.mean([np.linalg.norm(j, 2) for j in jacobians]),
        "spectral_radius": np.mean([np.abs(np.linalg.eigvals(j)).max() for j in jacobians]),
        "main": np.mean([step.main.mean() for step in sides]) if sides else np.nan,
        "side": np.mean([np.linalg.norm(step.side[0], 2) for step in sides]) if sides else np.nan,
    }


def _cell_of(layer):
    """The `Cell` of a Keras layer."""
    kind = type(layer).__name__
    kind = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}.get(kind, kind)
    if kind not in KINDS:
        raise ValueError(
            "rnn_gradient_profile: the layer must be one of %s, but is %r; of a Bidirectional give its forward_layer"
            % (", ".join(KINDS), layer)
        )
    inside = getattr(layer, "cell", layer)
    if not layer.weights:
        raise ValueError("rnn_gradient_profile: %s has no weights yet; call it or build it first" % layer.name)
    weights = {weight.name.split("/")[-1].split(":")[0]: K.get_value(weight) for weight in layer.weights}
    bias = weights.get("bias")
    return Cell(
        kind,
        weights["kernel"],
        weights["recurrent_kernel"],
        bias,
        activation=getattr(getattr(inside, "activation", None), "__name__", "tanh"),
        recurrent_activation=getattr(getattr(inside, "recurrent_activation", None), "__name__", "sigmoid"),
        reset_after=bool(getattr(inside, "reset_after", False)),
    )


def time_constant(gate: float) -> float:
    """After how many steps a gate f has let through 1/e of what was there: -1 / log f.

    >>> round(kexue_keras.analysis.time_constant(0.99), 2)
    99.5
    """
    return -1 / np.log(gate)


def suggest_forget_bias(steps: float) -> float:
    """The bias with which a sigmoid gate, its other inputs 0, has a time constant of `steps`.

    Args:
        steps: number > 0.

    Raises:
        ValueError: not > 0.

    >>> round(float(kexue_keras.analysis.suggest_forget_bias(100)), 3)
    4.6
    """
    if not steps > 0:
        raise ValueError("suggest_forget_bias: steps must be a number > 0, but is %r" % (steps,))
    return -np.log(np.expm1(1 / steps))
