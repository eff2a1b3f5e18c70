#! -*- coding: utf-8 -*-
"""CoSENT（一）：比Sentence-BERT更有效的句向量方案 (kexue.fm/archives/8847): train the order of the cosines.

The pairs here are halves of reviews, of the same one (1) or of two (0); `path` takes scored pairs of your own.
"""

import random

import numpy as np
from bert4keras.snippets import DataGenerator, sequence_padding
from scipy.stats import spearmanr

from kexue_keras import models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import read_scored_pairs, split_reviews
from kexue_keras.losses import CoSENT
from kexue_keras.optimizers import AdamW

max_length = 40
batch_size = 32  # pairs
epochs = 2
learning_rate = 5e-5
rows = dict(train=1600, valid=400, test=800)
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-sp"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"
# num_hidden_layers, learning_rate = None, 2e-5  # for these two

path = None  # "/root/senteval_cn/STS-B/STS-B.{part}.data": text, text, score, with parts train, valid, test


def load_data(part, reviews):
    """List of (text, text, score)."""
    if path:
        pairs, _ = read_scored_pairs(path.format(part=part))
        return [(a, b, score) for (a, b), score in zip(pairs.texts, pairs.labels)]
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text, _ in reviews]
    same = [(a, b, 1) for a, b in halves[::2]]
    other = [(a, halves[i - 2][1], 0) for i, (a, _) in enumerate(halves) if i % 2]
    pairs = same + other
    random.shuffle(pairs)
    return pairs


set_seed(2021)
parts = [load_data(*part) for part in zip(("train", "valid", "test"), split_reviews(**rows, seed=2021))]
train_data, valid_data, test_data = parts

pretrained = models.load(model_path, num_hidden_layers=num_hidden_layers, dropout_rate=0.1)
tokenizer = pretrained.tokenizer


class data_generator(DataGenerator):
    """Batches of token ids, segment ids and scores; rows 2i and 2i + 1 are a pair."""

    def __iter__(self, random=False):
        batch_token_ids, batch_scores = [], []
        for is_end, (a, b, score) in self.sample(random):
            for text in (a, b):
                batch_token_ids.append(tokenizer.encode(text, maxlen=max_length)[0])
                batch_scores.append([score])
            if len(batch_token_ids) == 2 * self.batch_size or is_end:
                token_ids = sequence_padding(batch_token_ids)
                yield [token_ids, np.zeros_like(token_ids)], np.array(batch_scores)
                batch_token_ids, batch_scores = [], []


train_generator = data_generator(train_data, batch_size)
valid_generator = data_generator(valid_data, 64)
test_generator = data_generator(test_data, 64)

output = keras.layers.GlobalAveragePooling1D()(pretrained.model.output)
model = keras.models.Model(pretrained.model.inputs, output)
model.compile(loss=CoSENT(), optimizer=AdamW(learning_rate))  # <-


def evaluate(data):
    """Spearman correlation of cosines and scores."""
    cosines, scores = [], []
    for x_true, y_true in data:
        vectors = model.predict(x_true)
        vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        cosines.extend((vectors[::2] * vectors[1::2]).sum(axis=1))
        scores.extend(y_true[::2, 0])
    return spearmanr(cosines, scores)[0]


class Evaluator(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best correlation on the validation pairs."""

    def __init__(self):
        super(Evaluator, self).__init__()
        self.best, self.weights = -1.0, None

    def on_epoch_end(self, epoch, logs=None):
        correlation = evaluate(valid_generator)
        if correlation > self.best or self.weights is None:
            self.best, self.weights = correlation, model.get_weights()
        print("valid Spearman: %.4f, best: %.4f" % (correlation, self.best))


if __name__ == "__main__":
    print("test Spearman before training: %.4f" % evaluate(test_generator))
    evaluator = Evaluator()
    model.fit(train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[evaluator])
    model.set_weights(evaluator.weights)
    print("test Spearman: %.4f" % evaluate(test_generator))
