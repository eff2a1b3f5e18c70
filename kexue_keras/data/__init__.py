"""Readers and batch generators."""

from kexue_keras.data.batches import BucketedBatches  # noqa: F401
from kexue_keras.data.batches import encode  # noqa: F401
from kexue_keras.data.columns import Columns  # noqa: F401
from kexue_keras.data.columns import choose_columns  # noqa: F401
from kexue_keras.data.examples import Examples  # noqa: F401
from kexue_keras.data.examples import read_examples  # noqa: F401
from kexue_keras.data.examples import stratified_split  # noqa: F401
from kexue_keras.data.inference import inference_classes  # noqa: F401
from kexue_keras.data.inference import read_inference_pairs  # noqa: F401
from kexue_keras.data.masking import gather_places  # noqa: F401
from kexue_keras.data.masking import random_masking  # noqa: F401
from kexue_keras.data.pairs import PairBatches  # noqa: F401
from kexue_keras.data.pairs import read_scored_pairs  # noqa: F401
from kexue_keras.data.pairs import split_pairs  # noqa: F401
from kexue_keras.data.reviews import read_reviews  # noqa: F401
from kexue_keras.data.reviews import split_reviews  # noqa: F401
from kexue_keras.data.reviews import write_parts  # noqa: F401
from kexue_keras.data.reviews import write_reviews  # noqa: F401
from kexue_keras.data.tables import read_table  # noqa: F401
from kexue_keras.data.texts import checked_texts  # noqa: F401
from kexue_keras.data.word_masking import whole_word_masking  # noqa: F401
from kexue_keras.data.word_masking import word_cutter  # noqa: F401
from kexue_keras.errors import UserError  # noqa: F401
