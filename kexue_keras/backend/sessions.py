"""The graph and session of a model, for whichever thread predicts with it.

TensorFlow 1 keeps the default graph, and Keras its session, for each thread separately: a model built in one is not
found in another, such as a worker of a web server or of an executor. And ops may be added to a graph by one thread at a
time, while Keras makes the function that predicts when it is first called.
"""

import contextlib
import threading
import weakref
from typing import Any, Iterator, Union

import numpy as np
import tensorflow as tf

from kexue_keras.backend.stack import K, get_session, keras, keras_backend, tf1

_locks = weakref.WeakKeyDictionary()
_locks_lock = threading.Lock()


def graph_lock(graph):
    """The lock (reentrant) that a thread holds while it adds ops to a graph."""
    with _locks_lock:
        return _locks.setdefault(graph, threading.RLock())


def present_session():
    """The session in which Keras would run in this thread, or None; it makes none and initializes nothing."""
    return tf1.get_default_session() or getattr(keras_backend()._SESSION, "session", None)


@contextlib.contextmanager
def scratch_graph(*, optimize=True):
    """Context in which all is built in a graph, with a session, that is discarded at the end.

    Args:
        optimize: False for what runs once or twice, for which TensorFlow would rewrite the graph longer than it runs.
    """
    graph, config = tf1.Graph(), tf1.ConfigProto()
    if not optimize:
        config.graph_options.rewrite_options.disable_meta_optimizer = True
        config.graph_options.optimizer_options.opt_level = tf1.OptimizerOptions.L0
    try:
        with graph.as_default(), tf1.Session(graph=graph, config=config) as session:
            yield session
    finally:
        # Keras would hold on to the graph by the placeholder of its learning phase, until clear_session().
        phases = keras_backend()._GRAPH_LEARNING_PHASES
        if graph in phases:
            del phases[graph]


def initialize(pairs):
    """Give new variables their first values, in one run of the session.

    `K.batch_set_value` draws random values for them first and adds two ops per variable to the graph; and each new set
    of ops that is run costs time that grows with all that the graph holds.

    Args:
        pairs: list of (variable, array of its shape).
    """
    pairs = [(variable, np.asarray(value, variable.dtype.base_dtype.as_numpy_dtype)) for variable, value in pairs]
    starts = [variable.initializer.inputs[1] for variable, _ in pairs]
    if len({start.name for start in starts}) < len(starts):  # a tensor from which several begin
        return K.batch_set_value(pairs)
    for variable, _ in pairs:
        variable._keras_initialized = True
    session = get_session()
    if pairs:
        values = {start: value for start, (_, value) in zip(starts, pairs)}
        session.run([variable.initializer for variable, _ in pairs], values)


class ModelSession(object):
    """Remembers the graph and the session of a Keras model, so that any thread can predict with it.

    A thread that has a session of its own for this graph (`with session.as_default()`, `K.set_session`) keeps that.
    `K.clear_session()` makes Keras forget the model, but here it keeps working (tf-keras closes the session, on
    TensorFlow 2 that is the end of the model).

    Args:
        model: Keras model with symbolic outputs, or a tensor.

    >>> import threading
    >>> model = keras.models.Sequential([keras.layers.Dense(2, input_shape=(3,))])
    >>> session, found = ModelSession(model), []
    >>> worker = threading.Thread(target=lambda: found.append(session.predict_on_batch(model, np.ones([4, 3]))))
    >>> worker.start(); worker.join(); found[0].shape
    (4, 2)
    """

    def __init__(self, model: Union[keras.models.Model, tf.Tensor]) -> None:
        self.graph = getattr(model, "outputs", [model])[0].graph
        self._session, self._ready = None, None
        if self._of_this_thread() is None and tf1.get_default_graph() is self.graph:
            self._session = get_session()

    def _of_this_thread(self):
        session = present_session()
        if session is not None and session.graph is self.graph:
            self._session = session
            return session

    @contextlib.contextmanager
    def entered(self) -> Iterator[tf1.Session]:
        """Context in which graph and session are this thread's own; gives the session.

        Raises:
            RuntimeError: the session is closed, or none is known because the model was built in a graph of its own and
                used outside of it.
        """
        session = self._of_this_thread() or self._session
        if session is None:
            raise RuntimeError(
                "no session is known for the graph in which the model was built; build the model, and what predicts "
                "with it, inside `with graph.as_default(), tf.compat.v1.Session().as_default():`"
            )
        if session._closed:
            raise RuntimeError(
                "the session that holds the model's weights is closed, so they are gone; keep the session open as long "
                "as the model is used, or build the model again"
            )
        with self.graph.as_default(), session.as_default():
            yield session

    @contextlib.contextmanager
    def building(self) -> Iterator[tf1.Session]:
        """The same, for one thread at a time: for what adds ops to the graph."""
        with self.entered() as session, graph_lock(self.graph):
            yield session

    def predict_on_batch(self, model: keras.models.Model, inputs: Any) -> Any:
        """What `model.predict_on_batch(inputs)` gives in the thread that built it.

        Args:
            model: Keras model of this graph.
            inputs: as for Keras.

        Raises:
            RuntimeError: see `entered`.
        """
        with self.entered() as session:
            # Keras makes this function, and readies it for a session, at the first call; compile() throws it away.
            if self._ready == (getattr(model, "predict_function", None), session):
                return model.predict_on_batch(inputs)
            with graph_lock(self.graph):
                outputs = model.predict_on_batch(inputs)
                self._ready = (model.predict_function, session)
                return outputs
