"""Looking at a model: numpy and scipy on its weights, with thin adapters that take a Keras model."""

from kexue_keras.analysis._argmax_frank_wolfe import minimax_margin
from kexue_keras.analysis._output_layer import output_layer
from kexue_keras.analysis._unargmaxable import find_unargmaxable
