"""The training step that Keras makes of a model, taken apart: its loss, its nodes, its options, its calls."""

import contextlib
import inspect

import tensorflow as tf

from kexue_keras.backend.stack import is_tf_keras, keras


def refuse_distribution(model, owner):
    """Raise if a model of tf.keras trains under a `tf.distribute` strategy, which leads its training past its methods.

    Keras itself trains a copy of the graph for each replica then, and what changes the training function of the model
    would silently do nothing. Keras 2.3.1 ignores strategies and trains as usual.

    Args:
        model: Keras model, or None to look at the scope that is open alone.
        owner: who refuses, for the message.

    Raises:
        NotImplementedError: there is a strategy, with what to do.
    """
    strategy = getattr(model, "_distribution_strategy", None)
    if strategy is None and is_tf_keras and tf.distribute.has_strategy():
        strategy = tf.distribute.get_strategy()
    if strategy is not None:
        raise NotImplementedError(
            "%s does not run under %s, where Keras would train without it; build and compile the model outside of "
            "strategy.scope() and use one device, or Horovod" % (owner, type(strategy).__name__)
        )


def train_step_nodes(model):
    """Names of the nodes that one training step of a compiled model computes; builds its graph if need be.

    Raises:
        RuntimeError: the model has no graph of its own (eager execution).
    """
    model._make_train_function()
    function = model.train_function
    update = getattr(function, "updates_op", None)
    if update is None:
        raise RuntimeError(
            "the model runs eagerly, so there is no graph of its training step; call "
            "tf.compat.v1.disable_eager_execution() before anything else, or use TensorFlow 1.15"
        )
    return [update.name] + [tensor.op.name for tensor in function.outputs]


def add_update(layer, update, inputs):
    """Let a layer's update run with each training step; TensorFlow 2.4 and later no longer ask for its inputs."""
    takes_inputs = "inputs" in inspect.signature(layer.add_update).parameters
    layer.add_update([update], **({"inputs": inputs} if takes_inputs else {}))


