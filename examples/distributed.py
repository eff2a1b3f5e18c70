#! -*- coding: utf-8 -*-
"""Several processes train one model, each with its part of the batch, by Horovod:

    horovodrun -np 2 python examples/distributed.py

Without horovodrun one process does the same. 用时间换取效果：Keras梯度累积优化器 (kexue.fm/archives/6794) is in it, since
processes that accumulate talk to each other once an update.
"""

import os

import numpy as np
import tensorflow as tf
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import distributed, models
from kexue_keras.backend import keras
from kexue_keras.data import split_reviews
from kexue_keras.optimizers import AdamW, Distributed, FlushAccumulation, GradientAccumulation

steps = 2  # batches an update
max_length = 64
batch_size = 16  # of all processes together
epochs = 2
learning_rate = 2e-4
rows = dict(train=400, valid=200, test=1000)
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-sp"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"
# num_hidden_layers, learning_rate = None, 2e-5  # for these two

if "HOROVOD_SIZE" in os.environ:
    distributed.init()  # <- before anything else: one device a process
distributed.set_seed(2021)  # <- the same order of the data everywhere, dropout of its own for each process
train_data, valid_data, test_data = split_reviews(**rows, seed=2021)  # lists of (text, '正面' or '负面')
labels = ["负面", "正面"]

encoder = models.load(model_path, num_hidden_layers=num_hidden_layers, dropout_rate=0.1)
tokenizer = encoder.tokenizer


class data_generator(DataGenerator):
    """Batches of token ids, segment ids and labels."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids, batch_labels = [], [], []
        for is_end, (text, label) in self.sample(random):
            token_ids, segment_ids = tokenizer.encode(text, maxlen=max_length)
            batch_token_ids.append(token_ids)
            batch_segment_ids.append(segment_ids)
            batch_labels.append([labels.index(label)])
            if len(batch_token_ids) == self.batch_size or is_end:
                batch = [sequence_padding(batch_token_ids), sequence_padding(batch_segment_ids)]
                yield batch, np.array(batch_labels)
                batch_token_ids, batch_segment_ids, batch_labels = [], [], []


train_generator = data_generator(train_data, batch_size)
valid_generator = data_generator(valid_data, 64)
test_generator = data_generator(test_data, 64)

output = keras.layers.GlobalAveragePooling1D()(encoder.model.output)
output = keras.layers.Dense(len(labels), activation="softmax")(output)
model = keras.models.Model(encoder.model.inputs, output)


def share():
    """What the rows of this process count: a short last batch may not go up evenly."""
    return distributed.share_of(tf.shape(model.inputs[0])[0])


optimizer = Distributed(AdamW(learning_rate), share=share)  # <- the mean of the gradients of all processes
optimizer = GradientAccumulation(optimizer, steps)
model.compile(loss="sparse_categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])


def evaluate(data):
    """Share of the texts whose label is right."""
    right = total = 0
    for x_true, y_true in data:
        right += (model.predict(x_true).argmax(axis=1) == y_true[:, 0]).sum()
        total += len(y_true)
    return right / total


class Evaluator(keras.callbacks.Callback):
    """Prints the accuracy on the validation texts."""

    def on_epoch_end(self, epoch, logs=None):
        if distributed.is_first():  # <- one process measures, prints and writes files
            print("loss of all processes: %.4f, valid accuracy: %.4f" % (logs["loss"], evaluate(valid_generator)))


if __name__ == "__main__":
    model.fit(
        (distributed.part_of(batch) for batch in train_generator.forfit()),  # <- this process' rows
        steps_per_epoch=len(train_generator),
        epochs=epochs,
        verbose=int(distributed.is_first()),
        callbacks=[
            distributed.BroadcastWeights(),  # <- all begin with the weights of the first
            distributed.AverageMetrics(),  # <- the loss that is shown is that of all
            FlushAccumulation(),
            Evaluator(),
        ],
    )
    if distributed.is_first():
        print("%d processes, test accuracy: %.4f" % (distributed.size(), evaluate(test_generator)))
