"""Mixing of tokens without attention (也来盘点一些最近的非Transformer工作, kexue.fm/archives/8431)."""

from kexue_keras.layers.mixing._aft import AFT
from kexue_keras.layers.mixing._block import MIXERS
from kexue_keras.layers.mixing._block import MixerBlock
from kexue_keras.layers.mixing._block import ResMLP
from kexue_keras.layers.mixing._block import make_mixer
from kexue_keras.layers.mixing._conv import ConvMixer1D
from kexue_keras.layers.mixing._external import ExternalAttention
from kexue_keras.layers.mixing._fnet import FNet
from kexue_keras.layers.mixing._gmlp import AMLP
from kexue_keras.layers.mixing._gmlp import GMLP
from kexue_keras.layers.mixing._gmlp import SpatialGatingUnit
from kexue_keras.layers.mixing._resmlp import Affine
from kexue_keras.layers.mixing._resmlp import LinearTokenMixing
from kexue_keras.layers.mixing._token_mlp import FFStack
from kexue_keras.layers.mixing._token_mlp import TokenMixingMLP
