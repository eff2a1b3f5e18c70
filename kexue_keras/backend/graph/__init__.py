"""Operations of a graph: walked, copied, run again with other values."""

from kexue_keras.backend.graph.loop_copy import loop_of
from kexue_keras.backend.graph.ops import control_flow_contexts
from kexue_keras.backend.graph.ops import copy_op
from kexue_keras.backend.graph.ops import gradient_function
from kexue_keras.backend.graph.ops import gradient_number
from kexue_keras.backend.graph.ops import identity_with_gradient
from kexue_keras.backend.graph.ops import op_definitions
from kexue_keras.backend.graph.second_pass import SecondPass
from kexue_keras.backend.graph.walk import STATEFUL_RANDOM
from kexue_keras.backend.graph.walk import depth_first
from kexue_keras.backend.graph.walk import origin
from kexue_keras.backend.graph.walk import reached
from kexue_keras.backend.graph.walk import readers
