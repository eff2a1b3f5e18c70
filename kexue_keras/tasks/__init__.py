"""Whole fine-tuning recipes, used by the command line and by examples/."""

from kexue_keras.tasks import techniques  # noqa: F401  (first: it fills the registry)
from kexue_keras.tasks.classification import finetune  # noqa: F401
from kexue_keras.tasks.classifier import Classifier  # noqa: F401
from kexue_keras.tasks.recipe import Technique  # noqa: F401
from kexue_keras.tasks.recipe import technique  # noqa: F401
