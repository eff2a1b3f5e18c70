"""The techniques of the blog 科学空间 (kexue.fm) as Keras parts that plug into bert4keras models."""

from kexue_keras import backend  # (first: it checks the versions and picks the Keras)
from kexue_keras import models  # (before checkpoints, which build them)
from kexue_keras import checkpoints
from kexue_keras import data
from kexue_keras import decoding
from kexue_keras import distributed
from kexue_keras import finetune
from kexue_keras import layers
from kexue_keras import losses
from kexue_keras import migration
from kexue_keras import optimizers
from kexue_keras import prompting
from kexue_keras import regularizers
from kexue_keras import similarity
from kexue_keras import training
from kexue_keras import tuning

__version__ = "0.1.0"
