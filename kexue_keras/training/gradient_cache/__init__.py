"""Contrastive training with a large batch and the memory of a small one (对比学习可以使用梯度累积吗？, kexue.fm/archives/8471)."""

from kexue_keras.training.gradient_cache._gradient_cache import GradientCache
from kexue_keras.training.gradient_cache._gradient_cache import Towers
from kexue_keras.training.gradient_cache._gradient_cache import gradient_cache
