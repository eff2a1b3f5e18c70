"""bert4keras model classes, and what is read from a model's outputs."""

from kexue_keras.backend import ModelSession
from kexue_keras.models._causal_lm import next_token_accuracy
from kexue_keras.models._causal_lm import predict_next_at
from kexue_keras.models._deepnorm import extend_with_deepnorm
from kexue_keras.models._entropy_invariance import extend_with_entropy_invariance
from kexue_keras.models._fused import extend_with_fused
from kexue_keras.models._language_models_only import guard_mlm
from kexue_keras.models._masked_lm import masked_accuracy
from kexue_keras.models._masked_lm import predict_at
from kexue_keras.models._mixers import extend_with_mixer
from kexue_keras.models._partial_weights import PartialWeights
from kexue_keras.models._recompute import extend_with_recompute
from kexue_keras.models._synthesizer import extend_with_synthesizer
from kexue_keras.models._t5 import T5
from kexue_keras.models._update_magnitude import UpdateMagnitude
from kexue_keras.models._update_magnitude import update_magnitude
from kexue_keras.models.electra import ElectraPretraining
from kexue_keras.models.electra import build_electra_generator
from kexue_keras.models.electra import propose_masks
from kexue_keras.models.teaforn import build_teaforn_model
from kexue_keras.models.univae import UniVAE

# `models.load` is where users look for it. A block of its own, since checkpoints build the models above.
from kexue_keras.checkpoints._convert import save
from kexue_keras.checkpoints._enlarge import Enlarged
from kexue_keras.checkpoints._enlarge import enlarge
from kexue_keras.checkpoints._load import load
from kexue_keras.checkpoints._lossless import Lossless
from kexue_keras.checkpoints._lossless import check_lossless
from kexue_keras.hub._presets import presets
