"""Whole fine-tuning recipes, used by the command line and by examples/."""

from kexue_keras.finetune._finetune import finetune
from kexue_keras.finetune._masked_lm import MaskedLanguageModel
from kexue_keras.finetune._sentence_bert import PairSet
from kexue_keras.finetune._sentence_bert import train_sentence_bert
from kexue_keras.finetune._seq2seq import Seq2Seq
from kexue_keras.finetune._seq2seq import load_seq2seq
from kexue_keras.finetune._seq2seq_scores import generation_scores
from kexue_keras.finetune._seq2seq_training import finetune_seq2seq
from kexue_keras.finetune._seq2seq_training import read_pairs
from kexue_keras.finetune._simbert import SimBERT
from kexue_keras.finetune.classification import Classifier
from kexue_keras.finetune.named_entities import EntityRecognizer
