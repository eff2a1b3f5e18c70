"""Which Keras this is, and everything that touches private TensorFlow or Keras, or reads the environment.

The rest of the package takes `keras`, `K` and `tf1` from here and never asks again which ones they are.
"""

from kexue_keras.backend import stack  # (first: it checks the versions before TensorFlow is imported)
from kexue_keras.backend.acceleration import environment_variable
from kexue_keras.backend.acceleration import erf_is_slow
from kexue_keras.backend.acceleration import exchange_compilation
from kexue_keras.backend.acceleration import exchange_environment
from kexue_keras.backend.acceleration import exchange_mixed_precision
from kexue_keras.backend.acceleration import half_precision_lists
from kexue_keras.backend.acceleration import has_gpu
from kexue_keras.backend.acceleration import is_mixed_precision_on
from kexue_keras.backend.acceleration import keras_has_session
from kexue_keras.backend.acceleration import nvidia_release
from kexue_keras.backend.acceleration import prediction_batching
from kexue_keras.backend.acceleration import rewritten_to_half
from kexue_keras.backend.acceleration import sessions_created
from kexue_keras.backend.dtypes import widen
from kexue_keras.backend.finite import nonfinite_weight
from kexue_keras.backend.first_run import whole_graph_first
from kexue_keras.backend.functional_model import LayerCall
from kexue_keras.backend.functional_model import layer_calls
from kexue_keras.backend.functional_model import model_to_call
from kexue_keras.backend.random_state import TruncatedNormal
from kexue_keras.backend.random_state import preserved_random_state
from kexue_keras.backend.random_state import set_seed
from kexue_keras.backend.sessions import ModelSession
from kexue_keras.backend.sessions import initialize
from kexue_keras.backend.sessions import scratch_graph
from kexue_keras.backend.stack import FunctionLoss
from kexue_keras.backend.stack import K
from kexue_keras.backend.stack import get_session
from kexue_keras.backend.stack import is_tf2
from kexue_keras.backend.stack import is_tf_keras
from kexue_keras.backend.stack import keras
from kexue_keras.backend.stack import keras_version
from kexue_keras.backend.stack import metric_objects_load
from kexue_keras.backend.stack import quiet
from kexue_keras.backend.stack import reduction_of
from kexue_keras.backend.stack import refuse_eager
from kexue_keras.backend.stack import register
from kexue_keras.backend.stack import registered
from kexue_keras.backend.stack import spare_autograph
from kexue_keras.backend.stack import stack_name
from kexue_keras.backend.stack import tf1
from kexue_keras.backend.training_step import add_update
from kexue_keras.backend.training_step import call_again
from kexue_keras.backend.training_step import inside_layer
from kexue_keras.backend.training_step import minimise_instead
from kexue_keras.backend.training_step import refuse_distribution
from kexue_keras.backend.training_step import train_function_options
from kexue_keras.backend.training_step import train_step_nodes
