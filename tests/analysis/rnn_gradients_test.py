"""Gradients of recurrent nets: scalar oracles, finite differences, TensorFlow's gradients, masks, the linear law."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import optimize

from kexue_keras.analysis import Cell, rnn_gradient_profile, suggest_forget_bias, time_constant
from kexue_keras.backend import K, get_session, keras
from kexue_keras.layers import OutputGateGRU, TiedGRU

W, U, B = (0.7, -0.4, 0.9), (0.5, 1.2, -0.8), (0.1, -0.2, 0.3)


def scalar(kind, w, u, b):
    return Cell(kind, [list(w)], [list(u)], list(b))


def frozen(step):
    return step.main[0, 0] + step.side[0, 0, 0]


def test_scalar_gru_in_the_articles_words():
    # The article's z is 1 - z of Keras: the signs of its weights change.
    def negated(values):
        return (-values[0],) + tuple(values[1:])

    step = scalar("GRU", negated(W), negated(U), negated(B)).step(np.array([[0.5]]), np.array([[0.4]]))
    assert step.state[0, 0] == pytest.approx(0.4823099616, abs=1e-9)
    assert frozen(step) == pytest.approx(0.1136090343, abs=1e-9)
    tied = scalar("TiedGRU", (W[0], W[2]), (U[0], U[2]), (B[0], B[2])).step(np.array([[0.5]]), np.array([[0.4]]))
    assert tied.state[0, 0] == pytest.approx(0.4609730276, abs=1e-9)
    assert frozen(tied) == pytest.approx(0.0740452992, abs=1e-9)


def test_scalar_gru_with_weights_of_one():
    cell = scalar("GRU", (-1, 1, 1), (-1, 1, 1), (0, 0, 0))
    step = cell.step(np.array([[0.5]]), np.array([[0.4]]))
    assert step.state[0, 0] == pytest.approx(0.5814438509364266, abs=1e-12)
    assert frozen(step) == pytest.approx(0.6633059691791943, abs=1e-12)


def test_scalar_output_gate_gru():
    cell = scalar("OutputGateGRU", W, U, B)
    step = cell.step(np.array([[0.5]]), np.array([[0.6 * 0.4, 0.4]]), np.array([[0.6]]))
    assert step.state[0, 1] == pytest.approx(0.4680231731, abs=1e-9)
    assert step.state[0, 0] == pytest.approx(0.2209206193, abs=1e-9)
    assert frozen(step) == pytest.approx(0.1406572373, abs=1e-9)
    ones = scalar("OutputGateGRU", (1, 1, 1), (1, 1, 1), (0, 0, 0))
    step = ones.step(np.array([[0.5]]), np.array([[0.24, 0.4]]), np.array([[0.6]]))
    assert step.state[0].tolist() == pytest.approx([0.37582092953108087, 0.5551303247544096], abs=1e-12)
    assert frozen(step) == pytest.approx(0.5984837240711822, abs=1e-12)


def test_scalar_lstm():
    # In the order of Keras: i, f, candidate, o.
    cell = scalar("LSTM", (-0.4, 0.7, 0.9, 0.3), (1.2, 0.5, -0.8, -0.6), (-0.2, 1.0, 0.3, 0.1))
    step = cell.step(np.array([[0.5]]), np.array([[0.6 * np.tanh(0.4), 0.4]]), np.array([[0.6]]))
    assert step.state[0, 1] == pytest.approx(0.5654495458, abs=1e-9)
    assert frozen(step) == pytest.approx(0.7649584347, abs=1e-9)


def test_bounds_of_the_article():
    found = optimize.minimize_scalar(
        lambda c: -c * (1 - np.tanh(c) ** 2), bounds=(0, 2), method="bounded", options={"xatol": 1e-10}
    )
    assert -found.fun == pytest.approx(0.4477432047, abs=1e-9) and found.x == pytest.approx(0.7717023, abs=1e-4)
    assert -found.fun / 4 == pytest.approx(0.1119358, abs=1e-7)
    # In one dimension with W x + b = 0 that bounds the Jacobian for all U; in two it does not.
    h = 0.6
    u = np.linspace(-50, 50, 100001)
    assert np.abs((1 - np.tanh(u * h) ** 2) * u).max() == pytest.approx(0.4477432 / h, abs=1e-4)
    for size in (10.0, 1000.0):
        step = Cell("SimpleRNN", np.zeros((1, 2)), [[0.0, 0], [size, size]]).step(
            np.zeros((1, 1)), np.array([[1.0, 0]])
        )
        assert np.linalg.norm((step.A @ step.R)[0], 2) == pytest.approx(2**0.5 * size)


def random_cell(kind, rng, size=4, width=3, **options):
    gates = {"SimpleRNN": 1, "LSTM": 4, "GRU": 3, "TiedGRU": 2, "OutputGateGRU": 3}[kind]
    bias = rng.randn(2, gates * size) if options.get("reset_after") else rng.randn(gates * size)
    return Cell(kind, rng.randn(width, gates * size), rng.randn(size, gates * size), bias, **options)


@pytest.mark.parametrize(
    "kind, options",
    [
        ("SimpleRNN", {}),
        ("SimpleRNN", {"activation": "relu"}),
        ("LSTM", {}),
        ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
        ("GRU", {}),
        ("GRU", {"reset_after": True}),
        ("TiedGRU", {}),
        ("OutputGateGRU", {}),
    ],
)
def test_jacobians_are_those_of_finite_differences(kind, options):
    rng = np.random.RandomState(0)
    cell = random_cell(kind, rng, **options)
    x, state, last = rng.randn(1, 3), 0.7 * rng.randn(1, cell.state_size), rng.rand(1, 4)
    step = cell.step(x, state, last)

    def slope(function, at, eps=1e-6):
        columns = []
        for i in range(at.shape[1]):
            shift = eps * np.eye(at.shape[1])[i]
            columns.append((function(at + shift) - function(at - shift))[0] / (2 * eps))
        return np.array(columns).T

    np.testing.assert_allclose((step.A @ step.R + step.E)[0], slope(lambda s: cell.step(x, s).state, state), atol=2e-9)

    def shifted(a):
        cell.b = before + a[0]
        return cell.step(x, state).state

    before = cell.b
    np.testing.assert_allclose(step.A[0], slope(shifted, np.zeros((1, len(before)))), atol=2e-9)
    cell.b = before
    if cell.state_size > 4:  # the article's: c_{t-1} -> c_t with the output gate of the last step held fixed
        inside = (lambda c: last * np.tanh(c)) if kind == "LSTM" else (lambda c: last * c)
        h = inside(state[:, 4:])
        step = cell.step(x, np.concatenate([h, state[:, 4:]], 1), last)

        def frozen_step(c):
            return cell.step(x, np.concatenate([inside(c), c], axis=1)).state[:, 4:]

        np.testing.assert_allclose(np.diag(step.main[0]) + step.side[0], slope(frozen_step, state[:, 4:]), atol=2e-9)


LAYERS = [
    ("SimpleRNN", {}),
    ("SimpleRNN", {"activation": "relu", "use_bias": False}),
    ("LSTM", {"recurrent_activation": "hard_sigmoid"}),
    ("GRU", {"reset_after": False}),
    ("GRU", {"reset_after": True}),
    ("TiedGRU", {}),
    ("OutputGateGRU", {}),
]


@pytest.mark.dear
@pytest.mark.parametrize("name, options", LAYERS)
def test_the_profile_is_that_of_keras_layers(name, options):
    rng = np.random.RandomState(1)
    own = {"TiedGRU": TiedGRU, "OutputGateGRU": OutputGateGRU}
    layer = own.get(name, getattr(keras.layers, name, None))(3, unroll=True, **options)
    x = tf.constant(rng.randn(1, 5, 2), "float32")
    h = layer(x)
    K.batch_set_value([(w, 0.6 * rng.randn(*K.int_shape(w))) for w in layer.weights])
    squares, values = 0.0, get_session().run([x, h])
    for unit in range(3):
        gradients = get_session().run(K.gradients(h[0, unit], layer.trainable_weights))
        squares += sum(np.sum(np.square(g)) for g in gradients)
    profile = rnn_gradient_profile(layer, values[0])
    assert profile.kind == name
    assert profile.total == pytest.approx(squares**0.5, rel=2e-5)
    assert profile.contribution[0] > 0 and profile.state_jacobian[0] == 1
    assert profile.total <= profile.contribution.sum() + 1e-9
    if name != "SimpleRNN":
        assert 0 <= profile.main_share <= 1
    else:
        assert np.isnan(profile.main)


def test_the_parts_of_the_last_output_add_up_to_it():
    """With one step after which nothing is left, the contribution of lag 0 is all."""
    cell = random_cell("GRU", np.random.RandomState(3))
    one = rnn_gradient_profile(cell, np.random.RandomState(4).randn(2, 1, 3))
    assert one.total == pytest.approx(one.contribution[0], rel=1e-12)


def test_a_linear_cell_with_a_scaled_rotation_has_powers():
    rotation = np.linalg.qr(np.random.RandomState(0).randn(6, 6))[0]
    x = np.random.RandomState(1).randn(2, 20, 3)
    for scale in (0.5, 1.0, 1.5):
        cell = Cell("SimpleRNN", np.ones((3, 6)), scale * rotation, activation="linear")
        profile = rnn_gradient_profile(cell, x)
        np.testing.assert_allclose(profile.state_jacobian, scale ** np.arange(20), rtol=1e-9)
        assert profile.spectral_radius == pytest.approx(scale) and profile.step_norm == pytest.approx(scale)


def test_masked_steps_are_no_lag():
    cell = random_cell("LSTM", np.random.RandomState(0))
    x = np.random.RandomState(1).randn(1, 6, 3)
    mask = np.array([[1, 0, 1, 1, 0, 1]])
    masked, cut = rnn_gradient_profile(cell, x, mask=mask), rnn_gradient_profile(cell, x[:, mask[0] == 1])
    for a, b in zip(masked[1:], cut[1:]):
        np.testing.assert_array_equal(a, b)
    two = rnn_gradient_profile(cell, np.repeat(x, 2, 0), mask=np.array([[1] * 6, [0, 0, 1, 1, 1, 1]]))
    assert two.contribution.shape == (6,) and np.isfinite(two.contribution).all()


def test_a_gru_stays_within_one():
    cell, state = random_cell("GRU", np.random.RandomState(0)), np.zeros((1, 4))
    for x in 5 * np.random.RandomState(1).randn(200, 1, 3):
        state = cell.step(x, state).state
        assert np.abs(state).max() <= 1


def test_time_constants():
    assert time_constant(1 / (1 + np.exp(-suggest_forget_bias(50)))) == pytest.approx(50)
    with pytest.raises(ValueError, match="suggest_forget_bias: steps must be a number > 0, but is 0"):
        suggest_forget_bias(0)


def test_errors():
    with pytest.raises(ValueError, match="the layer must be one of SimpleRNN, LSTM, .*; of a Bidirectional give its"):
        rnn_gradient_profile(keras.layers.Dense(3), np.ones((1, 2, 3)))
    with pytest.raises(ValueError, match="has no weights yet; call it or build it first"):
        rnn_gradient_profile(keras.layers.GRU(3), np.ones((1, 2, 3)))
    cell = random_cell("GRU", np.random.RandomState(0))
    with pytest.raises(ValueError, match=r"x must be \[b, T, 3\], but has the shape \(1, 2\)"):
        rnn_gradient_profile(cell, np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"mask must be \[b, T\] with a step in each row"):
        rnn_gradient_profile(cell, np.ones((1, 2, 3)), mask=np.zeros((1, 2)))
    with pytest.raises(ValueError, match="activations must be of hard_sigmoid, linear, .*, but one is 'swish'"):
        Cell("GRU", np.ones((1, 3)), np.ones((1, 3)), activation="swish")
