#! -*- coding: utf-8 -*-
"""An encoder whitened on your own texts, saved as a sentence-transformers folder with a model card, and loaded again.

Article: 你可能不需要BERT-flow：一个线性变换媲美BERT-flow (kexue.fm/archives/8069)
`SentenceTransformer("hub")` of the library of that name gives the same vectors (docs/models/hub.md).
"""

import os

import numpy as np

from kexue_keras import models
from kexue_keras.data import read_reviews
from kexue_keras.similarity import SentenceEncoder

model_name = "me5-zh-char"  # or a name of the hub: "BAAI/bge-small-zh-v1.5" (pip install "kexue-keras[hub]")
num_hidden_layers = 12
max_length = 32
samples = 200  # texts

print(models.presets())  # <- names, sizes, licences
texts = [text for text, _ in read_reviews()][:samples]
encoder = SentenceEncoder(model_name, max_length=max_length, num_hidden_layers=num_hidden_layers)
encoder.fit_whitening(texts, components=min(64, len(texts) // 2))
encoder.save("hub", format="sentence-transformers", overwrite=True)  # <- the whitening is a Dense layer there
print("written:", ", ".join(sorted(name for name in os.listdir("hub") if not name.startswith("."))))

again = SentenceEncoder.load("hub")  # <- folders from others work too
difference = np.abs(again.encode(texts) - encoder.encode(texts)).max()
print("%d numbers per text; differ by %.1g at most" % (again.model.output_shape[-1], difference))
