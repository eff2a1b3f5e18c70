"""Batched generation with remembered keys and values: greedy, beam search, sampling, n best."""

from kexue_keras.decoding._drop_in import CachedDecoder
from kexue_keras.decoding._entropy_sampling import EntropySampler
from kexue_keras.decoding._generator import Generated
from kexue_keras.decoding._generator import Generator
from kexue_keras.decoding._latent_texts import LatentTexts
from kexue_keras.decoding._sampling import cut
from kexue_keras.decoding._sampling import to_entropy
