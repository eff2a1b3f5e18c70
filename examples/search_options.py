#! -*- coding: utf-8 -*-
"""Which learning rate and techniques: a search with Optuna on the validation part, then one test of the result.

Articles: 对抗训练浅谈 (kexue.fm/archives/7234), 用时间换取效果：Keras梯度累积优化器 (kexue.fm/archives/6794), ...
Needs: pip install "kexue-keras[search]". The same on the command line: kexue-keras search (docs/finetune/search.md).
"""

import json

from kexue_keras.data import split_reviews
from kexue_keras.finetune import finetune
from kexue_keras.search import search_options  # <-

model_name = "me5-zh-char"
num_hidden_layers = 3
max_length = 48
batch_size = 32
epochs = 2
trials = 8
rows = dict(train=300, valid=200, test=500)

for name, part in zip(("train", "valid", "test"), split_reviews(**rows)):
    with open(name + ".tsv", "w", encoding="utf-8") as handle:
        handle.writelines("%s\t%s\n" % (" ".join(text.split()), label) for text, label in part)

common = dict(epochs=epochs, batch_size=batch_size, max_length=max_length, num_hidden_layers=num_hidden_layers)
found = search_options(  # <- study.db, trials.tsv and config.json; resume=True continues
    model_name,
    "train.tsv",
    "search",
    valid="valid.tsv",
    trials=trials,
    vary=["learning-rate=2e-5..5e-4:log", "fgm=0,0.5", "ema=0,0.99"],
    **common,
)
with open("search/config.json", encoding="utf-8") as handle:
    options = json.load(handle)["options"]
# The best of many scores is biased upwards; none of the trials has seen the test part.
metrics = finetune(**dict(options, test="test.tsv", out="run", quiet=True))
print("validation %.4f, best of %d trials" % (found["best"]["score"], len(found["trials"])))
print(
    "test %.4f (95%% interval %.4f to %.4f)"
    % ((metrics["test"]["accuracy"],) + tuple(metrics["test"]["accuracy_interval"]))
)
