#! -*- coding: utf-8 -*-
"""用开源的人工标注数据来增强RoFormer-Sim (kexue.fm/archives/8541): Sentence-BERT's head on [u, v, |u - v|].

The pairs are halves of reviews, of the same one (1) or of two (0). The head starts from noise and gets 20 times the
encoder's learning rate here, or it damages the vectors in a run as short as this one.
"""

import random

from scipy.stats import spearmanr

from kexue_keras.backend import set_seed
from kexue_keras.data import split_reviews
from kexue_keras.finetune import PairSet, train_sentence_bert
from kexue_keras.similarity import SentenceEncoder

max_length = 40
batch_size = 32  # pairs
steps = 100
learning_rate = 5e-5
rows = dict(train=1600, valid=0, test=800)
num_hidden_layers = 6  # the lowest 6 of 12, for time

model_path = "me5-zh-sp"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"
# num_hidden_layers, learning_rate = None, 2e-5  # for these two


def load_data(reviews):
    """List of pairs and list of labels, 1 for halves of the same review."""
    halves = [(text[: len(text) // 2], text[len(text) // 2 :]) for text, _ in reviews]
    data = [((a, b), 1) for a, b in halves[::2]]
    data += [((a, halves[i - 2][1]), 0) for i, (a, _) in enumerate(halves) if i % 2]
    random.shuffle(data)
    return [pair for pair, _ in data], [label for _, label in data]


set_seed(2021)
train_data, _, test_data = [load_data(part) for part in split_reviews(**rows, seed=2021)]
encoder = SentenceEncoder(
    model_path, pooling="mean", max_length=max_length, num_hidden_layers=num_hidden_layers, dropout_rate=0.1
)


def evaluate():
    """Spearman correlation of cosines and labels."""
    pairs, labels = test_data
    return spearmanr(encoder.similarity(*zip(*pairs)), labels)[0]


if __name__ == "__main__":
    print("test Spearman before training: %.4f" % evaluate())
    train_sentence_bert(  # <- the classifier is thrown away afterwards
        encoder,
        [PairSet(*train_data)],  # <- more sets, also with three classes, can be added here
        groups=(2,),
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        head_lr_multiplier=20,
        say=print,
    )
    print("test Spearman: %.4f" % evaluate())
