#! -*- coding: utf-8 -*-
"""TeaForN：让Teacher Forcing更有“远见”一些 (kexue.fm/archives/7818): orders that read the model's own output.

The task is that of math_word_problems.py: with the files of Ape210K in `data_path`, else with made-up problems.
"""

import os
import random

import numpy as np
from bert4keras.snippets import DataGenerator

from kexue_keras.backend import keras, set_seed
from kexue_keras.finetune import load_seq2seq
from kexue_keras.finetune.math_word_problems import (
    Ape210kReader,
    MathSolver,
    ProblemWriting,
    WordProblem,
    answer_accuracy,
    safe_eval,
)
from kexue_keras.losses import TeaForN
from kexue_keras.models import build_teaforn_model
from kexue_keras.optimizers import AdamW

max_source_length = 128
max_target_length = 64
batch_size = 16
epochs = 3
learning_rate = 5e-4
order = 3  # N
gamma = 0.5  # weights 1, 1/2, 1/4; they are summed, so another N or gamma may need another learning rate
rows = dict(train=600, valid=0, test=100)
num_hidden_layers = 2  # the lowest 2 of 12, for time

data_path = "ape210k"  # train.ape.json and test.ape.json
model_path = "me5-zh-char"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# num_hidden_layers, learning_rate = None, 2e-5  # for this one


def made_up(count, seed):
    """Problems in the words of three sentences, for those who have no Ape210K."""
    draw, problems = random.Random(seed), []
    for number in range(count):
        a, b = draw.randint(2, 12), draw.randint(2, 99)
        question, equation = draw.choice(
            [
                ("学校把%d本书平均分给%d个班，每班多少本？" % (a * b, a), "%d/%d" % (a * b, a)),
                ("每支笔%d元，买%d支要多少元？" % (b, a), "%d*%d" % (b, a)),
                ("树上有%d只鸟，飞走%d只，又来了3只，还有几只？" % (a + b, a), "%d-%d+3" % (a + b, a)),
            ]
        )
        problems.append(WordProblem(str(number), question, equation, safe_eval(equation)))
    return problems


def load_data(part, count, seed):
    """List of `WordProblem`."""
    path = os.path.join(data_path, part + ".ape.json")
    return Ape210kReader(path).problems[:count] if os.path.exists(path) else made_up(count, seed)


set_seed(2021)
train_data, test_data = load_data("train", rows["train"], 1), load_data("test", rows["test"], 2)

seq2seq = load_seq2seq(
    model_path,
    max_source_length=max_source_length,
    max_target_length=max_target_length,
    num_hidden_layers=num_hidden_layers,
)
model = build_teaforn_model(seq2seq.model, order)  # <- N passes through the same layers; decoding takes the first
writing = ProblemWriting("①②③④⑤⑥⑦⑧⑨", pi="圆")
solver = MathSolver(seq2seq, writing)


class data_generator(DataGenerator):
    """Batches of token ids and segment ids, and the next token wherever the equation is written."""

    def __iter__(self, random=False):
        batch = []
        for is_end, problem in self.sample(random):
            batch.append((writing.source(problem.question), writing.target(problem.equation, problem.question)))
            if len(batch) == self.batch_size or is_end:
                inputs, next_ids = seq2seq.batch(seq2seq.encode_pairs(batch))
                yield inputs, next_ids[:, :, None]
                batch = []


train_generator = data_generator(train_data, batch_size)
test_batch = next(iter(data_generator(test_data[:batch_size], batch_size)))
model.compile(loss=TeaForN(order, gamma=gamma), optimizer=AdamW(learning_rate))  # <-


class Evaluator(keras.callbacks.Callback):
    """Losses of the orders on a batch, and right answers."""

    def on_epoch_end(self, epoch, logs=None):
        inputs, next_ids = test_batch
        logits = np.split(model.predict(inputs), order, axis=-1)
        there, labels = next_ids[:, :, 0] > 0, next_ids[:, :, 0]
        for number, one in enumerate(logits, 1):
            rows_of_logits = one[there] - one[there].max(-1, keepdims=True)
            right = rows_of_logits[np.arange(there.sum()), labels[there]]
            print("order %d: loss %.3f" % (number, np.mean(np.log(np.exp(rows_of_logits).sum(-1)) - right)))
        scores = answer_accuracy(solver.equations([p.question for p in test_data]), [p.answer for p in test_data])
        print("%d of %d answers right" % (scores["right"], scores["total"]))


model.fit_generator(
    train_generator.forfit(), steps_per_epoch=len(train_generator), epochs=epochs, callbacks=[Evaluator()], verbose=2
)
