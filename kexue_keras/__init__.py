"""The techniques of the blog 科学空间 (kexue.fm) as Keras parts that plug into bert4keras models."""

from kexue_keras import backend  # noqa: F401  (first: it checks the versions and picks the Keras)
from kexue_keras import data, layers, losses, models, optimizers, regularizers, tasks, training  # noqa: F401

__version__ = "0.1.0"
__all__ = ["backend", "data", "layers", "losses", "models", "optimizers", "regularizers", "tasks", "training"]
