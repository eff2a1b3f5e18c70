"""ELECTRA: a discriminator that finds replaced tokens, the generator that replaces them, and what it must beat."""

from kexue_keras.models.electra._generator import build_electra_generator
from kexue_keras.models.electra._pretraining import ElectraPretraining
from kexue_keras.models.electra._proposals import propose_masks
