"""Batched generation with remembered keys and values: greedy, beam search, sampling, n best."""

from kexue_keras.models.decoding.drop_in import CachedDecoder  # noqa: F401
from kexue_keras.models.decoding.generator import Generated  # noqa: F401
from kexue_keras.models.decoding.generator import Generator  # noqa: F401
from kexue_keras.models.decoding.sampling import cut  # noqa: F401
