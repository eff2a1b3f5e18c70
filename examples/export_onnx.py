#! -*- coding: utf-8 -*-
"""Sentence vectors without TensorFlow: an encoder as ONNX with int8 matrices, compared with TensorFlow's vectors.

Article: 无监督语义相似度哪家强？我们做了个比较全面的评测 (kexue.fm/archives/8321), mean pooling.
Needs: pip install "kexue-keras[export]"
"""

import time

import numpy as np

from kexue_keras.data import read_reviews
from kexue_keras.export import export_model  # <- writes the folder
from kexue_keras.exported.model import ExportedModel  # <- reads it; without TensorFlow: kexue_keras_exported.load
from kexue_keras.similarity import SentenceEncoder

model_name = "me5-zh-sp"
num_hidden_layers = 12
max_length = 32
samples = 200  # texts

texts = [text for text, _ in read_reviews()][:samples]
encoder = SentenceEncoder(model_name, max_length=max_length, num_hidden_layers=num_hidden_layers)
encoder.save("encoder", overwrite=True)
done = export_model("encoder", "exported", format="onnx-int8", overwrite=True)  # <-
print("exported: %.1f MB, vectors differ by %.3f at most" % (done.megabytes, done.difference))


def timed(model):
    model.encode(texts[:8])
    begun = time.time()
    vectors = model.encode(texts)
    return vectors, len(texts) / (time.time() - begun)


vectors, speed = timed(encoder)
rounded, fast = timed(ExportedModel("exported"))  # <-
print("texts per second: TensorFlow %.0f, int8 %.0f" % (speed, fast))
print("smallest cosine of the two vectors of a text: %.4f" % np.sum(vectors * rounded, axis=1).min())
