"""The names of `types` that need no TensorFlow."""

import os
from typing import Any, Callable, Dict, Sequence, Tuple, Union

import bert4keras.tokenizers
import numpy as np

Array = np.ndarray
# What numpy makes an array of.
ArrayLike = Union[np.ndarray, Sequence[Any], float]
# Arguments that make an object again, as JSON can hold them.
Config = Dict[str, Any]
# The arrays of one batch, as Keras takes them.
Arrays = Union[np.ndarray, Sequence[np.ndarray]]

Tokenizer = bert4keras.tokenizers.TokenizerBase
Path = Union[str, os.PathLike]
# A column of a file: its name, or its number from 1.
Column = Union[str, int]
Texts = Union[Sequence[str], Sequence[Tuple[str, str]]]
# Token ids and segment ids of a text.
Encoded = Tuple[Sequence[int], Sequence[int]]
# An entity: first character, the one after its last, label.
Span = Tuple[int, int, str]
# Takes a line for the user.
Say = Callable[[str], Any]
