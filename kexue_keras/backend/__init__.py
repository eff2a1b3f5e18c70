"""Which Keras this is, and everything that touches private TensorFlow or Keras, or reads the environment.

The rest of the package takes `keras`, `K` and `tf1` from here and never asks again which ones they are.
"""

# First, since it checks the versions before TensorFlow is imported.
from kexue_keras.backend import stack

# isort: split

from kexue_keras.backend.acceleration import (
    environment_variable,
    exchange_compilation,
    exchange_environment,
    exchange_mixed_precision,
    half_precision_lists,
    has_gpu,
    is_mixed_precision_on,
    keras_has_session,
    nvidia_release,
    rewritten_to_half,
    sessions_created,
)
from kexue_keras.backend.dtypes import widen
from kexue_keras.backend.finite import nonfinite_weight
from kexue_keras.backend.graph.ops import (
    control_flow_contexts,
    copy_op,
    gradient_function,
    gradient_number,
    identity_with_gradient,
    op_definitions,
    other_conditions,
)
from kexue_keras.backend.layer_calls import LayerCall, layer_calls, model_to_call
from kexue_keras.backend.random_state import preserved_random_state, set_seed
from kexue_keras.backend.sessions import ModelSession, initialize, scratch_graph
from kexue_keras.backend.stack import (
    FunctionLoss,
    K,
    get_session,
    is_tf2,
    is_tf_keras,
    keras,
    keras_version,
    metric_objects_load,
    quiet,
    reduction_of,
    register,
    registered,
    tf1,
)
from kexue_keras.backend.training_step import (
    add_update,
    call_again,
    minimise_instead,
    refuse_distribution,
    train_function_options,
    train_step_nodes,
)

__all__ = [
    "FunctionLoss",
    "K",
    "LayerCall",
    "ModelSession",
    "add_update",
    "call_again",
    "control_flow_contexts",
    "copy_op",
    "environment_variable",
    "exchange_compilation",
    "exchange_environment",
    "exchange_mixed_precision",
    "get_session",
    "gradient_function",
    "gradient_number",
    "half_precision_lists",
    "has_gpu",
    "identity_with_gradient",
    "initialize",
    "is_mixed_precision_on",
    "is_tf2",
    "is_tf_keras",
    "keras",
    "keras_has_session",
    "keras_version",
    "layer_calls",
    "metric_objects_load",
    "minimise_instead",
    "model_to_call",
    "nonfinite_weight",
    "nvidia_release",
    "op_definitions",
    "other_conditions",
    "preserved_random_state",
    "quiet",
    "reduction_of",
    "refuse_distribution",
    "register",
    "registered",
    "rewritten_to_half",
    "scratch_graph",
    "sessions_created",
    "set_seed",
    "tf1",
    "train_function_options",
    "train_step_nodes",
    "widen",
]
