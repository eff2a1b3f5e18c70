"""What arguments and tensors must be, said in one way: for losses, layers, optimizers and all that is built of them."""

from kexue_keras.checks._arguments import choice
from kexue_keras.checks._arguments import invalid
from kexue_keras.checks._arguments import number
from kexue_keras.checks._arguments import whole_number
from kexue_keras.checks._tensors import require
from kexue_keras.checks._tensors import require_length
from kexue_keras.checks._tensors import require_rank
from kexue_keras.checks._tensors import require_same_shape
from kexue_keras.checks._tensors import static_length
from kexue_keras.checks._tensors import warn_if_probabilities
