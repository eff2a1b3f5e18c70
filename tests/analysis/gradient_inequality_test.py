"""The inequality of input and parameter gradients: the article's case, random nets, TensorFlow's gradients."""

import numpy as np
import pytest

from kexue_keras.analysis import gradient_inequality, gradient_inequality_np
from kexue_keras.backend import K, get_session, keras

W1, B1 = [[1.0, -1], [0.5, 2], [0, 1]], [0.1, -0.2, 0.3]
W2, B2 = [[1.0, 2, -1]], [0.5]


def test_the_numbers():
    found = gradient_inequality_np([W1, W2], [B1, B2], ["tanh", "linear"], [0.3, -0.4])
    assert found.value[0] == pytest.approx(-0.1184341747730564)
    assert found.input_gradient[0] == pytest.approx(1.4618114588057964)
    assert found.parameter_gradient[0] == pytest.approx(4.909051870854245)
    assert found.left[0] == pytest.approx(0.501520370289463)
    assert found.left_frobenius[0] == pytest.approx(0.2959267501)
    assert found.layer_left[0] == pytest.approx([0.3045440539, 0.1969763164])
    assert found.layer_right[0] == pytest.approx([2.9805963173, 1.9284555536])
    assert found.jacobian_norm[0, 0] == 1 and found.hidden_norm[0, 0] == pytest.approx(0.5)


def test_it_holds_for_random_nets():
    rng, most = np.random.RandomState(0), 0.0
    for _ in range(400):
        sizes = list(rng.randint(1, 6, rng.randint(1, 5))) + [1]
        weights = [rng.randn(b, a) * rng.choice([0.1, 1, 5]) for a, b in zip(sizes, sizes[1:])]
        activations = list(rng.choice(["tanh", "relu", "linear", "sigmoid"], len(weights)))
        if not weights:
            continue
        biases = [rng.randn(len(W)) for W in weights]
        found = gradient_inequality_np(weights, biases, activations, rng.randn(3, sizes[0]))
        assert (found.layer_left <= found.layer_right * (1 + 1e-12) + 1e-300).all()
        assert (found.left_frobenius <= found.left * (1 + 1e-12)).all()
        alive = found.parameter_gradient > 0
        most = max([most] + list(found.left[alive] / found.parameter_gradient[alive]))
    assert 0.5 < most <= 1 + 1e-12
    line = gradient_inequality_np([[[3.0]], [[-2.0]]], [[1.0], [0.0]], ["linear"] * 2, [[0.7]])
    assert line.left[0] == pytest.approx(line.parameter_gradient[0])


def test_a_dead_layer_is_left_out():
    found = gradient_inequality_np([[[1.0], [1]], [[1.0, 1]]], [[-5.0, -5], [0.0]], ["relu", "linear"], [1.0])
    assert found.left[0] == 0
    assert found.parameter_gradient[0] == 1  # of the last bias


@pytest.mark.all_stacks
def test_of_a_keras_model():
    model = keras.models.Sequential(
        [
            keras.layers.Dense(5, activation="tanh", input_shape=(3,), bias_initializer="normal"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(4, use_bias=False),
            keras.layers.Activation("relu"),
            keras.layers.Dense(1),
        ]
    )
    x = np.random.RandomState(0).randn(2, 3)
    found = gradient_inequality(model, x)
    for i in range(2):
        inputs = model.inputs[0]
        feed = {inputs: x[i : i + 1], K.learning_phase(): 0}
        output, gradients = get_session().run(
            [model.outputs[0][0, 0], K.gradients(model.outputs[0][0, 0], [inputs] + model.trainable_weights)], feed
        )
        assert found.value[i] == pytest.approx(output, rel=1e-4)
        assert found.input_gradient[i] == pytest.approx(np.sum(gradients[0] ** 2), rel=1e-4)
        # The inequality counts a bias for each layer, the model has none in its second.
        squares = sum(np.sum(g**2) for g in gradients[1:])
        assert found.parameter_gradient[i] >= squares * (1 - 1e-4)


def test_errors():
    x = keras.layers.Input((3, 2))
    model = keras.models.Model(x, keras.layers.Dense(1)(keras.layers.GRU(2)(x)))
    with pytest.raises(ValueError, match="the model must be a chain of Dense layers, but 'gru.*' is a GRU"):
        gradient_inequality(model, np.ones((1, 3, 2)))
    with pytest.raises(ValueError, match="f must be one number, but the last layer has 3"):
        gradient_inequality_np([W1], [B1], ["tanh"], [1.0, 1.0])
    with pytest.raises(ValueError, match="activations must be of .*, but one is 'swish'"):
        gradient_inequality_np([W2], [B2], ["swish"], [1.0, 1.0, 1.0])
