#! -*- coding: utf-8 -*-
"""指数梯度下降 + 元学习 = 自适应学习率 (kexue.fm/archives/8968): a step size that grows while gradients agree.

The given learning rate is only the start; each weight goes up to ten times faster or slower. `gamma = 0`: plain SGD.
"""

import numpy as np
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.optimizers import ExponentiatedStepSize

gamma = 0.1  # how fast the step size may change
max_length = 64
batch_size = 16
epochs = 3
learning_rate = 1e-2
rows = dict(train=400, valid=200, test=1000)
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-sp"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"
# num_hidden_layers, learning_rate = None, 2e-5  # for these two

set_seed(2021)
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
sgd = keras.optimizers.SGD(learning_rate, momentum=0.9)
optimizer = ExponentiatedStepSize(sgd, gamma=gamma, alignment="cosine")  # <- a gain for every weight
model.compile(loss="sparse_categorical_crossentropy", optimizer=optimizer, metrics=["accuracy"])


def evaluate(data):
    """Share of the texts whose label is right."""
    right = total = 0
    for x_true, y_true in data:
        right += (model.predict(x_true).argmax(axis=1) == y_true[:, 0]).sum()
        total += len(y_true)
    return right / total


class Evaluator(keras.callbacks.Callback):
    """Keeps the weights of the epoch with the best accuracy on the validation texts."""

    def __init__(self):
        super(Evaluator, self).__init__()
        self.best, self.weights = -1.0, None

    def on_epoch_end(self, epoch, logs=None):
        accuracy = evaluate(valid_generator)
        if accuracy > self.best:
            self.best, self.weights = accuracy, model.get_weights()
        print("valid accuracy: %.4f, best: %.4f" % (accuracy, self.best))


if __name__ == "__main__":
    evaluator = Evaluator()
    model.fit(
        train_generator.forfit(),
        steps_per_epoch=len(train_generator),
        epochs=epochs,
        callbacks=[evaluator],
    )
    model.set_weights(evaluator.weights)
    print("test accuracy: %.4f" % evaluate(test_generator))
