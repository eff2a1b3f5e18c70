"""What a training will run, added to the graph before anything of it is run.

TensorFlow 1 copies the whole graph whenever something new is to be run in it, and Keras adds a little at a time: a
check for each variable, one op for all initializers, assignments at the first `set_value`, and so on. On a large graph
these copies take longer than a step.
"""

import contextlib

from kexue_keras.backend.sessions import graph_lock, present_session
from kexue_keras.backend.stack import K, get_session, keras_backend, tf1
from kexue_keras.backend.training_step import when_training_function_is_made


@contextlib.contextmanager
def whole_graph_first(model):
    """Within this context `model.train_on_batch` completes the graph of a compiled model before it first runs."""
    if not hasattr(model, "_make_train_function"):  # it trains eagerly, or is no model of Keras
        yield
        return
    made = [getattr(model, "train_function", None)]

    def complete_if_new():
        if model.train_function is not made[-1]:
            made.append(model.train_function)
            _complete(model)

    with when_training_function_is_made(model, complete_if_new):
        yield


def _complete(model):
    graph = model.outputs[0].graph
    with graph.as_default(), graph_lock(graph):
        metrics = [v for metric in getattr(model, "metrics", ()) if hasattr(metric, "weights") for v in metric.weights]
        for variable in metrics:
            _add_assignment(variable)
        model._make_predict_function()
        _initialize_others(graph)


def _add_assignment(variable):
    """What `K.set_value` adds at its first call, and finds again."""
    if not hasattr(variable, "_assign_placeholder"):
        shape = [None] * len(K.int_shape(variable))
        variable._assign_placeholder = tf1.placeholder(variable.dtype.base_dtype, shape)
        variable._assign_op = variable.assign(variable._assign_placeholder)


def _initialize_others(graph):
    """Initialize what is not initialized yet, as Keras does whenever it asks for its session, in one copy less."""
    session = present_session() or get_session()
    variables = [v for v in keras_backend()._get_variables(graph) if not getattr(v, "_keras_initialized", False)]
    checks = [tf1.is_variable_initialized(v) for v in variables]
    missing = [v for v, is_there in zip(variables, session.run(checks)) if not is_there]
    session.run([v.initializer for v in missing])
    for variable in variables:
        variable._keras_initialized = True
