#! -*- coding: utf-8 -*-
"""无损放大的Transformer模型 (kexue.fm/archives/8444): a trained encoder made twice as wide, checked, and trained further.

The same as a command: kexue-keras convert me5-zh-char-mlm large --enlarge 2
"""

import os
import tempfile

from kexue_keras import models
from kexue_keras.backend import set_seed
from kexue_keras.data import split_reviews
from kexue_keras.finetune import MaskedLanguageModel

max_length = 32
batch_size = 8
steps = 20
learning_rate = 1e-4
rows = dict(train=1000, valid=0, test=100)
num_hidden_layers = 4  # the lowest 4 of 12, for time

model_path = "me5-zh-char-mlm"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-char_L-12_H-768_A-12"

set_seed(2021)
train_data, _, test_data = [[text for text, _ in part] for part in split_reviews(**rows, seed=2021)]
folder = tempfile.mkdtemp()
small, large = os.path.join(folder, "small"), os.path.join(folder, "large")

if __name__ == "__main__":
    encoder = models.load(model_path, with_mlm="linear", num_hidden_layers=num_hidden_layers)
    models.save(encoder, small)
    print(models.enlarge(small, large, k=2))  # <- noise that changes no output, so that the copies diverge in training
    print(models.check_lossless(small, large))  # <-
    for path in (small, large):
        mlm = MaskedLanguageModel(path, max_length=max_length)
        before = mlm.evaluate(test_data)
        mlm.train(train_data, steps=steps, batch_size=batch_size, learning_rate=learning_rate, head_lr_multiplier=1.0)
        after = mlm.evaluate(test_data)
        print("%s: loss %.4f, after %d steps %.4f" % (mlm.pretrained, before["loss"], steps, after["loss"]))
