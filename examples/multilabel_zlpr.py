#! -*- coding: utf-8 -*-
"""将“Softmax+交叉熵”推广到多标签分类问题 (kexue.fm/archives/7359): several labels per text, predicted where logit > 0.

The labels here are the topics of a review, given by keywords that are removed from its text. `csv_path` takes DuEE's
65 event types, or any CSV with the columns label (joined by |) and content.
"""

import csv

import numpy as np
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.losses import MultilabelCrossentropy, decode_multilabel
from kexue_keras.optimizers import AdamW

max_length = 96
batch_size = 16
epochs = 4
learning_rate = 5e-4
rows = dict(train=800, valid=200, test=1000)
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-char"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"
# num_hidden_layers, learning_rate = None, 2e-5  # for these two

csv_path = None  # "/root/DuEE/{part}.csv" with parts train, valid, test
keywords = ["作者", "内容", "孩子", "故事", "质量", "价格", "印刷", "翻译", "包装", "送货"]


def load_data(part, reviews):
    """List of (text, labels)."""
    if csv_path:
        with open(csv_path.format(part=part), encoding="utf-8") as f:
            return [(row["content"], row["label"].split("|")) for row in csv.DictReader(f)]
    data = []
    for text, _ in reviews:
        found = [word for word in keywords if word in text]
        for word in found:
            text = text.replace(word, "它")
        data.append((text, found))
    return data


set_seed(2021)
parts = [load_data(*part) for part in zip(("train", "valid", "test"), split_reviews(**rows, seed=2021))]
train_data, valid_data, test_data = parts
labels = sorted({label for _, found in train_data for label in found})

encoder = models.load(model_path, num_hidden_layers=num_hidden_layers, dropout_rate=0.1)
tokenizer = encoder.tokenizer


class data_generator(DataGenerator):
    """Batches of token ids, segment ids and a 0 or 1 for each label."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids, batch_labels = [], [], []
        for is_end, (text, found) in self.sample(random):
            token_ids, segment_ids = tokenizer.encode(text, maxlen=max_length)
            batch_token_ids.append(token_ids)
            batch_segment_ids.append(segment_ids)
            batch_labels.append([float(label in found) for label in labels])
            if len(batch_token_ids) == self.batch_size or is_end:
                batch = [sequence_padding(batch_token_ids), sequence_padding(batch_segment_ids)]
                yield batch, np.array(batch_labels)
                batch_token_ids, batch_segment_ids, batch_labels = [], [], []


train_generator = data_generator(train_data, batch_size)
valid_generator = data_generator(valid_data, 64)
test_generator = data_generator(test_data, 64)

output = keras.layers.GlobalAveragePooling1D()(encoder.model.output)
output = keras.layers.Dense(len(labels))(output)  # <- logits: no sigmoid, no softmax
model = keras.models.Model(encoder.model.inputs, output)
model.compile(loss=MultilabelCrossentropy(), optimizer=AdamW(learning_rate))  # <-


def evaluate(data):
    """Micro F1."""
    right, answered, wanted = 0, 1e-10, 1e-10
    for x_true, y_true in data:
        for y, found in zip(y_true, decode_multilabel(model.predict(x_true))):  # <- class numbers with logit > 0
            right += sum(y[i] for i in found)
            answered += len(found)
            wanted += y.sum()
    return 2 * right / (answered + wanted)


class Evaluator(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best F1 on the validation texts."""

    def __init__(self):
        super(Evaluator, self).__init__()
        self.best, self.weights = -1.0, None

    def on_epoch_end(self, epoch, logs=None):
        f1 = evaluate(valid_generator)
        if f1 > self.best:
            self.best, self.weights = f1, model.get_weights()
        print("valid F1: %.4f, best: %.4f" % (f1, self.best))


if __name__ == "__main__":
    evaluator = Evaluator()
    model.fit(train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[evaluator])
    model.set_weights(evaluator.weights)
    print("test micro F1: %.4f" % evaluate(test_generator))
