"""Which Keras this is, registration, and everything that touches private TensorFlow or Keras.

bert4keras decides between Keras 2.3.1 and tf.keras (its switch `TF_KERAS=1`); the rest of the package takes
`keras` and `K` from here and never asks again. Only this file may import `tensorflow.python.*` or Keras
internals, and only this file may read the environment.
"""

import contextlib
import os
import random
import re
import tempfile

from kexue_keras import versions

# bert4keras reads the same variable with the same words; the check must come first, since with a broken pair
# of versions importing bert4keras dies with a message that does not name the cause.
versions.check(os.environ.get("TF_KERAS", "0").lower() in ("1", "true", "t", "yes", "y", "on"))

import bert4keras.layers  # noqa: E402,F401  (registers PositionEmbedding and its kin, so that models load)
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from bert4keras.backend import K, is_tf_keras, keras  # noqa: E402

is_tf_keras = bool(is_tf_keras)
tf1 = tf.compat.v1

_registered = {}


def register(cls_or_function):
    """Decorator: make a class or function known to Keras, so that `load_model` finds it in a fresh process.

    Args:
        cls_or_function: what is to be registered, under its own `__name__`.

    Returns:
        the same object.

    Raises:
        ValueError: another part of kexue_keras already has this name.
    """
    name = cls_or_function.__name__
    known = _registered.get(name)
    if known is not None and known.__module__ != cls_or_function.__module__:
        raise ValueError(
            "the name %r is registered twice, by %s and by %s; rename one of them"
            % (name, known.__module__, cls_or_function.__module__)
        )
    _registered[name] = cls_or_function
    keras.utils.get_custom_objects()[name] = cls_or_function
    return cls_or_function


def registered(base=None):
    """Dict name -> object of all that is registered; with `base`, only the subclasses of it."""
    if base is None:
        return dict(_registered)
    return {k: v for k, v in _registered.items() if isinstance(v, type) and issubclass(v, base)}


def set_seed(seed):
    """Seed Python, numpy and TensorFlow's graph-level generator.

    Args:
        seed: int.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    tf1.set_random_seed(seed)


def get_session():
    """The session in which Keras runs, with all Keras variables initialised."""
    if is_tf_keras:
        return tf1.keras.backend.get_session()
    return K.get_session()


class FunctionLoss(keras.losses.MeanSquaredError.__bases__[0]):
    """Base of the losses that are a function with parameters: `super().__init__(function, name=..., alpha=...)`.

    Keras 2.3.1 insists that the targets of a `keras.losses.Loss` have the shape of the output, except for those
    that wrap a function of one's own. So sparse labels need this class, which is the `LossFunctionWrapper` of the
    Keras in use (not public, but the base of every public loss class on all stacks).

    Args:
        function: `function(y_true, y_pred, **parameters)` giving values a sample.
        name: str.
        reduction: how Keras reduces the values, `"sum_over_batch_size"`, `"sum"` or `"none"`.
        **parameters: keyword arguments of `function`; they make up `get_config()`, so they must be JSON-able.
    """

    def __init__(self, function, *, name, reduction="sum_over_batch_size", **parameters):
        super().__init__(function, reduction=reduction, name=name)
        self.fn = function
        self.parameters = parameters

    def call(self, y_true, y_pred):
        return self.fn(y_true, y_pred, **self.parameters)

    def get_config(self):
        return dict(self.parameters, name=self.name, reduction=self.reduction)

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@contextlib.contextmanager
def metric_objects_load():
    """While this context is open, Keras 2.3.1 loads models that were compiled with metric objects.

    It saves `{"class_name": ..., "config": ...}`, and on loading looks for a class of the name of the whole dict, so
    that `load_model` fails for any metric object, its own ones too. On tf.keras there is nothing to mend.
    `load_model(path, compile=False)` needs no mending either.
    """
    get = keras.metrics.get

    def get_metric(identifier):
        if isinstance(identifier, dict) and "class_name" in identifier:
            return keras.metrics.deserialize(identifier)
        return get(identifier)

    if not is_tf_keras:
        keras.metrics.get = get_metric
    try:
        yield
    finally:
        keras.metrics.get = get


def quiet():
    """Keep TensorFlow 1.15's deprecation notices, which its own Keras causes, off the screen."""
    tf1.logging.set_verbosity(tf1.logging.ERROR)


