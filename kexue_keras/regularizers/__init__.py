"""Penalties on weights."""

from kexue_keras.regularizers._weissi import WEISSI
from kexue_keras.regularizers._weissi import add_weissi
