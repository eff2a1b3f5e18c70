#! -*- coding: utf-8 -*-
"""积分梯度：一种新颖的神经网络可视化方法 (kexue.fm/archives/7533): which words of a review a classifier's decision is based on.

The encoder is frozen and gets a logistic regression (seconds); then come the words, as a page and a picture, and what
the heads of the top layer attend to.
"""

import os

from kexue_keras.data import split_reviews, write_parts
from kexue_keras.finetune import Classifier, finetune
from kexue_keras.pictures import IntegratedGradients, attention_maps

num_hidden_layers = None  # None: all 12
steps = 32  # of the integration
max_length = 64
rows = dict(train=400, valid=50, test=400)
model_path = "me5-zh-sp"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-char_L-12_H-768_A-12"
texts = ["这本书写得太好了，强烈推荐给大家", "内容空洞，翻译生硬，后悔买了"]

if __name__ == "__main__":
    train, valid, test = write_parts(split_reviews(seed=2021, **rows), "data")
    metrics = finetune(
        model_path,
        train,
        "run",
        valid=valid,
        test=test,
        frozen=True,  # <-
        num_hidden_layers=num_hidden_layers,
        max_length=max_length,
        overwrite=True,
    )
    print("test accuracy %.4f" % metrics["test"]["accuracy"])
    classifier = Classifier.load("run")
    gradients = IntegratedGradients(classifier, steps=steps)  # <-
    for number, text in enumerate(texts):
        found = gradients.explain(text)  # <-
        found.save("words-%d.html" % number)
        found.save("words-%d.png" % number)
        strongest = sorted(zip(found.scores, found.tokens), reverse=True)[:3]
        print(found.label, "%.3f" % found.probability, " ".join("%s %+.2f" % (t, s) for s, t in strongest))
    attention_maps(classifier, texts[0]).save("attention.html")  # <-
    attention_maps(classifier, texts[0]).save("attention.png", layer=-1)
    print("in", os.getcwd())
