#! -*- coding: utf-8 -*-
"""CoSENT（一）：比Sentence-BERT更有效的句向量方案 (kexue.fm/archives/8847) compares pairs of texts; this finds one among many.

First halves of reviews retrieve their second halves. Hard negatives are mined, and a linear map on the vectors, which
are computed once, learns from the triplets: seconds. Then recall, MRR and NDCG before and after.
"""

import numpy as np

from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.losses import TripletLoss
from kexue_keras.optimizers import AdamW
from kexue_keras.similarity import SentenceEncoder, VectorIndex, mine_hard_negatives, retrieval_scores

max_length = 32
batch_size = 64
epochs = 5
learning_rate = 1e-4
rows = dict(train=1000, valid=0, test=300)
num_hidden_layers = 12

model_path = "me5-zh-sp"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt

set_seed(2021)
train_data, _, test_data = split_reviews(**rows, seed=2021)
pairs, test_pairs = (
    [(text[: len(text) // 2], text[len(text) // 2 :]) for text, _ in part] for part in (train_data, test_data)
)
encoder = SentenceEncoder(model_path, max_length=max_length, num_hidden_layers=num_hidden_layers)

mined = mine_hard_negatives(encoder, pairs, margin=0.0, relative_margin=None)  # <- below the right one
triplets = [(one.question, one.positive, one.negatives[0]) for one in mined if one.negatives]
print("%d of %d pairs have a negative, e.g. %s" % (len(triplets), len(pairs), triplets[:1]))

vectors = np.stack([encoder.encode(list(side)) for side in zip(*triplets)], axis=1)  # [triplets, 3, width]
width = vectors.shape[-1]
inputs = keras.layers.Input((3, width))
linear = keras.layers.Dense(width, use_bias=False, kernel_initializer="identity")
model = keras.models.Model(inputs, linear(inputs))
model.compile(AdamW(learning_rate), TripletLoss("cosine", margin=0.2))  # <-


def evaluate(matrix):
    """Scores of the first halves' rankings of all second halves."""
    questions, answers = (encoder.encode(list(side)).dot(matrix) for side in zip(*test_pairs))
    places, _ = VectorIndex(answers).search(questions, 10)
    scores = retrieval_scores(places.tolist(), [{i} for i in range(len(test_pairs))], k=[1, 10])  # <-
    return " ".join("%s %.3f" % (name, scores[name]) for name in ("recall@1", "recall@10", "mrr@10", "ndcg@10"))


if __name__ == "__main__":
    print("before training:", evaluate(np.eye(width)))
    model.fit(vectors, np.zeros([len(vectors), 1]), batch_size=batch_size, epochs=epochs, verbose=0)
    print("after training: ", evaluate(linear.get_weights()[0]))
