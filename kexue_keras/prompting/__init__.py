"""Few-shot classification with the masked language model head: PET and P-tuning.

Reference: "必须要GPT3吗？不，BERT的MLM模型也能小样本学习", kexue.fm/archives/7764; "P-tuning：自动构建模版，释放语言模型潜能",
kexue.fm/archives/8295; Schick and Schütze, arXiv 2001.07676; Liu et al., arXiv 2103.10385.
"""

from kexue_keras.prompting._classifier import PromptClassifier
from kexue_keras.prompting._head import UntrainedHeadWarning
from kexue_keras.prompting._label_words import EqualWordsWarning
from kexue_keras.prompting._pattern import Pattern
from kexue_keras.prompting._verbalizer import Verbalizer