class _Inside(keras.layers.Layer):
    """Calls a function where tf.keras takes it for part of a layer, so that it makes no layers of single ops."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function()


def inside_layer(function):
    """What `function()` gives, which may call layers of a model once more with tensors of the model."""
    if not is_tf_keras:
        return function()
    return _Inside(tf.autograph.experimental.do_not_convert(function))(tf.zeros([]))


def call_again(model, inputs, *, mask=None, training=None):
    """The output of a functional model for other tensors, wherever they come from, without a trace in the model.

    Keras 2.3.1 writes the masks of a call into the arguments that the model keeps for its layers, and a second call
    would mask with those of the first. tf.keras, outside of any layer, tries to make layers of the ops between the
    model's inputs and these tensors, which fails for those of a loop.

    Args:
        model: Keras model with symbolic inputs and outputs.
        inputs: list of tensors.
        mask: list of tensors and None, or None.
        training: bool or tensor; None is Keras' learning phase (the only choice on Keras 2.3.1).

    Returns:
        tensor, or list of tensors.
    """
    inputs, mask = list(inputs), None if mask is None else list(mask)
    if is_tf_keras:
        packed = inputs if len(inputs) > 1 else inputs[0]
        mask = mask if mask is None or len(mask) > 1 else mask[0]
        return inside_layer(lambda: model.call(packed, training=training, mask=mask))
    kept = [(node, node.arguments) for node in _nodes(model)]
    for node, arguments in kept:
        node.arguments = {k: v for k, v in (arguments or {}).items() if k != "mask"}
    try:
        return model.call(inputs, mask)
    finally:
        for node, arguments in kept:
            node.arguments = arguments


def _nodes(model):
    """All nodes of a functional model of Keras 2.3.1 and of the models inside it."""
    nodes = [node for depth in model._nodes_by_depth.values() for node in depth]
    inner = [layer for layer in model.layers if hasattr(layer, "_nodes_by_depth")]
    return nodes + [node for layer in inner for node in _nodes(layer)]


def minimise_instead(model, objective, metric, owner):
    """Let a model's training minimise another loss than that of `compile`; evaluate and predict stay as they are.

    While training, the value shown as `loss` is that of the new loss. Keras makes its training function when it is
    first needed, so the model may be compiled before or after this call, and again.

    Args:
        model: Keras model trained in graph mode.
        objective: function(scalar loss of the compiled model) -> (loss to minimise, loss to show as well).
        metric: name of the second one; while evaluating it is the compiled loss.
        owner: the technique, for messages.

    Returns:
        function without arguments that puts everything back.

    Raises:
        RuntimeError: the model trains eagerly.
        NotImplementedError: it trains under a `tf.distribute` strategy; also by `compile`, later.
    """
    refuse_distribution(model, owner)
    if not hasattr(model, "_make_train_function"):
        raise RuntimeError(
            "the model trains eagerly, so its loss cannot be taken apart; call "
            "tf.compat.v1.disable_eager_execution() before anything else, or use TensorFlow 1.15"
        )
    mean = keras.metrics.Mean(name=metric)
    kept = {name: getattr(model, name) for name in ("_make_train_function", "_make_test_function", "compile")}
    kept["_get_training_eval_metrics"] = model._get_training_eval_metrics
    evaluating = []

    def show(loss):
        # The updates that an earlier function made would run along.
        mean._updates = []
        mean(loss, sample_weight=tf.cast(tf.shape(model.inputs[0])[0], tf.float32))

    class Minimiser(object):
        def __init__(self, optimizer):
            self.optimizer, self.loss = optimizer, None

        def get_updates(self, loss, params):
            value, shown = objective(loss)
            updates = self.optimizer.get_updates(loss=value, params=params)
            # Keras fetches it from here, next to the updates.
            self.loss, vars(model)["total_loss"] = loss, value
            show(shown)
            return updates

    def make_train_function():
        optimizer = getattr(model, "optimizer", None)
        minimiser = Minimiser(optimizer)
        if optimizer is not None:
            vars(model)["optimizer"] = minimiser
        try:
            kept["_make_train_function"]()
        finally:
            if optimizer is not None:
                vars(model)["optimizer"] = optimizer
            if minimiser.loss is not None:
                vars(model)["total_loss"] = minimiser.loss

    def compile_on_one_device(*args, **kwargs):
        kept["compile"](*args, **kwargs)
        refuse_distribution(model, owner)

    def make_test_function():
        evaluating.append(True)
        try:
            kept["_make_test_function"]()
        finally:
            evaluating.clear()

    def get_training_eval_metrics():
        if evaluating:
            # Only now is it certain that Keras does not compile the loss anew.
            show(model.total_loss)
        return kept["_get_training_eval_metrics"]()

    def put(methods):
        for name in kept:
            if name in methods:
                vars(model)[name] = methods[name]
            else:
                vars(model).pop(name, None)
        for name in ("train_function", "test_function"):
            if getattr(model, name, None) is not None:
                setattr(model, name, None)

    def put_back():
        model._metrics.remove(mean)
        put({})

    model._metrics.append(mean)
    put(
        {
            "_make_train_function": make_train_function,
            "_make_test_function": make_test_function,
            "compile": compile_on_one_device,
            "_get_training_eval_metrics": get_training_eval_metrics,
        }
    )
    return put_back


@contextlib.contextmanager
def when_training_function_is_made(model, then):
    """While this context is open, `then()` runs whenever Keras has made the training function of a model, or found it.

    Args:
        model: compiled Keras model.
        then: function without arguments.
    """
    make, set_here = model._make_train_function, "_make_train_function" in vars(model)

    def make_and_then():
        make()
        then()

    vars(model)["_make_train_function"] = make_and_then
    try:
        yield
    finally:
        if set_here:
            vars(model)["_make_train_function"] = make
        else:
            del vars(model)["_make_train_function"]


@contextlib.contextmanager
def train_function_options(model, options, metadata):
    """While this context is open, `model.train_on_batch` runs with these options.

    Args:
        model: compiled Keras model.
        options: tf.compat.v1.RunOptions.
        metadata: tf.compat.v1.RunMetadata, filled by each step.
    """
    changed = []

    def set_options():
        # tf.keras makes a new function when sample weights come or go.
        function = model.train_function
        if all(function is not other for other, _ in changed):
            changed.append((function, (function.run_options, function.run_metadata)))
            function.run_options, function.run_metadata = options, metadata
            function._callable_fn = None

    try:
        with when_training_function_is_made(model, set_options):
            yield
    finally:
        for function, before in changed:
            function.run_options, function.run_metadata = before
            function._callable_fn = None
