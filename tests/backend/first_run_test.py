"""The graph is whole before it runs: nothing is added later, and the numbers are those without."""

import contextlib

import numpy as np
import pytest

from kexue_keras.backend import K, keras, set_seed, tf1, whole_graph_first
from kexue_keras.optimizers import AdamW, ExponentialMovingAverage

X, Y = np.random.RandomState(0).randn(8, 3).astype("float32"), np.arange(8) % 2


def trained(context, steps=3):
    K.clear_session()
    tf1.keras.backend.set_session(tf1.Session())
    set_seed(4)
    model = keras.models.Sequential([keras.layers.Dense(4, input_shape=(3,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(ExponentialMovingAverage(AdamW(1e-2), decay=0.5), loss, metrics=[metric])
    first = model.get_weights()
    model.layers[0].set_weights([np.full((3, 4), 0.25, "float32"), np.ones(4, "float32")])  # is kept
    values = []
    for _ in range(steps):
        with context(model):
            values.append(model.train_on_batch(X, Y))
    return model, first, values


@pytest.mark.all_stacks
def test_nothing_is_added_after_the_first_step_and_the_numbers_are_the_same():
    plain, first, values = trained(lambda model: contextlib.suppress())
    expected = plain.get_weights()
    model, same_first, same_values = trained(whole_graph_first, steps=1)
    assert "_make_train_function" not in vars(model)
    graph = model.outputs[0].graph
    model.set_weights(model.get_weights())
    size = graph.version
    for _ in range(2):
        with whole_graph_first(model):
            same_values.append(model.train_on_batch(X, Y))
    after = model.get_weights()
    model.predict_on_batch(X)
    assert graph.version == size
    np.testing.assert_array_equal(np.array(values), np.array(same_values))
    for one, other in list(zip(first, same_first)) + list(zip(expected, after)):
        np.testing.assert_array_equal(one, other)


def test_a_function_that_was_put_there_before_stays():
    model, _, _ = trained(lambda model: contextlib.suppress(), steps=1)
    make, calls = model._make_train_function, []
    vars(model)["_make_train_function"] = lambda: calls.append(1) or make()
    own = vars(model)["_make_train_function"]
    with whole_graph_first(model):
        model.train_on_batch(X, Y)
    assert vars(model)["_make_train_function"] is own and calls
