"""Checks that tests of layers share: values for several batches of one graph, gradients, fp16, masks, leaks."""

import contextlib

import numpy as np

from kexue_keras.backend import K, get_session, keras


def build(layer, width, inputs="x", length=None, masked=True):
    """`(run, model)`: a layer on `[b, n, width]` behind a mask input, and a function of numpy arrays.

    `inputs`: 'x' (a mixer), 'xxx' (an attention), with '+' for a further input `[b, n, n]` of who sees whom.
    """
    x = keras.layers.Input((length, width))
    mask = keras.layers.Input((length,))
    allowed = keras.layers.Input((length, length))
    fed = [x, mask, allowed]

    class WithMask(keras.layers.Layer):
        def call(self, inputs):
            return inputs[0] + 0.0

        def compute_mask(self, inputs, mask=None):
            return K.not_equal(inputs[1], 0) if masked else None

        def compute_output_shape(self, shape):
            return shape[0]

    y = WithMask()([x, mask])
    list_of = [y] * inputs.count("x")
    arguments = {}
    if "+" in inputs:
        list_of = list_of + [keras.layers.Lambda(lambda a: K.not_equal(a, 0))(allowed)]
        if inputs.count("x") == 3:
            arguments = {"a_bias": True}
    output = layer(list_of if len(list_of) > 1 else y, **arguments)
    outputs = output if isinstance(output, list) else [output]
    model = keras.models.Model(fed if "+" in inputs else fed[:2], outputs)

    def run(x, mask=None, allowed=None):
        mask = np.ones(x.shape[:2]) if mask is None else mask
        data = [x, mask] + ([allowed] if "+" in inputs else [])
        result = model.predict_on_batch(data)
        # tf.keras gives an array of its own kind for one output.
        return [np.asarray(r) for r in result] if isinstance(result, list) else np.asarray(result)

    return run, model


def randomize(layer, rng, scale=0.5):
    """Give all weights random values, so that nothing is hidden by zeros at the start."""
    values = [scale * rng.randn(*w.shape) for w in layer.get_weights()]
    layer.set_weights(values)
    return dict(zip([w.name.split("/")[-1].split(":")[0] for w in layer.weights], values))


def causal(n):
    return np.tril(np.ones((n, n)))


def unilm(segments):
    """`[b, n, n]` as bert4keras' UniLM mask has it."""
    c = np.cumsum(segments, axis=1)
    return (c[:, None, :] <= c[:, :, None]).astype(float)


def padded(x, mask, extra, rng):
    """The same batch with `extra` more columns of padding, filled with noise."""
    noise = 10 * rng.randn(x.shape[0], extra, x.shape[2])
    return np.concatenate([x, noise], 1), np.concatenate([mask, np.zeros((len(x), extra))], 1)


@contextlib.contextmanager
def floatx(name):
    """Keras' float type, for a while."""
    before = K.floatx()
    K.set_floatx(name)
    try:
        yield
    finally:
        K.set_floatx(before)


def assert_gradients(tensor, variables, rng, feed=None, eps=1e-6, tolerance=1e-6):
    """The gradient of the sum of squares of a float64 tensor along a random direction, against finite differences."""
    assert K.dtype(tensor) == "float64", "gradients are checked in float64"
    loss = K.sum(K.square(tensor))
    session = get_session()
    gradients = K.gradients(loss, variables)
    assert all(g is not None for g in gradients), [v.name for v, g in zip(variables, gradients) if g is None]
    exact, values = session.run([[K.zeros_like(v) + g for v, g in zip(variables, gradients)], variables], feed)
    assert all(np.isfinite(g).all() for g in exact)
    directions = [rng.randn(*v.shape) for v in values]
    ends = []
    for sign in (1, -1):
        K.batch_set_value([(v, value + sign * eps * d) for v, value, d in zip(variables, values, directions)])
        ends.append(session.run(loss, feed))
    K.batch_set_value(list(zip(variables, values)))
    numeric = (ends[0] - ends[1]) / (2 * eps)
    analytic = sum((g * d).sum() for g, d in zip(exact, directions))
    np.testing.assert_allclose(analytic, numeric, rtol=tolerance, atol=tolerance)
    return exact
