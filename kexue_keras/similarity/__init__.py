"""Sentence vectors: encoders, search, whitening, the head for pairs, and similar texts by generating."""

from kexue_keras.similarity._encoder import Hit
from kexue_keras.similarity._encoder import SentenceEncoder
from kexue_keras.similarity._hard_negatives import Mined
from kexue_keras.similarity._hard_negatives import mine_hard_negatives
from kexue_keras.similarity._index import VectorIndex
from kexue_keras.similarity._pair_head import PairFeatures
from kexue_keras.similarity._pair_head import pair_classifier
from kexue_keras.similarity._pooling import sentence_vector
from kexue_keras.similarity._questions import SimilarQuestions
from kexue_keras.similarity._reranker import Reranker
from kexue_keras.similarity._retrieval_scores import retrieval_scores
from kexue_keras.similarity._whitening import Whitening
