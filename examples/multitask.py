#! -*- coding: utf-8 -*-
"""多任务学习漫谈（二）：行梯度之事 (kexue.fm/archives/8896), （三）：分主次之序 (kexue.fm/archives/8907), on reviews.

The first task: positive or negative. The second: which of some words was removed from the text. `method` says how
the gradients of the two losses are combined; None takes the sum of the losses.
"""

import numpy as np
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.optimizers import AdamW, MultiTask

method = "main_auxiliary"  # or "normalize", "mgda", "pcgrad", None
max_length = 64
batch_size = 16
epochs = 3
learning_rate = 2e-4
rows = dict(train=800, valid=0, test=1000)
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-char"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"
# num_hidden_layers, learning_rate = None, 2e-5  # for these two

labels = ["负面", "正面"]
keywords = ["作者", "内容", "孩子", "故事", "质量"]


def load_data(reviews):
    """List of (text, label, number of the word that was taken out; the last number for none)."""
    data = []
    for text, label in reviews:
        found = [i for i, word in enumerate(keywords) if word in text]
        for i in found:
            text = text.replace(keywords[i], "它")
        data.append((text, labels.index(label), found[0] if found else len(keywords)))
    return data


set_seed(2021)
train_data, _, test_data = [load_data(part) for part in split_reviews(**rows, seed=2021)]

encoder = models.load(model_path, num_hidden_layers=num_hidden_layers, dropout_rate=0.1)
tokenizer = encoder.tokenizer


class data_generator(DataGenerator):
    """Batches of token ids, segment ids and the targets of both tasks."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids, batch_labels, batch_words = [], [], [], []
        for is_end, (text, label, word) in self.sample(random):
            token_ids, segment_ids = tokenizer.encode(text, maxlen=max_length)
            batch_token_ids.append(token_ids)
            batch_segment_ids.append(segment_ids)
            batch_labels.append([label])
            batch_words.append([word])
            if len(batch_token_ids) == self.batch_size or is_end:
                batch = [sequence_padding(batch_token_ids), sequence_padding(batch_segment_ids)]
                yield batch, [np.array(batch_labels), np.array(batch_words)]
                batch_token_ids, batch_segment_ids, batch_labels, batch_words = [], [], [], []


train_generator = data_generator(train_data, batch_size)
test_generator = data_generator(test_data, 64)

vector = keras.layers.GlobalAveragePooling1D()(encoder.model.output)
outputs = [
    keras.layers.Dense(len(labels), activation="softmax", name="sentiment")(vector),
    keras.layers.Dense(len(keywords) + 1, activation="softmax", name="word")(vector),
]
model = keras.models.Model(encoder.model.inputs, outputs)

optimizer = AdamW(learning_rate)
if method:
    optimizer = MultiTask(optimizer, method=method, main="sentiment")  # <- a gradient for each loss, then one of them
model.compile(loss="sparse_categorical_crossentropy", optimizer=optimizer)


def evaluate(data):
    """Accuracies of the two tasks."""
    right = np.zeros(2)
    for x_true, y_true in data:
        right += [(p.argmax(axis=1) == y[:, 0]).sum() for p, y in zip(model.predict(x_true), y_true)]
    return right / len(test_data)


class Evaluator(keras.callbacks.Callback):
    """Measures after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        print("test accuracy: sentiment %.4f, word %.4f" % tuple(evaluate(test_generator)))


if __name__ == "__main__":
    model.fit(train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[Evaluator()])
