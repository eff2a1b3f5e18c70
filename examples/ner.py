#! -*- coding: utf-8 -*-
"""GlobalPointer：用统一的方式处理嵌套和非嵌套NER (kexue.fm/archives/8373) and Efficient GlobalPointer (kexue.fm/archives/8877).

With Resume NER (https://github.com/jiesutd/LatticeLSTM, folder ResumeNER) in `data_path`; without it, it makes up
sentences with nested entities. A character is a token here. The command cuts texts into word pieces
and finds the characters again: `kexue-keras finetune --task ner`.
"""

import os
import random

import numpy as np
from bert4keras.layers import EfficientGlobalPointer
from bert4keras.snippets import DataGenerator, sequence_padding

from kexue_keras import models
from kexue_keras.backend import keras, set_seed
from kexue_keras.data import Examples, read_entities
from kexue_keras.losses import MultilabelCrossentropy
from kexue_keras.optimizers import AdamW, LayerwiseLearningRate

max_length = 128
batch_size = 16
epochs = 5
learning_rate = 3e-4
rows = dict(train=400, valid=0, test=100)
num_hidden_layers = 2  # the lowest 2 of 12, for time

data_path = "ResumeNER"  # train.char.bmes and test.char.bmes
model_path = "me5-zh-char"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# num_hidden_layers, learning_rate = None, 2e-5  # for this one


def made_up(count, seed):
    """Who works at the university of which city: the city lies within the university."""
    draw, texts, labels = random.Random(seed), [], []
    for _ in range(count):
        name = draw.choice("王李张刘陈杨赵黄") + draw.choice(["伟", "芳", "秀英", "建国"])
        city = draw.choice(["北京", "上海", "武汉", "四川", "哈尔滨"])
        school, begin = city + draw.choice(["大学", "师范大学", "理工大学"]), draw.choice(["", "现任职：", "据悉，"])
        texts.append("%s%s毕业于%s。" % (begin, name, school))
        at = len(begin) + len(name) + 3
        spans = (len(begin), len(begin) + len(name), "NAME"), (at, at + len(city), "LOC"), (at, at + len(school), "ORG")
        labels.append(tuple(sorted(spans)))
    return Examples(None, texts, labels, list(range(count)))


def load_data(part, count, seed):
    """`Examples`; a label is a tuple of (start, end, label)."""
    path = os.path.join(data_path, part + ".char.bmes")
    if not os.path.exists(path):
        return made_up(count, seed)
    examples = read_entities(path, say=print)  # <- CoNLL files, or JSON lines with spans
    return examples.take(range(min(count, len(examples))))


set_seed(2021)
train_data, test_data = load_data("train", rows["train"], 1), load_data("test", rows["test"], 2)
labels = sorted({span[2] for spans in train_data.labels for span in spans})

encoder = models.load(model_path, num_hidden_layers=num_hidden_layers)
tokenizer = encoder.tokenizer


def encode(text):
    """Token ids, of which 1 + i is character i."""
    return tokenizer.tokens_to_ids(["[CLS]"] + list(text.lower())[: max_length - 2] + ["[SEP]"])


class data_generator(DataGenerator):
    """Batches of token ids and segment ids, and the right (first, last) pairs of each label as numbers."""

    def __iter__(self, random=False):
        batch = []
        for is_end, (text, spans) in self.sample(random):
            batch.append((encode(text), [span for span in spans if span[1] <= max_length - 2]))
            if len(batch) == self.batch_size or is_end:
                token_ids = sequence_padding([ids for ids, _ in batch])
                n = token_ids.shape[1]
                pairs = [
                    [[(start + 1) * n + end for start, end, label in spans if label == one] or [0] for one in labels]
                    for _, spans in batch
                ]
                most = max(len(numbers) for row in pairs for numbers in row)
                targets = [[numbers + [0] * (most - len(numbers)) for numbers in row] for row in pairs]
                yield [token_ids, np.zeros_like(token_ids)], np.array(targets)
                batch = []


train_generator = data_generator(list(zip(train_data.texts, train_data.labels)), batch_size)
scores = EfficientGlobalPointer(len(labels), 64, name="logits")(encoder.model.output)
pairs = keras.layers.Reshape((len(labels), -1))(scores)  # <- a class for each first and last token
model = keras.models.Model(encoder.model.inputs, pairs)
model.compile(
    loss=MultilabelCrossentropy(from_sparse=True, mask_zero=True),  # <- the numbers of the right pairs
    optimizer=LayerwiseLearningRate(AdamW(learning_rate), multipliers={"logits": 10}),  # <- the head is new
)


def recognize(text):
    """Set of (start, end, label)."""
    token_ids = np.array([encode(text)])
    n = token_ids.shape[1]
    found = model.predict([token_ids, np.zeros_like(token_ids)])[0].reshape(-1, n, n)
    found = [(first, last, labels[a]) for a, first, last in zip(*np.where(found > 0))]
    return {(int(first) - 1, int(last), label) for first, last, label in found if first > 0 and last < n - 1}


class Evaluator(keras.callbacks.Callback):
    """F1 of the entities after each epoch."""

    def on_epoch_end(self, epoch, logs=None):
        found = [recognize(text) for text in test_data.texts]
        right = sum(len(spans & set(true)) for spans, true in zip(found, test_data.labels))
        total = sum(map(len, found)) + sum(map(len, test_data.labels))
        print("F1 %.4f" % (2 * right / max(total, 1)))
        for text, spans in list(zip(test_data.texts, found))[:3]:
            print(text, ", ".join("%s (%s)" % (text[s:e], label) for s, e, label in sorted(spans)))


model.fit_generator(
    train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[Evaluator()], verbose=2
)
