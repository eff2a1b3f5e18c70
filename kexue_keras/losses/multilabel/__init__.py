"""Several labels per text: softmax's cross-entropy for them, its decoding, its metrics, a known number of labels.

Article: 将“Softmax+交叉熵”推广到多标签分类问题 (kexue.fm/archives/7359).
"""

from kexue_keras.losses.multilabel._crossentropy import MultilabelCrossentropy
from kexue_keras.losses.multilabel._crossentropy import multilabel_crossentropy
from kexue_keras.losses.multilabel._crossentropy import multilabel_kl
from kexue_keras.losses.multilabel._crossentropy import multilabel_probabilities
from kexue_keras.losses.multilabel._crossentropy import sparse_multilabel_crossentropy
from kexue_keras.losses.multilabel._decoding import decode_multilabel
from kexue_keras.losses.multilabel._metrics import MultilabelF1
from kexue_keras.losses.multilabel._topk import PairwiseMultilabelCrossentropy
from kexue_keras.losses.multilabel._topk import combination_crossentropy
from kexue_keras.losses.multilabel._topk import pairwise_multilabel_crossentropy
