"""Pictures and pages: what a model looks at, what it decides by, where its vectors lie."""

from kexue_keras.pictures._attention_maps import AttentionMaps
from kexue_keras.pictures._attention_maps import attention_maps
from kexue_keras.pictures._attributions import Attributions
from kexue_keras.pictures._attributions import IntegratedGradients
from kexue_keras.pictures._vectors import draw_vectors
from kexue_keras.pictures._vectors import plane
