"""Searching the options of fine-tuning: which rates and techniques suit the data."""

from kexue_keras.search._space import Space
from kexue_keras.search._study import search_options
