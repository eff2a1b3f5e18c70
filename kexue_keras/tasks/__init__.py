"""Whole fine-tuning recipes, used by the command line and by examples/."""

from kexue_keras.tasks import techniques  # noqa: F401  (first: it fills the registry)
from kexue_keras.tasks.classification import finetune  # noqa: F401
from kexue_keras.tasks.classifier import Classifier  # noqa: F401
from kexue_keras.tasks.recipe import Technique  # noqa: F401
from kexue_keras.tasks.recipe import technique  # noqa: F401
from kexue_keras.tasks.sentence_bert import PairSet  # noqa: F401
from kexue_keras.tasks.sentence_bert import train_sentence_bert  # noqa: F401
from kexue_keras.tasks.seq2seq import Seq2Seq  # noqa: F401
from kexue_keras.tasks.seq2seq import load_seq2seq  # noqa: F401
from kexue_keras.tasks.seq2seq_scores import generation_scores  # noqa: F401
from kexue_keras.tasks.seq2seq_training import finetune_seq2seq  # noqa: F401
from kexue_keras.tasks.seq2seq_training import read_pairs  # noqa: F401
from kexue_keras.tasks.simbert import SimBERT  # noqa: F401
