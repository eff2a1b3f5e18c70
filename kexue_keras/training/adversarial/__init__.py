"""Attacks and penalties on the embeddings: FGM, gradient penalty, virtual adversarial training.

对抗训练浅谈：意义、方法和思考（附Keras实现）, kexue.fm/archives/7234; 泛化性乱弹：从随机噪声、梯度惩罚到虚拟对抗训练, kexue.fm/archives/7466.
"""

from kexue_keras.training.adversarial._fgm import FGM
from kexue_keras.training.adversarial._gradient_penalty import GradientPenalty
from kexue_keras.training.adversarial._virtual_adversarial import VirtualAdversarial
