#! -*- coding: utf-8 -*-
"""中文任务还是SOTA吗？我们给SimCSE补充了一些实验 (kexue.fm/archives/8348): vectors from texts without any labels.

对比学习可以使用梯度累积吗？ (kexue.fm/archives/8471): a batch of 256 texts in the memory of 32, gradients exact.
The measure: retrieving the second half of a review among 500, given the first.
"""

import numpy as np
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import losses, models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import split_reviews
from kexue_keras.optimizers import AdamW
from kexue_keras.training.gradient_cache import gradient_cache

max_length = 32
batch_size = 256
chunk_size = 32  # texts in memory at a time
epochs = 1
learning_rate = 5e-5
rows = dict(train=2048, valid=0, test=500)
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-char"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"
# num_hidden_layers, learning_rate = None, 1e-5  # for these two

set_seed(2021)
train_data, _, test_data = split_reviews(**rows, seed=2021)
train_texts = [text for text, _ in train_data]
halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text, _ in test_data]

pretrained = models.load(model_path, num_hidden_layers=num_hidden_layers, dropout_rate=0.1, attention_dropout_rate=0.1)
tokenizer = pretrained.tokenizer


class data_generator(DataGenerator):
    """Batches of token ids and segment ids; the targets are not looked at."""

    def __iter__(self, random=False):
        batch_token_ids = []
        for is_end, text in self.sample(random):
            batch_token_ids.append(tokenizer.encode(text, maxlen=max_length)[0])
            if len(batch_token_ids) == self.batch_size or is_end:
                token_ids = sequence_padding(batch_token_ids)
                yield [token_ids, np.zeros_like(token_ids)], np.zeros((len(token_ids), 1, 1))
                batch_token_ids = []


train_generator = data_generator(train_texts, batch_size)

output = keras.layers.GlobalAveragePooling1D()(pretrained.model.output)
encoder = keras.models.Model(pretrained.model.inputs, output)

model = gradient_cache(encoder, chunk_size=chunk_size, views=2)  # <- every text twice, with other dropout
model.compile(loss=losses.InfoNCE(0.05), optimizer=AdamW(learning_rate))  # <- all others of the batch are negatives


def encode(texts):
    """Vectors of length 1."""
    batches = data_generator(texts, 64)
    vectors = np.concatenate([encoder.predict(x) for x, _ in batches])
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def evaluate():
    """Share of the first halves whose own second half is the nearest of all."""
    first, second = (encode(list(texts)) for texts in zip(*halves))
    return (first.dot(second.T).argmax(axis=1) == np.arange(len(halves))).mean()


class Evaluator(keras.callbacks.Callback):
    """Measures after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        print("retrieved: %.4f" % evaluate())


if __name__ == "__main__":
    print("retrieved before training: %.4f" % evaluate())
    model.fit(train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[Evaluator()])
