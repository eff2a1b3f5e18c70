"""The techniques that fine-tuning knows, one idea a module; importing this package fills the registry."""

from kexue_keras.tasks.techniques import accumulation  # noqa: F401
from kexue_keras.tasks.techniques import adversarial  # noqa: F401
from kexue_keras.tasks.techniques import averaging  # noqa: F401
from kexue_keras.tasks.techniques import class_weights  # noqa: F401
from kexue_keras.tasks.techniques import encoder_depth  # noqa: F401
from kexue_keras.tasks.techniques import layer_freezing  # noqa: F401
from kexue_keras.tasks.techniques import layerwise_rates  # noqa: F401
from kexue_keras.tasks.techniques import precision  # noqa: F401
from kexue_keras.tasks.techniques import rdrop  # noqa: F401
from kexue_keras.tasks.techniques import recompute  # noqa: F401
from kexue_keras.tasks.techniques import schedule  # noqa: F401
