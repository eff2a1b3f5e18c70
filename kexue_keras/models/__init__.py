"""bert4keras model classes and loaders."""

from kexue_keras.layers.deepnorm import deepnorm_constants  # noqa: F401
from kexue_keras.models import decoding  # noqa: F401
from kexue_keras.models.convert import convert  # noqa: F401
from kexue_keras.models.convert import save  # noqa: F401
from kexue_keras.models.deepnorm import extend_with_deepnorm  # noqa: F401
from kexue_keras.models.entropy_invariance import extend_with_entropy_invariance  # noqa: F401
from kexue_keras.models.entropy_sampling import EntropySampler  # noqa: F401
from kexue_keras.models.load import PretrainedModel  # noqa: F401
from kexue_keras.models.load import load  # noqa: F401
from kexue_keras.models.masked_lm import masked_accuracy  # noqa: F401
from kexue_keras.models.masked_lm import predict_at  # noqa: F401
from kexue_keras.models.mixers import extend_with_mixer  # noqa: F401
from kexue_keras.models.pretrained import PartialWeights  # noqa: F401
from kexue_keras.models.prompt import Pattern  # noqa: F401
from kexue_keras.models.prompt import PromptClassifier  # noqa: F401
from kexue_keras.models.prompt import Verbalizer  # noqa: F401
from kexue_keras.models.recompute import extend_with_recompute  # noqa: F401
from kexue_keras.models.synthesizer import extend_with_synthesizer  # noqa: F401
from kexue_keras.models.t5 import PretrainedT5  # noqa: F401
from kexue_keras.models.t5 import load_t5  # noqa: F401
from kexue_keras.models.t5_model import T5  # noqa: F401
from kexue_keras.models.trimming import TrimmedSentencePiece  # noqa: F401
from kexue_keras.models.trimming import trim_sentencepiece  # noqa: F401
from kexue_keras.models.update_magnitude import UpdateMagnitude  # noqa: F401
from kexue_keras.models.update_magnitude import update_magnitude  # noqa: F401
from kexue_keras.models.variables import WeightsError  # noqa: F401
