#! -*- coding: utf-8 -*-
"""你的语言模型有没有“无法预测的词”？ (kexue.fm/archives/9046): which words a masked language model can never predict.

It checks the first rows of the table against everything that could beat them; `steps = None` checks all.
"""

import numpy as np

from kexue_keras import models
from kexue_keras.analysis import find_unargmaxable, output_layer

steps = 1000  # words to look at; None: all, half a minute
model_path = "me5-zh-char-mlm"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-char_L-12_H-768_A-12"

loaded = models.load(model_path, with_mlm="linear", num_hidden_layers=1)  # only the head is inspected
W, b = output_layer(loaded)  # <-

if __name__ == "__main__":
    found = find_unargmaxable(W, b, classes=np.arange(len(W))[:steps])  # <-
    print("of %d words %s" % (len(found.classes), found.counts()))
    for k in found.of("unargmaxable")[:10]:
        rows, weights = found.beaten_by[k]
        winners = " ".join(loaded.tokenizer.id_to_token(int(row)) for row in rows[:3])
        print("%s can never be predicted: %s comes first" % (loaded.tokenizer.id_to_token(int(k)), winners))