def sessions_created():
    """How many TensorFlow sessions this process has made so far; TensorFlow reads its XLA flags at the first one."""
    from tensorflow.python.client import session

    return session._python_session_create_counter.get_cell().value()


def keras_has_session():
    """Whether a session exists in which Keras would go on running; `K.clear_session()` takes Keras' own away."""
    try:
        from tensorflow.python.keras import backend
    except ImportError:  # TensorFlow 2.14 and later, where it is a package of its own
        from tf_keras.src import backend
    return tf1.get_default_session() is not None or getattr(backend._SESSION, "session", None) is not None


def exchange_environment(values):
    """Set environment variables and return what they were before.

    Args:
        values: dict name -> str, or None to remove it.

    Returns:
        dict of the same form, for putting all back.
    """
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    return before


def environment_variable(name):
    """Value of an environment variable, "" if it is not set."""
    return os.environ.get(name, "")


def nvidia_release():
    """NVIDIA's release of TensorFlow ("21.09-tf1", "1.15.5+nv21.09"), or None for one that is not theirs.

    Theirs has switches of its own: `TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE`, `--tf_xla_auto_jit=fusible`.
    """
    name, version = versions.installed_tensorflow()
    named = version if name == "nvidia-tensorflow" or "+nv" in (version or "") else None
    return os.environ.get("NVIDIA_TENSORFLOW_VERSION") or named


def exchange_mixed_precision(on):
    """Turn TensorFlow's rewriting of float32 into float16 on or off for sessions made from now on.

    Args:
        on: True, False, or what an earlier call returned.

    Returns:
        how it was before, for putting it back.

    Raises:
        RuntimeError: a Keras `Policy` other than the default is set; TensorFlow refuses both at once.
    """
    from tensorflow.python.training.experimental import mixed_precision_global_state as state

    name = "mixed_precision_graph_rewrite_is_enabled"
    functions = not hasattr(state, name)  # TensorFlow 2.4 and later
    before = state.is_mixed_precision_graph_rewrite_enabled() if functions else getattr(state, name)
    policy = state.is_using_mixed_precision_policy() if functions else not state.using_default_mixed_precision_policy
    if on and policy:
        raise RuntimeError(
            "a Keras mixed precision policy is set, which bert4keras' models do not support and which cannot go "
            "together with the rewriting of the graph; set the policy 'float32' back first"
        )
    # The first is what sessions ask that have a configuration of their own, the second all others.
    if functions:
        state.set_mixed_precision_graph_rewrite_enabled(bool(on))
    else:
        setattr(state, name, bool(on))
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision": True if on else None})
    return before


def is_mixed_precision_on():
    """Whether sessions made now rewrite float32 into float16, by TensorFlow's switch or NVIDIA's."""
    if os.environ.get("TF_ENABLE_AUTO_MIXED_PRECISION_GRAPH_REWRITE", "0") not in ("", "0"):
        return True
    return bool(tf.config.optimizer.get_experimental_options().get("auto_mixed_precision"))


