"""Weights in and out: folders of bert4keras and Hugging Face, T5, the bundled encoders."""

from kexue_keras.checkpoints._convert import convert
from kexue_keras.checkpoints._convert import save
from kexue_keras.checkpoints._enlarge import Enlarged
from kexue_keras.checkpoints._enlarge import enlarge
from kexue_keras.checkpoints._load import PretrainedModel
from kexue_keras.checkpoints._load import load
from kexue_keras.checkpoints._lossless import Lossless
from kexue_keras.checkpoints._lossless import check_lossless
from kexue_keras.checkpoints.t5.loading import PretrainedT5
from kexue_keras.checkpoints.t5.loading import load_t5
from kexue_keras.checkpoints.t5.trimming import TrimmedSentencePiece
from kexue_keras.checkpoints.t5.trimming import trim_sentencepiece
