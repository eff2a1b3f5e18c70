"""How a training step is run: what is done to the batch, the passes and the gradients."""

from kexue_keras.training.rdrop import RDropPair  # noqa: F401
from kexue_keras.training.rdrop import RDropRepeat  # noqa: F401
from kexue_keras.training.rdrop import rdrop  # noqa: F401
