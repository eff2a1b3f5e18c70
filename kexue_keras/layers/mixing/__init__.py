"""Mixing of tokens without attention (也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431)."""

from kexue_keras.layers.mixing.aft import AFT  # noqa: F401
from kexue_keras.layers.mixing.block import MIXERS  # noqa: F401
from kexue_keras.layers.mixing.block import MixerBlock  # noqa: F401
from kexue_keras.layers.mixing.block import ResMLP  # noqa: F401
from kexue_keras.layers.mixing.block import make_mixer  # noqa: F401
from kexue_keras.layers.mixing.external import ExternalAttention  # noqa: F401
from kexue_keras.layers.mixing.fnet import FNet  # noqa: F401
from kexue_keras.layers.mixing.gmlp import AMLP  # noqa: F401
from kexue_keras.layers.mixing.gmlp import GMLP  # noqa: F401
from kexue_keras.layers.mixing.gmlp import SpatialGatingUnit  # noqa: F401
from kexue_keras.layers.mixing.resmlp import Affine  # noqa: F401
from kexue_keras.layers.mixing.resmlp import LinearTokenMixing  # noqa: F401
from kexue_keras.layers.mixing.token_mlp import FFStack  # noqa: F401
from kexue_keras.layers.mixing.token_mlp import TokenMixingMLP  # noqa: F401
