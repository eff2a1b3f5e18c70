"""Sentence vectors: encoders, search, whitening, the head for pairs, and similar texts by generating."""

from kexue_keras.models.similarity.encoder import Hit  # noqa: F401
from kexue_keras.models.similarity.encoder import SentenceEncoder  # noqa: F401
from kexue_keras.models.similarity.index import VectorIndex  # noqa: F401
from kexue_keras.models.similarity.pair_head import PairFeatures  # noqa: F401
from kexue_keras.models.similarity.pair_head import pair_classifier  # noqa: F401
from kexue_keras.models.similarity.pooling import sentence_vector  # noqa: F401
from kexue_keras.models.similarity.questions import SimilarQuestions  # noqa: F401
from kexue_keras.models.similarity.whitening import Whitening  # noqa: F401
