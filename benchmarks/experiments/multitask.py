"""Sentiment and topic on one encoder: the sum of the losses against the four ways to combine their gradients.

    python experiments/multitask.py --sentiment chnsenticorp --topic fewclue/tnews    (folders with train.tsv, ...)
    python experiments/multitask.py --quick                                           (made-up sentences, a minute)

多任务学习漫谈（二）：行梯度之事 (kexue.fm/archives/8896), （三）：分主次之序 (kexue.fm/archives/8907). Every batch holds as
many texts of either task; a text counts for its own task alone, by its sample weight.
"""

import argparse
import os
import random
import time

import numpy as np

from kexue_keras import models
from kexue_keras.backend import K, keras, quiet, set_seed
from kexue_keras.data import choose_columns, encode, read_examples, read_table
from kexue_keras.data._batches import pad
from kexue_keras.layers import SequencePooling
from kexue_keras.optimizers import AdamW, MultiTask

METHODS = ("sum", "normalize", "mgda", "pcgrad", "main_auxiliary")
TASKS = ("sentiment", "topic")


def arguments(argv):
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sentiment", help="folder with train.tsv and dev.tsv, e.g. ChnSentiCorp")
    parser.add_argument("--topic", help="folder with train_few_all.json and dev_few_all.json, e.g. FewCLUE's tnews")
    parser.add_argument("--rows", type=int, default=1000, help="training texts a task (default 1000)")
    parser.add_argument("--test-rows", type=int, default=1000, help="test texts a task (default 1000)")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32, help="texts a batch, half of either task")
    parser.add_argument("--max-length", type=int, default=64, help="tokens a text")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--num-hidden-layers", type=int, default=12, help="blocks of the encoder that are used")
    parser.add_argument("--train-layers", type=int, default=3, help="topmost blocks that are trained")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--quick", action="store_true", help="made-up sentences, two methods, one seed, one epoch")
    options = parser.parse_args(argv)
    if options.quick:
        options.rows, options.test_rows, options.epochs, options.max_length = 32, 16, 1, 16
        options.num_hidden_layers, options.train_layers, options.seeds, options.learning_rate = 1, 1, 1, 1e-3
        options.methods = ["sum", "mgda"]
    elif not (options.sentiment and options.topic):
        parser.error("give both --sentiment FOLDER and --topic FOLDER, or --quick")
    return options


def made_up(rows, seed):
    """(texts, labels) of each task, from a handful of patterns."""
    choose = random.Random(seed).choice
    things = ["这家酒店", "这本书", "这台电脑", "这部电影", "这顿饭"]
    topics = [("球队", "比赛", "冠军"), ("股票", "基金", "银行"), ("手机", "芯片", "软件"), ("高考", "大学", "老师")]
    feelings = [("太差了", "很失望", "不推荐"), ("非常好", "很喜欢", "值得推荐")]
    labels = [i % 2 for i in range(rows)], [i % 4 for i in range(rows)]
    return [
        ([choose(things) + "，" + choose(feelings[label]) for label in labels[0]], labels[0]),
        (["关于" + choose(topics[label]) + "和" + choose(topics[label]) + "的消息" for label in labels[1]], labels[1]),
    ]


def read(path, rows):
    """Texts and labels of `rows` lines of a file."""
    table = read_table(path)
    examples = read_examples(table, choose_columns(table))
    chosen = random.Random(0).sample(range(len(examples)), min(rows, len(examples)))
    return [examples.texts[i] for i in chosen], [examples.labels[i] for i in chosen]


def corpora(options):
    """Train and test: for either task texts and labels as numbers; and the numbers of classes."""
    if options.quick:
        return made_up(options.rows, 0), made_up(options.test_rows, 1), [2, 4]
    files = [
        [os.path.join(options.sentiment, name) for name in ("train.tsv", "dev.tsv")],
        [os.path.join(options.topic, name) for name in ("train_few_all.json", "dev_few_all.json")],
    ]
    train = [read(pair[0], options.rows) for pair in files]
    test = [read(pair[1], options.test_rows) for pair in files]
    classes = [sorted(set(labels)) for _, labels in train]
    number = [
        [(texts, [names.index(label) for label in labels]) for (texts, labels), names in zip(part, classes)]
        for part in (train, test)
    ]
    return number[0], number[1], [len(names) for names in classes]