def rewritten_to_half(graph_def, fetches):
    """What TensorFlow's rewriting for mixed precision makes of a graph on a GPU with tensor cores; needs no GPU.

    All nodes are placed on a virtual GPU of compute capability 8.0, and only this one optimizer of grappler runs.
    The result is for looking at; it cannot be run.

    Args:
        graph_def: `GraphDef`.
        fetches: names of the nodes that are to be computed.

    Returns:
        `GraphDef` with half-precision nodes and `Cast` nodes.

    Raises:
        RuntimeError: this TensorFlow has no such optimizer.
    """
    from tensorflow.core.protobuf import device_properties_pb2
    from tensorflow.python.grappler import cluster, tf_optimizer

    gpu = "/job:localhost/replica:0/task:0/device:GPU:0"
    meta_graph = tf1.MetaGraphDef()
    meta_graph.graph_def.CopyFrom(graph_def)
    for node in meta_graph.graph_def.node:
        node.device = gpu
    meta_graph.collection_def["train_op"].node_list.value.extend(fetches)
    config = tf1.ConfigProto()
    options = config.graph_options.rewrite_options
    options.optimizers.append("auto_mixed_precision")
    options.auto_mixed_precision = options.ON
    options.meta_optimizer_iterations = options.ONE
    options.min_graph_nodes = -1
    card = device_properties_pb2.DeviceProperties(type="GPU", num_cores=80, frequency=1400, memory_size=16 << 30)
    card.environment["architecture"] = "8.0"
    card.environment["cuda"] = "11040"
    card.environment["cudnn"] = "8204"
    named = device_properties_pb2.NamedDevice(name=gpu, properties=card)
    rewritten = tf_optimizer.OptimizeGraph(config, meta_graph, verbose=False, cluster=cluster.Cluster(devices=[named]))
    if rewritten is None or not rewritten.node:
        raise RuntimeError("TensorFlow %s could not rewrite the graph for mixed precision" % tf.__version__)
    return rewritten


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


