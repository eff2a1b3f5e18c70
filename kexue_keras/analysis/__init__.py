"""Looking at a model: numpy and scipy on its weights, with thin adapters that take a Keras model."""

from kexue_keras.analysis import costs
from kexue_keras.analysis import dimensions
from kexue_keras.analysis._argmax_frank_wolfe import minimax_margin
from kexue_keras.analysis._gradient_inequality import gradient_inequality
from kexue_keras.analysis._gradient_inequality import gradient_inequality_np
from kexue_keras.analysis._logsumexp import logsumexp_bounds
from kexue_keras.analysis._logsumexp import smooth_max
from kexue_keras.analysis._output_layer import output_layer
from kexue_keras.analysis._recurrent_cells import Cell
from kexue_keras.analysis._rnn_gradients import rnn_gradient_profile
from kexue_keras.analysis._rnn_gradients import suggest_forget_bias
from kexue_keras.analysis._rnn_gradients import time_constant
from kexue_keras.analysis._unargmaxable import find_unargmaxable
