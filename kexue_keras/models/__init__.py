"""bert4keras model classes and loaders."""

from kexue_keras.models.load import PretrainedModel  # noqa: F401
from kexue_keras.models.load import WeightsError  # noqa: F401
from kexue_keras.models.load import load  # noqa: F401
from kexue_keras.models.recompute import extend_with_recompute  # noqa: F401
