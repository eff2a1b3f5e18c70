"""One trainer for all tasks: techniques applied to model, loss and optimizer, and steps that a kill does not change."""

from kexue_keras.trainer._techniques import Techniques
from kexue_keras.trainer._train_model import train_model
from kexue_keras.trainer._trainer import Diverged
from kexue_keras.trainer._trainer import Trainer
from kexue_keras.trainer._wrapping import accelerated
from kexue_keras.trainer._wrapping import wrapped