class _Inside(keras.layers.Layer):
    """Calls a function where tf.keras takes it for part of a layer, so that it makes no layers of single ops."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function()


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
        return _Inside(lambda: model.call(packed, training=training, mask=mask))(tf.zeros([]))
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


def copy_op(op, inputs):
    """A second copy of a graph operation, on other inputs, in the scopes that are open now.

    Its gradient is that of `op`, also where that was overridden, and inside a tf.cond it belongs to the same branch
    (TensorFlow reads the branch from a private field when it differentiates).

    Args:
        op: tf.Operation.
        inputs: list of tensors, one for each input of `op`.
    """
    attributes = {k: v for k, v in op.node_def.attr.items() if k != "_class"}
    with tf1.device(op.device or None):
        copy = op.graph.create_op(
            op.type, inputs, [t.dtype for t in op.outputs], name=op.name, attrs=attributes, op_def=op.op_def
        )
    context = op._get_control_flow_context()
    if context is not None and context.IsCondContext() and not _has_other_condition(op):
        copy._set_control_flow_context(context)
    return copy


def control_flow_contexts(op):
    """The tf.cond and tf.while_loop branches that an operation lies in, the innermost first."""
    contexts, context = [], op._get_control_flow_context()
    while context is not None:
        contexts.append(context)
        context = context.outer_context
    return contexts


def identity_with_gradient(tensors, gradient, number=None):
    """tf.identity_n of `tensors` whose gradient is the function registered under the name `gradient`.

    Args:
        tensors: list of tensors.
        gradient: name given to `tf.RegisterGradient`.
        number: int or None; `gradient_number` reads it from the operation, also from a copy of it.
    """
    graph = tensors[0].graph
    tag = {} if number is None else {_NUMBER: tf1.AttrValue(i=number)}
    with graph.gradient_override_map({"IdentityN": gradient}), graph._attr_scope(tag):
        return tf.identity_n(tensors)


def gradient_number(op):
    """The number that `identity_with_gradient` gave to `op`; None if `op` comes from elsewhere."""
    try:
        return int(op.get_attr(_NUMBER))
    except ValueError:
        return None


_NUMBER = "_kexue_gradient_number"


def gradient_function(op):
    """The function (op, *gradients of its outputs) -> gradients of its inputs that TensorFlow would call for `op`.

    None for an op that has no gradient by nature (a shape, a comparison).

    Raises:
        LookupError: no such function is known.
    """
    from tensorflow.python.framework import ops

    return ops.get_gradient_function(op)


def minimise_instead(model, objective, metric):
    """Let a model's training minimise another loss than that of `compile`; evaluate and predict stay as they are.

    While training, the value shown as `loss` is that of the new loss. Keras makes its training function when it is
    first needed, so the model may be compiled before or after this call, and again.

    Args:
        model: Keras model trained in graph mode.
        objective: function(scalar loss of the compiled model) -> (loss to minimise, loss to show beside it).
        metric: name of the second one; while evaluating it is the compiled loss.

    Returns:
        function without arguments that puts everything back.

    Raises:
        RuntimeError: the model trains eagerly.
    """
    if not hasattr(model, "_make_train_function"):
        raise RuntimeError(
            "the model trains eagerly, so its loss cannot be taken apart; call "
            "tf.compat.v1.disable_eager_execution() before anything else, or use TensorFlow 1.15"
        )
    mean = keras.metrics.Mean(name=metric)
    kept = {name: getattr(model, name) for name in ("_make_train_function", "_make_test_function")}
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
            "_get_training_eval_metrics": get_training_eval_metrics,
        }
    )
    return put_back


# Names of the tensors of each open `other_conditions`.
_other_conditions = []


@contextlib.contextmanager
def other_conditions(names):
    """While this context is open, `copy_op` takes copies out of the tf.cond branches of these conditions.

    TensorFlow differentiates an op in a branch by the condition that the branch was built with, which is not that of a
    copy with another one (another learning phase); an op in no branch it differentiates by its inputs.

    Args:
        names: container of names of tensors.
    """
    _other_conditions.append(names)
    try:
        yield
    finally:
        _other_conditions.pop()


def _has_other_condition(op):
    conditions = [c.pred.name for c in control_flow_contexts(op) if c.IsCondContext()]
    return any(name in names for names in _other_conditions for name in conditions)


# bert4keras replaces these classes by ones that take any length; on tf.keras `load_model` would find the old ones.
for _name in ("GlobalAveragePooling1D", "GlobalMaxPooling1D"):
    keras.utils.get_custom_objects()[_name] = getattr(keras.layers, _name)


def half_precision_lists():
    """The operations in the lists by which this TensorFlow decides what turns half.

    Returns:
        dict with the sets 'white' (always), 'black' (never), 'gray' and 'clear' (between others).
    """
    names = {"White": "white", "Black": "black", "Gray": "gray", "Clear": "clear"}
    names.update(Allow="white", Deny="black", Infer="gray")
    with tempfile.TemporaryDirectory() as folder, tf.Graph().as_default() as graph:
        tf.identity(tf.matmul(tf1.placeholder("float32", (1, 1)), tf.ones((1, 1))), name="product")
        before = exchange_environment({"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_LOG_PATH": folder})
        try:
            rewritten_to_half(graph.as_graph_def(), ["product"])
        finally:
            exchange_environment(before)
        lists = {}
        for name in os.listdir(folder):
            if name.startswith("paintbuckets"):
                with open(os.path.join(folder, name)) as handle:
                    parts = re.split(r"(\w+)List:\n", handle.read())[1:]
                lists = {names[t]: set(ops.split()) for t, ops in zip(parts[::2], parts[1::2]) if t in names}
    if set(lists) != {"white", "black", "gray", "clear"}:
        raise RuntimeError("TensorFlow %s does not say which operations it turns half" % tf.__version__)
    return lists


def op_definitions():
    """Dict name -> `OpDef` of all operations, as far as this TensorFlow lists them."""
    from tensorflow.python.framework import op_def_registry

    if hasattr(op_def_registry, "get_registered_ops"):
        return op_def_registry.get_registered_ops()

    class Registry(dict):  # TensorFlow 2 looks them up one by one
        def __missing__(self, name):
            return op_def_registry.get(name)

    return Registry()


@contextlib.contextmanager
def train_function_options(model, options, metadata):
    """While this context is open, `model.train_on_batch` runs with these options.

    Args:
        model: compiled Keras model.
        options: tf.compat.v1.RunOptions.
        metadata: tf.compat.v1.RunMetadata, filled by each step.
    """
    model._make_train_function()
    function = model.train_function
    before = function.run_options, function.run_metadata
    function.run_options, function.run_metadata = options, metadata
    function._callable_fn = None
    try:
        yield
    finally:
        function.run_options, function.run_metadata = before
        function._callable_fn = None
