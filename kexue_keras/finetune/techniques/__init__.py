"""The techniques that fine-tuning knows, one idea a module; importing this package fills the registry."""

from kexue_keras.finetune.techniques import _accumulation as accumulation
from kexue_keras.finetune.techniques import _adversarial as adversarial
from kexue_keras.finetune.techniques import _averaging as averaging
from kexue_keras.finetune.techniques import _class_weights as class_weights
from kexue_keras.finetune.techniques import _encoder_depth as encoder_depth
from kexue_keras.finetune.techniques import _layer_freezing as layer_freezing
from kexue_keras.finetune.techniques import _layerwise_rates as layerwise_rates
from kexue_keras.finetune.techniques import _precision as precision
from kexue_keras.finetune.techniques import _rdrop as rdrop
from kexue_keras.finetune.techniques import _recompute as recompute
from kexue_keras.finetune.techniques import _schedule as schedule