def build(options, classes):
    """One encoder, its lower blocks frozen, with a softmax for either task; and the tokenizer."""
    pretrained = models.load("me5-zh-char", num_hidden_layers=options.num_hidden_layers)
    encoder = pretrained.model
    trained = tuple(
        "Transformer-%d-" % i
        for i in range(options.num_hidden_layers - options.train_layers, options.num_hidden_layers)
    )
    for layer in encoder.layers:
        layer.trainable = layer.name.startswith(trained)
    vector = SequencePooling("mean", name="pooling")(encoder.output)
    heads = [keras.layers.Dense(n, activation="softmax", name=t)(vector) for n, t in zip(classes, TASKS)]
    return keras.models.Model(encoder.inputs, heads), pretrained.tokenizer


def batches(encoded, targets, options, seed):
    """Endless batches ([tokens, segments], labels, sample weights): the first half sentiment, the second topic."""
    rng, half = np.random.RandomState(seed), options.batch_size // 2
    queues = [[], []]
    weights = [np.repeat([1.0, 0.0], half), np.repeat([0.0, 1.0], half)]
    while True:
        for queue, texts in zip(queues, encoded):
            if len(queue) < half:
                queue.extend(rng.permutation(len(texts)))
        chosen = [[queue.pop(0) for _ in range(half)] for queue in queues]
        rows = [encoded[t][i] for t in (0, 1) for i in chosen[t]]
        nothing = np.zeros(half, "int32")
        labels = [np.concatenate([targets[0][chosen[0]], nothing]), np.concatenate([nothing, targets[1][chosen[1]]])]
        yield pad(rows, max(len(row[0]) for row in rows)), labels, weights


def run(options, train, test, classes, method, seed):
    """Train once; accuracy of both tasks and seconds of training."""
    K.clear_session()
    set_seed(seed)
    model, tokenizer = build(options, classes)
    optimizer = AdamW(options.learning_rate)
    if method != "sum":
        optimizer = MultiTask(optimizer, method=method, main="topic", seed=seed)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    encoded = [encode(tokenizer, texts, options.max_length)[0] for texts, _ in train]
    stream = batches(encoded, [np.array(labels) for _, labels in train], options, seed)
    steps = options.epochs * 2 * max(map(len, encoded)) // options.batch_size
    began = time.time()
    for _ in range(steps):
        x, labels, weights = next(stream)
        model.train_on_batch(list(x), labels, sample_weight=weights)
    seconds = time.time() - began
    scores = {}
    for t, (texts, labels) in enumerate(test):
        x = pad(encode(tokenizer, texts, options.max_length)[0], options.max_length)
        predicted = model.predict(list(x), batch_size=64)[t].argmax(axis=1)
        scores[TASKS[t]] = float((predicted == np.array(labels)).mean())
    return dict(scores, method=method, seed=seed, steps=steps, seconds=round(seconds, 1))


def main(argv=None):
    """Run the comparison; returns its rows."""
    options = arguments(argv)
    quiet()
    train, test, classes = corpora(options)
    rows = []
    for method in options.methods:
        for seed in range(options.seeds):
            row = run(options, train, test, classes, method, seed)
            rows.append(row)
            print(
                "%(method)s, seed %(seed)d: sentiment %(sentiment).4f, topic %(topic).4f, %(seconds).0f s" % row,
                flush=True,
            )
    print("\n| method | sentiment | topic | both |\n|---|---|---|---|")
    for method in options.methods:
        own = np.array([[row[t] for t in TASKS] for row in rows if row["method"] == method])
        own = np.concatenate([own, own.mean(axis=1, keepdims=True)], axis=1) * 100
        print(
            "| %s | %s |"
            % (method, " | ".join("%.2f ± %.2f" % (c.mean(), c.std(ddof=min(1, len(c) - 1))) for c in own.T))
        )
    return rows


if __name__ == "__main__":
    main()
