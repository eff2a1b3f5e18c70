"""Named entities: the task `finetune --task ner`, with GlobalPointer, Efficient GlobalPointer or a CRF.

References: "GlobalPointer：用统一的方式处理嵌套和非嵌套NER", kexue.fm/archives/8373; "Efficient GlobalPointer：少点参数，多点
效果", kexue.fm/archives/8877.
"""

from kexue_keras.finetune.named_entities._recognizer import Entity
from kexue_keras.finetune.named_entities._recognizer import EntityRecognizer
