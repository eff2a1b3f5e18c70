#! -*- coding: utf-8 -*-
"""在bert4keras中使用混合精度和XLA加速训练 (kexue.fm/archives/9059): both are switched on before the model is built.

For a GPU with tensor cores. On a CPU only XLA does anything, and little of it.
"""

import time

import numpy as np
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.optimizers import AdamW
from kexue_keras.training.precision import enable_mixed_precision, enable_xla

mixed_precision = True
xla = False  # True: each new shape of a batch is compiled first, which takes a while
max_length = 64
batch_size = 16
epochs = 3
learning_rate = 2e-4
rows = dict(train=400, valid=200, test=1000)
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-sp"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"
# num_hidden_layers, learning_rate = None, 2e-5  # for these two

set_seed(2021)
optimizer = AdamW(learning_rate)
if xla:
    enable_xla("auto")  # <- before anything else
if mixed_precision:
    precision = enable_mixed_precision(loss_scale="dynamic")  # <- before the model is loaded
    optimizer = precision.scale(optimizer)  # <- gradients of the scaled loss; steps that overflow change nothing

train_data, valid_data, test_data = split_reviews(**rows, seed=2021)  # lists of (text, '正面' or '负面')
labels = ["负面", "正面"]

encoder = models.load(model_path, num_hidden_layers=num_hidden_layers, dropout_rate=0.1)
tokenizer = encoder.tokenizer


class data_generator(DataGenerator):
    """Batches of token ids, segment ids and labels, all of one length: XLA compiles each shape anew."""

    def __iter__(self, random=False):
        batch_token_ids, batch_segment_ids, batch_labels = [], [], []
        for is_end, (text, label) in self.sample(random):
            token_ids, segment_ids = tokenizer.encode(text, maxlen=max_length)
            batch_token_ids.append(token_ids)
            batch_segment_ids.append(segment_ids)
            batch_labels.append([labels.index(label)])
            if len(batch_token_ids) == self.batch_size or is_end:
                batch = [sequence_padding(batch_token_ids, max_length), sequence_padding(batch_segment_ids, max_length)]
                yield batch, np.array(batch_labels)
                batch_token_ids, batch_segment_ids, batch_labels = [], [], []


train_generator = data_generator(train_data, batch_size)
valid_generator = data_generator(valid_data, 64)
test_generator = data_generator(test_data, 64)

output = keras.layers.GlobalAveragePooling1D()(encoder.model.output)
output = keras.layers.Dense(len(labels), activation="softmax")(output)
model = keras.models.Model(encoder.model.inputs, output)
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
    start = time.time()
    model.fit(
        train_generator.forfit(),
        steps_per_epoch=len(train_generator),
        epochs=epochs,
        callbacks=[evaluator],
    )
    model.set_weights(evaluator.weights)
    print("test accuracy: %.4f, %.0f seconds" % (evaluate(test_generator), time.time() - start))
