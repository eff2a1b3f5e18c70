#! -*- coding: utf-8 -*-
"""鱼与熊掌兼得：融合检索和生成的SimBERT模型 (kexue.fm/archives/7427), SimBERTv2来了！融合检索和生成的RoFormer-Sim模型 (8454).

One model learns to paraphrase a question, and vectors that retrieve its synonyms. A minute on made-up questions;
`path` takes your own groups of synonyms, one group per line, separated by tabs. With the published weights only the
last lines are needed: SimilarQuestions(folder).generate(text).
"""

from kexue_keras.backend import set_seed
from kexue_keras.finetune import SimBERT
from kexue_keras.similarity import SimilarQuestions

max_length = 32
batch_size = 16  # groups
steps = 150
learning_rate = 5e-4
num_hidden_layers = 4  # the lowest 4 of 12, for time

model_path = "me5-zh-char"  # bundled with the package
# model_path = "/root/kg/bert/chinese_L-12_H-768_A-12"  # a folder with bert_config.json, bert_model.ckpt.*, vocab.txt
# model_path = "/root/kg/bert/chinese_roformer-sim-char_L-6_H-384_A-6"
# num_hidden_layers, learning_rate = None, 1e-5  # for these two

path = None  # "/root/synonyms.txt"
patterns = ["怎么去{}？", "{}怎么走？", "去{}要怎么走", "请问到{}的路怎么走？"], ["{}多少钱？", "{}卖多少？", "买{}要花多少钱"]
places = "公园 医院 学校 车站 机场 银行 书店 超市 邮局 博物馆 图书馆 动物园".split()
things = "这本书 苹果 这台电脑 这件衣服 门票 这部手机 牛奶 这双鞋 雨伞 自行车 茶叶 面包".split()


def load_data():
    """List of groups of texts that mean the same."""
    if path:
        with open(path, encoding="utf-8") as f:
            return [line.strip().split("\t") for line in f if line.strip()]
    return [[p.format(word) for p in group] for group, words in zip(patterns, (places, things)) for word in words]


set_seed(2021)
groups = load_data()
train_data, test_data = groups[: -len(groups) // 6], groups[-len(groups) // 6 :]

simbert = SimBERT(
    model_path, max_length=max_length, num_hidden_layers=num_hidden_layers, dropout_rate=0.1
)  # <- a UniLM whose [CLS] is the vector


def evaluate():
    """Share of the first questions whose nearest question is of their own group."""
    firsts, rest = [group[0] for group in test_data], [group[1:] for group in test_data]
    corpus = [text for group in rest for text in group]
    owner = [i for i, group in enumerate(rest) for _ in group]
    hits = simbert.encoder.search(firsts, corpus, k=1)
    return sum(owner[hit[0].place] == i for i, hit in enumerate(hits)) / len(firsts)


if __name__ == "__main__":
    print("retrieved before training: %.4f" % evaluate())
    losses = simbert.train(
        train_data, steps=steps, batch_size=batch_size, learning_rate=learning_rate, noise=0.5, say=print
    )
    print("loss %s, retrieved: %.4f" % (losses[-1], evaluate()))
    questions = SimilarQuestions(simbert.pretrained, max_length=max_length)  # or of a folder
    for found in questions.generate(test_data[0][0], n=20, k=5):
        print("%.4f  %s" % (found.score, found.text))
    print("every token at an entropy of 1 nat (kexue.fm/archives/8829) in place of top-p .95:")
    for found in questions.generate(test_data[0][0], n=20, k=5, top_p=None, entropy=1.0):
        print("%.4f  %s" % (found.score, found.text))
