"""OutputGateGRU and TiedGRU against numpy, with masks, states, static and unknown lengths, saved and loaded."""

import numpy as np
import pytest

from kexue_keras.backend import K, keras
from kexue_keras.layers import OutputGateGRU, OutputGateGRUCell, TiedGRU

LOAD = """
import sys
import numpy as np
import kexue_keras
from kexue_keras.backend import keras
model = keras.models.load_model(sys.argv[1] + "/model.h5")
given = np.load(sys.argv[1] + "/values.npz")
np.testing.assert_allclose(model.predict_on_batch(given["x"]), given["y"], atol=1e-6)
print("same")
"""


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def output_gate_gru(x, W, U, b, h, c):
    D, outputs = U.shape[0], []
    for t in range(x.shape[1]):
        a = x[:, t] @ W + h @ U + b
        z, r, candidate = sigmoid(a[:, :D]), sigmoid(a[:, D : 2 * D]), np.tanh(a[:, 2 * D :])
        c = (1 - z) * c + z * candidate
        h = r * c
        outputs.append(h)
    return np.stack(outputs, 1), h, c


def tied_gru(x, W, U, b, h):
    D, outputs = U.shape[0], []
    for t in range(x.shape[1]):
        z = sigmoid(x[:, t] @ W[:, :D] + h @ U[:, :D] + b[:D])
        h = (1 - z) * h + z * np.tanh(x[:, t] @ W[:, D:] + (z * h) @ U[:, D:] + b[D:])
        outputs.append(h)
    return np.stack(outputs, 1), h


def randomized(layer, rng):
    values = [rng.randn(*w.shape) for w in layer.get_weights()]
    layer.set_weights(values)
    return values


@pytest.mark.parametrize("unroll", [False, True])
def test_values_and_states(unroll):
    rng = np.random.RandomState(0)
    x = rng.randn(3, 5, 2)
    h, c = rng.randn(3, 4), rng.randn(3, 4)
    inputs, first = keras.layers.Input((5, 2)), [keras.layers.Input((4,)), keras.layers.Input((4,))]
    layer = OutputGateGRU(4, return_sequences=True, return_state=True, unroll=unroll)
    model = keras.models.Model([inputs] + first, layer(inputs, initial_state=first))
    expected = output_gate_gru(x, *randomized(layer, rng), h, c)
    for value, right in zip(model.predict([x, h, c]), expected):
        np.testing.assert_allclose(value, right, atol=1e-5)
    tied = TiedGRU(4, return_sequences=True, return_state=True, unroll=unroll)
    model = keras.models.Model(inputs, tied(inputs))
    expected = tied_gru(x, *randomized(tied, rng), np.zeros((3, 4)))
    for value, right in zip(model.predict(x), expected):
        np.testing.assert_allclose(value, right, atol=1e-5)


@pytest.mark.parametrize("layer", [OutputGateGRU, TiedGRU])
def test_masked_steps_copy_the_state(layer):
    rng = np.random.RandomState(1)
    inputs = keras.layers.Input((None, 2))
    recurrent = layer(4)
    model = keras.models.Model(inputs, recurrent(keras.layers.Masking()(inputs)))
    randomized(recurrent, rng)
    x = rng.randn(2, 6, 2)
    x[:, 4:] = 0
    np.testing.assert_allclose(model.predict(x), model.predict(x[:, :4]), atol=1e-6)


@pytest.mark.parametrize("layer", [OutputGateGRU, TiedGRU])
def test_trained_saved_and_loaded(layer, tmp_path, run_python):
    inputs = keras.layers.Input((None, 2))
    y = layer(3, return_sequences=True, recurrent_activation="hard_sigmoid", name="first")(inputs)
    y = keras.layers.Bidirectional(layer(3, bias_initializer="ones"))(y)
    model = keras.models.Model(inputs, keras.layers.Dense(1)(y))
    model.compile("sgd", "mse")
    x = np.random.RandomState(0).randn(8, 5, 2)
    model.fit(x, x.sum((1, 2))[:, None], epochs=2, verbose=0)
    np.savez(str(tmp_path / "values.npz"), x=x, y=model.predict_on_batch(x))
    model.save(str(tmp_path / "model.h5"))
    assert "same" in run_python(LOAD, tmp_path)
    copied = layer.from_config(model.get_layer("first").get_config())
    assert copied.cell.recurrent_activation is keras.activations.hard_sigmoid and copied.units == 3
    assert copied.return_sequences and layer(3, go_backwards=True).get_config()["go_backwards"]


def test_the_cell_in_keras_own_rnn_and_stateful():
    inputs = keras.layers.Input(batch_shape=(2, 3, 2))
    rnn = keras.layers.RNN(OutputGateGRUCell(4))
    stateful = OutputGateGRU(4, stateful=True)
    model = keras.models.Model(inputs, [rnn(inputs), stateful(inputs)])
    stateful.set_weights(randomized(rnn, np.random.RandomState(0)))
    x = np.random.RandomState(1).randn(2, 3, 2)
    first, second = model.predict(x, batch_size=2)
    np.testing.assert_allclose(first, second, atol=1e-6)
    assert np.abs(model.predict(x, batch_size=2)[1] - second).max() > 1e-4
    stateful.reset_states()
    np.testing.assert_allclose(model.predict(x, batch_size=2)[1], second, atol=1e-6)


def test_errors():
    for layer in (OutputGateGRU, TiedGRU):
        with pytest.raises(ValueError, match="Cell: units must be a whole number >= 1, but is 0"):
            layer(0)
    with pytest.raises((ValueError, TypeError)):
        OutputGateGRU(3, reset_after=True)
    assert K.int_shape(TiedGRU(3)(keras.layers.Input((4, 2)))) == (None, 3)
