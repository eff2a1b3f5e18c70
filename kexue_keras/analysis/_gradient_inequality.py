"""The gradient of a net in its input is bounded by that in its parameters: the inequality of the two penalties.

Reference: "输入梯度惩罚与参数梯度惩罚的一个不等式", kexue.fm/archives/8796; arXiv 2111.15090.
"""

from collections import namedtuple
from typing import Sequence

import numpy as np

from kexue_keras.analysis._recurrent_cells import ACTIVATIONS
from kexue_keras.types import ArrayLike, Model

GradientInequality = namedtuple(
    "GradientInequality",
    "value input_gradient parameter_gradient left left_frobenius "
    "layer_left layer_right hidden_norm weight_norm jacobian_norm",
)


def gradient_inequality_np(
    weights: Sequence[ArrayLike], biases: Sequence[ArrayLike], activations: Sequence[str], x: ArrayLike
) -> GradientInequality:
    """Both sides of |grad_x f|^2 sum_t (1 + |h_t|^2) / (|W_t|^2 |dh_t/dx|^2) <= |grad_theta f|^2, for each sample.

    The net is h_{t+1} = g(W_t h_t + b_t) with h_1 = x, and f its only output. It holds for each layer alone:
    |grad_x f|^2 |h|^2 / (|W|^2 |dh/dx|^2) <= |grad_W f|^2, and without |h|^2 for b. Norms of matrices are spectral;
    with Frobenius norms the left side is smaller. A layer whose dh/dx is 0 is left out.

    Args:
        weights: list of float [d_out, d_in], W_t; the last has d_out = 1.
        biases: list of float [d_out].
        activations: list of names: "tanh", "relu", "sigmoid", "hard_sigmoid", "linear".
        x: float [b, d] or [d].

    Returns:
        namedtuple of arrays [b] (value f, squares input_gradient and parameter_gradient, left, left_frobenius) and
        [b, layers] (layer_left, layer_right, hidden_norm |h_t|, weight_norm |W_t|, jacobian_norm |dh_t/dx|).

    Raises:
        ValueError: more than one output, or an activation without a known slope.

    Reference: kexue.fm/archives/8796.

    >>> found = kexue_keras.analysis.gradient_inequality_np([[[2.0]]], [[1.0]], ["linear"], [3.0])
    >>> [float(v[0]) for v in found[1:4]]  # equality for one number and no curve
    [4.0, 10.0, 10.0]
    """
    weights = [np.asarray(W, "float64") for W in weights]
    if weights[-1].shape[0] != 1:
        raise ValueError(
            "gradient_inequality: f must be one number, but the last layer has %d; take a loss of one unit"
            % weights[-1].shape[0]
        )
    unknown = [name for name in activations if name not in ACTIVATIONS]
    if unknown:
        raise ValueError(
            "gradient_inequality: activations must be of %s, but one is %r" % (", ".join(ACTIVATIONS), unknown[0])
        )
    rows = [_sample(weights, biases, activations, row) for row in np.atleast_2d(np.asarray(x, "float64"))]
    return GradientInequality(*[np.array(column) for column in zip(*rows)])


def _sample(weights, biases, activations, x):
    hidden, jacobians, slopes = [x], [np.eye(len(x))], []
    for W, b, name in zip(weights, biases, activations):
        value, slope = ACTIVATIONS[name](W @ hidden[-1] + b)
        jacobians.append(slope[:, None] * (W @ jacobians[-1]))
        slopes.append(slope)
        hidden.append(value)
    # Backwards: what f gains from each pre-activation.
    deltas, delta = [], np.ones(1)
    for W, slope in zip(weights[::-1], slopes[::-1]):
        deltas.append(delta * slope)
        delta = W.T @ deltas[-1]
    deltas, squares = deltas[::-1], float(np.sum(jacobians[-1] ** 2))
    norms = [(np.linalg.norm(W, 2), np.linalg.norm(J, 2)) for W, J in zip(weights, jacobians)]
    frobenius = [np.linalg.norm(W) * np.linalg.norm(J) for W, J in zip(weights, jacobians)]
    lengths = np.array([h @ h for h in hidden[:-1]])

    def left(products):
        products = np.array(products) ** 2
        return np.where(products > 0, squares * (1 + lengths) / np.where(products > 0, products, 1), 0.0)

    by_layer = left([w * j for w, j in norms])
    right = np.array([(d @ d) * (1 + h) for d, h in zip(deltas, lengths)])
    return (
        float(hidden[-1][0]),
        squares,
        right.sum(),
        by_layer.sum(),
        left(frobenius).sum(),
        by_layer,
        right,
        np.sqrt(lengths),
        [w for w, _ in norms],
        [j for _, j in norms],
    )


def gradient_inequality(model: Model, x: ArrayLike) -> GradientInequality:
    """`gradient_inequality_np` of a Keras model that is a chain of Dense layers with one output.

    Args:
        model: Sequential or chain of Dense, Activation, Flatten and Dropout layers (dropout as in prediction).
        x: float [b, d].

    Returns:
        namedtuple, see `gradient_inequality_np`.

    Raises:
        ValueError: another kind of layer, more than one output, an activation without a known slope.

    Reference: kexue.fm/archives/8796.

    >>> layers = [keras.layers.Dense(4, activation="tanh", input_shape=(3,)), keras.layers.Dense(1)]
    >>> found = kexue_keras.analysis.gradient_inequality(keras.models.Sequential(layers), np.ones((2, 3)))
    >>> bool((found.left <= found.parameter_gradient).all())
    True
    """
    weights, biases, activations = [], [], []
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "Dense":
            values = layer.get_weights()
            weights.append(values[0].T)
            biases.append(values[1] if layer.use_bias else np.zeros(values[0].shape[1]))
            activations.append(getattr(layer.activation, "__name__", "linear"))
        elif kind == "Activation" and activations and activations[-1] == "linear":
            activations[-1] = layer.activation.__name__
        elif kind not in ("InputLayer", "Dropout", "Flatten"):
            raise ValueError(
                "gradient_inequality: the model must be a chain of Dense layers, but %r is a %s" % (layer.name, kind)
            )
    x = np.asarray(x, "float64")
    return gradient_inequality_np(weights, biases, activations, x.reshape(len(x), -1))
